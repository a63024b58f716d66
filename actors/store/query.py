"""One read-only statement on a connection that nobody else uses: first the guard, then the rows, a batch at a time.

What a statement may do is decided in `guard`, before it runs. Behind that stands DuckDB: the file is open to be read
only, external access and extension loading are off. What a statement may take, and for how long, is not decided here:
a statement of somebody else runs in a process of its own (`queries`), which can be killed.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain

import duckdb
import pyarrow as pa

from rabbitray.actors.errors import QueryError
from rabbitray.actors.store.config import ANSWER_BYTES, MIB, QueryLimits
from rabbitray.actors.store.file import first_line
from rabbitray.actors.store.guard.catalog import Catalog, read_catalog
from rabbitray.actors.store.guard.statement import allowed_text
from rabbitray.actors.store.schema import version_note

TRUNCATED = b"rabbitray.truncated"

FETCH_ROWS = 100
"""At once from DuckDB, which makes one array of each column: 100 results of 16 MiB are less than that can hold."""

TABLE_ROWS = 2_048
"""In a batch of an answer that is wanted as a table."""

_BATCH_BYTES = 64 * MIB
_LIMITS = QueryLimits()


class TooMuchMemoryError(QueryError):
    """The query needs more memory than it may take."""

    def __init__(self, limits: QueryLimits) -> None:
        super().__init__(
            f"the query needs more memory than a query may take ({limits.duckdb // MIB:,} MiB for tables, sorts and "
            f"joins, {limits.growth // MIB:,} MiB in all): ask for less at once"
        )


class Reading:
    """Statements on one connection, one after another. `limits`: what the connection and its process may take."""

    def __init__(self, con: duckdb.DuckDBPyConnection, limits: QueryLimits = _LIMITS) -> None:
        self._con = con
        self._limits = limits
        self._catalog: Catalog | None = None

    @property
    def catalog(self) -> Catalog:
        """Read when it is first asked for: nothing changes it while the file is open."""
        if self._catalog is None:
            self._catalog = read_catalog(self._con)
        return self._catalog

    def batches(self, sql: str, batch_rows: int) -> Generator[pa.RecordBatch]:
        """The rows, a record batch at a time, at least one (so that the columns are known). Raises QueryError."""
        try:
            with self._with_version():
                yield from self._read(sql, batch_rows)
        except (duckdb.OutOfMemoryException, MemoryError) as error:
            raise TooMuchMemoryError(self._limits) from error
        except (duckdb.Error, pa.ArrowException, OSError) as error:  # OSError: in the midst of its rows
            raise QueryError(first_line(error)) from error

    def table(self, sql: str, max_rows: int, max_bytes: int = ANSWER_BYTES) -> pa.Table:
        """All rows up to `max_rows` and `max_bytes`; the metadata says whether there were more. Raises QueryError."""
        return as_table(up_to(self.batches(sql, min(TABLE_ROWS, max_rows + 1)), max_rows, max_bytes))

    def _read(self, sql: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
        relation = self._con.sql(allowed_text(self._con, sql, lambda: self.catalog))
        reader = relation.to_arrow_reader(min(batch_rows, FETCH_ROWS))
        try:
            for batch in chain([_empty(reader.schema)], gathered(reader, batch_rows)):
                yield from pieces(batch)
        finally:
            reader.close()

    @contextmanager
    def _with_version(self) -> Iterator[None]:
        """A table or column that is missing in a file of another schema version: the QueryError says so."""
        try:
            yield
        except (duckdb.BinderException, duckdb.CatalogException) as error:
            note = version_note(self._con)
            if not note:
                raise
            raise QueryError(f"{first_line(error)} ({note})") from error


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


def pieces(batch: pa.RecordBatch, most_bytes: int = _BATCH_BYTES) -> Iterator[pa.RecordBatch]:
    """Its rows in batches of at most so many bytes, or of one row."""
    if batch.num_rows <= 1 or batch.nbytes <= most_bytes:
        yield batch
        return
    middle = batch.num_rows // 2
    yield from pieces(batch.slice(0, middle), most_bytes)
    yield from pieces(batch.slice(middle), most_bytes)


def up_to(
    batches: Iterable[pa.RecordBatch], max_rows: int | None, max_bytes: int | None
) -> Generator[pa.RecordBatch, None, bool]:
    """The first so many rows and bytes, at least one row; None: all. Returns whether there were more."""
    rows = size = 0
    for batch in batches:
        left = batch.num_rows if max_rows is None else min(batch.num_rows, max_rows - rows)
        if max_bytes is not None and size + batch.nbytes > max_bytes:
            left = min(left, max(0 if size else 1, int(batch.num_rows * (max_bytes - size) / batch.nbytes)))
        yield batch.slice(0, left)
        if left < batch.num_rows:
            return True
        rows += batch.num_rows
        size += batch.nbytes
    return False


def as_table(batches: Generator[pa.RecordBatch, None, bool]) -> pa.Table:
    """The batches as one table, marked with whether there were more."""
    held: list[pa.RecordBatch] = []
    while True:
        try:
            held.append(next(batches))
        except StopIteration as ended:
            table = pa.Table.from_batches(held)
            mark = {TRUNCATED: b"true" if ended.value else b"false"}
            return table.replace_schema_metadata({**(table.schema.metadata or {}), **mark})


def truncated(table: pa.Table) -> bool:
    """Whether a query's answer was cut off at its row cap."""
    return bool((table.schema.metadata or {}).get(TRUNCATED) == b"true")
