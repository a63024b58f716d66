"""Reading while the pool runs: one read-only statement at a time, on a cursor and a thread of its own.

What a statement may do is decided in `guard`, before it runs. Behind that stands DuckDB: each query runs in a READ ONLY
transaction, external access and extension loading are off. While one runs, `memory_limit` bounds the process.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from itertools import chain

import duckdb
import pyarrow as pa

from rabbitray.actors.errors import QueryError
from rabbitray.actors.store.config import ANSWER_BYTES, QueryMemory
from rabbitray.actors.store.file import first_line
from rabbitray.actors.store.guard.statement import allowed_text
from rabbitray.actors.store.memory_limit import MIB, OWN_PROCESS
from rabbitray.actors.store.readers import ENDED, Readers

TRUNCATED = b"rabbitray.truncated"

FETCH_ROWS = 100
"""At once from DuckDB, which makes one array of each column: 100 results of 16 MiB are less than that can hold."""

_BATCH_ROWS = 2_048
_BATCH_BYTES = 64 * 1024 * 1024


class Reading:
    """One query that another thread may end with `interrupt`."""

    def __init__(self, readers: Readers, sql: str) -> None:
        self._readers = readers
        self._sql = sql
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._ended = threading.Event()
        self._too_large = False

    def interrupt(self) -> None:
        """End the query soon, also one that has not begun; its thread gets a QueryError."""
        self._ended.set()
        self._interrupt()

    def _starve(self) -> None:
        self._too_large = True
        self._interrupt()

    def _interrupt(self) -> None:
        cursor = self._cursor
        if cursor is not None:
            self._readers.interrupt(cursor)

    def table(self, max_rows: int, max_bytes: int = ANSWER_BYTES) -> pa.Table:
        """All rows up to `max_rows` and `max_bytes`; the metadata says whether there were more. Raises QueryError."""
        batches: list[pa.RecordBatch] = []
        found = size = 0
        with closing(self.batches(min(_BATCH_ROWS, max_rows + 1))) as rows:
            for batch in rows:
                if size + batch.nbytes > max_bytes:
                    share = max(1, int(batch.num_rows * (max_bytes - size) / batch.nbytes))
                    batches.append(batch.slice(0, share))
                    return capped(batches, min(max_rows, found + share), cut=True)
                batches.append(batch)
                found += batch.num_rows
                size += batch.nbytes
                if found > max_rows:
                    break
        return capped(batches, max_rows)

    def batches(self, batch_rows: int) -> Generator[pa.RecordBatch]:
        """The rows, a record batch at a time, at least one (so that the columns are known). Raises
        QueryError.
        """
        memory = self._readers.memory
        try:
            limit = OWN_PROCESS.holding(memory.growth, memory.answer, self._starve)
            with limit, self._readers.cursor() as cursor:
                self._cursor = cursor
                yield from self._read(cursor, batch_rows)
        except (duckdb.Error, pa.ArrowException, OSError, MemoryError) as error:  # OSError: in the midst of its rows
            if self._too_large or isinstance(error, duckdb.OutOfMemoryException | MemoryError):
                raise QueryError(_too_much(memory)) from error
            raise QueryError(_one_line(error, self._ended.is_set())) from error
        finally:
            self._cursor = None

    def _checked(self, cursor: duckdb.DuckDBPyConnection) -> str:
        return allowed_text(cursor, self._sql, lambda: self._readers.catalog(cursor), self._readers.parse)

    def _read(self, cursor: duckdb.DuckDBPyConnection, batch_rows: int) -> Iterator[pa.RecordBatch]:
        relation = cursor.sql(self._checked(cursor))
        reader = relation.to_arrow_reader(min(batch_rows, FETCH_ROWS))
        try:
            for batch in chain([_empty(reader.schema)], gathered(reader, batch_rows)):
                if self._ended.is_set():
                    raise QueryError(ENDED)
                self._readers.rest(cursor, reader)
                yield batch
                self._readers.resume(cursor)
        finally:
            reader.close()


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    """No rows of any types: `from_pylist` knows no unions."""
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)


def gathered(fetched: Iterable[pa.RecordBatch], rows: int, most_bytes: int = _BATCH_BYTES) -> Iterator[pa.RecordBatch]:
    """Small batches joined to larger ones of at most `rows`, or of some more bytes than `most_bytes`."""
    held: list[pa.RecordBatch] = []
    count = size = 0
    for batch in fetched:
        if held and (count + batch.num_rows > rows or size >= most_bytes):
            yield pa.concat_batches(held)
            held, count, size = [], 0, 0
        held.append(batch)
        count += batch.num_rows
        size += batch.get_total_buffer_size()
    if held:
        yield pa.concat_batches(held)


def capped(batches: list[pa.RecordBatch], max_rows: int, *, cut: bool = False) -> pa.Table:
    """The batches as one table of at most `max_rows`, marked with whether rows were cut off, here or before."""
    table = pa.Table.from_batches(batches)
    mark = {TRUNCATED: b"true" if cut or table.num_rows > max_rows else b"false"}
    return table.slice(0, max_rows).replace_schema_metadata({**(table.schema.metadata or {}), **mark})


def truncated(table: pa.Table) -> bool:
    """Whether a query's answer was cut off at its row cap."""
    return bool((table.schema.metadata or {}).get(TRUNCATED) == b"true")


def _too_much(memory: QueryMemory) -> str:
    return (
        f"the query needs more memory than queries may take ({memory.duckdb // MIB:,} MiB for tables, sorts and joins, "
        f"{memory.growth // MIB:,} MiB in all): ask for less at once"
    )


def _one_line(error: Exception, ended: bool) -> str:
    if ended or isinstance(error, duckdb.InterruptException):
        return ENDED
    return first_line(error)
