"""The results as a command reads them: through the store of a running pool, else from the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from rabbitray.actors.errors import QueryError, RabbitrayError, StoreOpenError
from rabbitray.actors.store.file import StoreLockedError
from rabbitray.actors.store.queries.file import FileQueries
from rabbitray.actors.store.query import truncated
from rabbitray.actors.store.read_only import ReadOnlyFile
from rabbitray.cluster.operate.local_usage import raylet_here
from rabbitray.cluster.settings import Loaded

if TYPE_CHECKING:
    from rabbitray.cluster.operate.running_pool import RunningPool

BATCH_ROWS = 50_000


class Reader(Protocol):
    """One way to the results. `where`: which, in words."""

    @property
    def where(self) -> str: ...

    def query(self, sql: str, *, max_rows: int = 10_000, timeout_s: float = 10.0) -> pa.Table:
        """At most `max_rows` rows of one read-only statement of ours; raises QueryError."""
        ...

    def ask(self, sql: str, *, max_rows: int, timeout_s: float) -> pa.Table:
        """The same of a statement that somebody else wrote."""
        ...

    def stream(self, sql: str) -> Iterator[pa.RecordBatch]:
        """All rows of one read-only statement of ours, a batch at a time, from one snapshot; the first is empty."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReader:
    """The file itself, which nobody writes. A stranger's statement alone is worth a process that can be killed."""

    path: Path
    file: ReadOnlyFile

    @property
    def where(self) -> str:
        """The file's name."""
        return f"file {self.path}"

    def query(self, sql: str, *, max_rows: int = 10_000, timeout_s: float = 10.0) -> pa.Table:
        """See `Reader`."""
        return self.file.table(sql, max_rows=max_rows, timeout_s=timeout_s)

    def ask(self, sql: str, *, max_rows: int, timeout_s: float) -> pa.Table:
        """See `Reader`."""
        with closing(FileQueries(self.path)) as queries:
            return queries.table(sql, max_rows=max_rows, timeout_s=timeout_s)

    def stream(self, sql: str) -> Iterator[pa.RecordBatch]:
        """See `Reader`."""
        return self.file.stream(sql, BATCH_ROWS)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReader:
    """The store actor of a running pool, which holds the file."""

    pool: RunningPool

    @property
    def where(self) -> str:
        """The pool's name."""
        return f"running pool {self.pool.name!r}"

    def query(self, sql: str, *, max_rows: int = 10_000, timeout_s: float = 10.0) -> pa.Table:
        """See `Reader`."""
        table: pa.Table = self.pool.ask("store", "query", sql, max_rows, timeout_s, within_s=timeout_s + 15.0)
        return table

    def ask(self, sql: str, *, max_rows: int, timeout_s: float) -> pa.Table:
        """See `Reader`."""
        return self.query(sql, max_rows=max_rows, timeout_s=timeout_s)

    def stream(self, sql: str) -> Iterator[pa.RecordBatch]:
        """See `Reader`."""
        return self.pool.stream("store", "stream", sql, BATCH_ROWS)


def schema_version(reader: Reader) -> int:
    """Of the file: one that no pool of this version has opened may be older, and lack tables and columns."""
    [store] = reader.query("SELECT schema_version FROM store").to_pylist()
    version: int = store["schema_version"]
    return version


def literal(text: str) -> str:
    """A text as an SQL literal, for a statement that is read-only and single in any case."""
    return "'" + text.replace("'", "''") + "'"


def whole(table: pa.Table) -> pa.Table:
    """The answer itself; raises QueryError for one that was cut, which would be taken for all that there is."""
    if truncated(table):
        raise QueryError(f"there is more than the {table.num_rows:,} rows that are read at once: ask for less")
    return table


@contextmanager
def results(loaded: Loaded) -> Iterator[Reader]:
    """The running pool, where one of that name is found; else the file. A file named on the command line comes first.

    Raises StoreOpenError where neither is there, naming both.
    """
    with ExitStack() as stack:
        nothing = None
        if not loaded.is_asked("results"):
            pool, nothing = _running(loaded, stack)
            if pool is not None:
                yield PoolReader(pool=pool)
                return
        yield stack.enter_context(_of_the_file(loaded, nothing))


@contextmanager
def _of_the_file(loaded: Loaded, nothing: RabbitrayError | None) -> Iterator[Reader]:
    """The file, unless it is missing or a pool holds it: then that pool. `nothing`: why no pool was found before."""
    path = loaded.settings.results
    try:
        file = ReadOnlyFile(path)
    except StoreOpenError as refused:
        if path.exists() and not isinstance(refused, StoreLockedError):
            raise
        with ExitStack() as stack:
            if nothing is None:
                pool, nothing = _running(loaded, stack, anyway=True)
                if pool is not None:
                    yield PoolReader(pool=pool)
                    return
            raise StoreOpenError(f"{refused}; and {nothing}") from nothing
    else:
        with closing(file):
            yield FileReader(path=path, file=file)


def _running(
    loaded: Loaded, stack: ExitStack, *, anyway: bool = False
) -> tuple[RunningPool | None, RabbitrayError | None]:
    """The pool, until the stack is closed, or why there is none; neither where no Ray is here that could be asked, and
    it need not be said (`anyway`). Ray takes a second to import: only where it is needed.
    """
    if not anyway and loaded.settings.ray_address is None and not raylet_here():
        return None, None
    from rabbitray.cluster.operate.running_pool import running

    try:
        return stack.enter_context(running(loaded.settings)), None
    except RabbitrayError as nothing:
        return None, nothing
