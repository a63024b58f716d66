"""Reading while the pool runs: one read-only statement at a time, on a cursor and a thread of its own.

What a statement may do is decided in `guard`, before it runs. Behind that stands DuckDB: each query runs in a READ ONLY
transaction, external access and extension loading are off. While one runs, `memory_limit` bounds the process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path

import duckdb
import pyarrow as pa

from rabbitray.actors.errors import QueryError, StoreUnavailableError
from rabbitray.actors.store.config import ANSWER_BYTES, QueryMemory
from rabbitray.actors.store.file import connect_read_only
from rabbitray.actors.store.guard.catalog import Catalog, read_catalog
from rabbitray.actors.store.guard.parsing import parse
from rabbitray.actors.store.guard.statement import Parse, allowed_text
from rabbitray.actors.store.memory_limit import MIB, OWN_PROCESS
from rabbitray.actors.store.schema import version_note, version_of

log = logging.getLogger(__name__)

TRUNCATED = b"rabbitray.truncated"

FETCH_ROWS = 100
"""At once from DuckDB, which makes one array of each column: 100 results of 16 MiB are less than that can hold."""

_BATCH_ROWS = 2_048
_BATCH_BYTES = 64 * 1024 * 1024
_INTERRUPT_EVERY_S = 0.02
_ENDED = "the query was ended: it ran out of its time, or the store closed"


class Readers:
    """The cursors that read, beside the one connection that writes. Thread-safe.

    A failed instance lives on until each of its cursors and Arrow readers is closed, and opening the file again waits
    for that without end: `detach` ends them all, and `ended` says whether it could. `parse`: how statements are parsed;
    `memory`: what they may take.
    """

    def __init__(self, parse: Parse = parse, memory: QueryMemory = QueryMemory()) -> None:  # noqa: B008 # a value
        self.parse = parse
        self.memory = memory
        self._lock = threading.Condition()
        self._root: duckdb.DuckDBPyConnection | None = None
        self._open: set[duckdb.DuckDBPyConnection] = set()
        self._resting: dict[duckdb.DuckDBPyConnection, pa.RecordBatchReader] = {}
        self._catalog: Catalog | None = None

    def attach(self, con: duckdb.DuckDBPyConnection) -> None:
        """Take cursors from this connection's database from now on."""
        with self._lock:
            self._root = con.cursor()
            self._catalog = None

    def detach(self, *, within_s: float = 5.0) -> None:
        """Interrupt what runs, wait for it to let go, close; a reader that does not end in time is left to
        itself.
        """
        deadline = time.monotonic() + within_s
        with self._lock:
            root, self._root = self._root, None
            while not self._open <= self._resting.keys() and time.monotonic() < deadline:
                for cursor in self._open:
                    cursor.interrupt()  # again and again: one that comes before the statement starts is lost
                self._lock.wait(_INTERRUPT_EVERY_S)
            for cursor, reader in self._resting.items():
                _let_go(reader, cursor)
            self._open -= self._resting.keys()
            self._resting.clear()
            if root is not None:
                _let_go(root)

    def ended(self) -> bool:
        """Whether no reader of a detached instance is left."""
        with self._lock:
            return self._root is not None or not self._open

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor of its own inside a READ ONLY transaction; raises StoreUnavailableError while the store
        is closed.
        """
        cursor = self._take()
        try:
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            yield cursor
        finally:
            with self._lock:
                self._open.discard(cursor)
                self._resting.pop(cursor, None)
                self._lock.notify_all()
                _let_go(cursor)

    def rest(self, cursor: duckdb.DuckDBPyConnection, reader: pa.RecordBatchReader) -> None:
        """The cursor does nothing while its caller looks at a batch: `detach` may close it."""
        with self._lock:
            self._resting[cursor] = reader
            self._lock.notify_all()

    def resume(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """The cursor is about to work again; raises QueryError when it was closed meanwhile."""
        with self._lock:
            self._resting.pop(cursor, None)
            if cursor not in self._open:
                raise QueryError(_ENDED)

    def interrupt(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """End what the cursor does, soon; nothing where it was closed. Under the lock: DuckDB refuses to close a
        connection while another thread interrupts it.
        """
        with self._lock:
            if cursor in self._open:
                cursor.interrupt()

    def catalog(self, cursor: duckdb.DuckDBPyConnection) -> Catalog:
        """What the file holds beside rows: read at the first query, since nothing changes it while the file is open."""
        catalog = self._catalog
        if catalog is None:
            catalog = self._catalog = read_catalog(cursor)
        return catalog

    def _take(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._root is None:
                raise StoreUnavailableError("the results file is closed: try again when the store is open")
            cursor = self._root.cursor()
            self._open.add(cursor)
            return cursor


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
                    raise QueryError(_ENDED)
                self._readers.rest(cursor, reader)
                yield batch
                self._readers.resume(cursor)
        finally:
            reader.close()


def _let_go(*open_ones: duckdb.DuckDBPyConnection | pa.RecordBatchReader) -> None:
    """Closes each. One of an instance that failed may refuse that: it ends with the last reference to it."""
    for one in open_ones:
        try:
            one.close()
        except (duckdb.Error, pa.ArrowException, OSError, MemoryError) as error:
            log.warning("a cursor of the results file is let go of without its close: %s", _first_line(error))


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


def read_only_query(path: Path, sql: str, *, max_rows: int = 10_000, timeout_s: float = 10.0) -> pa.Table:
    """Ask a results file that nothing writes. Blocking; for a process that does not have the file open
    otherwise.

    Raises StoreOpenError (locked: with the holder's pid), QueryError.
    """
    con = connect_read_only(path)
    readers = Readers()
    try:
        readers.attach(con)
        reading = Reading(readers, sql)
        timer = threading.Timer(timeout_s, reading.interrupt)
        timer.start()
        try:
            with _with_version(con):
                return reading.table(max_rows)
        finally:
            timer.cancel()
            timer.join()
    finally:
        readers.detach()
        con.close()


def read_only_stream(path: Path, sql: str, *, batch_rows: int = 50_000) -> Iterator[pa.RecordBatch]:
    """All rows of one statement on a results file that nothing writes; the first batch is empty.

    Blocking; the file is open as long as the iterator lives. Raises like `read_only_query`.
    """
    con = connect_read_only(path)
    readers = Readers()
    try:
        readers.attach(con)
        with _with_version(con):
            yield from Reading(readers, sql).batches(batch_rows)
    finally:
        readers.detach()
        con.close()


def results_version(path: Path) -> int | None:
    """The schema version of a results file that nothing writes; None for a file of another program.

    Raises like `read_only_query`.
    """
    con = connect_read_only(path)
    try:
        return version_of(con)
    finally:
        con.close()


@contextmanager
def _with_version(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """A table or column that is missing in a file of another schema version: the QueryError says so."""
    try:
        yield
    except QueryError as error:
        missing = isinstance(error.__cause__, duckdb.BinderException | duckdb.CatalogException)
        note = version_note(con) if missing else ""
        if not note:
            raise
        raise QueryError(f"{error} ({note})") from error


def _too_much(memory: QueryMemory) -> str:
    return (
        f"the query needs more memory than queries may take ({memory.duckdb // MIB:,} MiB for tables, sorts and joins, "
        f"{memory.growth // MIB:,} MiB in all): ask for less at once"
    )


def _one_line(error: Exception, ended: bool) -> str:
    if ended or isinstance(error, duckdb.InterruptException):
        return _ENDED
    return _first_line(error)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
