"""Our own statements on a results file that nothing writes, in a process that does not have it open otherwise.

A statement of somebody else goes to `queries.file`: it may take this process with it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from rabbitray.actors.errors import QueryError
from rabbitray.actors.store.file import connect_read_only
from rabbitray.actors.store.query import Reading
from rabbitray.actors.store.schema import version_of

_AGAIN_S: Final = 0.05


class ReadOnlyFile:
    """A results file that nothing writes, open; for a process that does not have it open otherwise. `close` it.

    Blocking. Raises StoreOpenError (locked: with the holder's pid), QueryError.
    """

    def __init__(self, path: Path) -> None:
        self._con = connect_read_only(path)
        self._reading = Reading(self._con)

    def table(self, sql: str, *, max_rows: int = 10_000, timeout_s: float | None = None) -> pa.Table:
        """At most `max_rows` rows, within `timeout_s` where it is given."""
        with _interrupted_after(timeout_s, self._con):
            return self._reading.table(sql, max_rows)

    def stream(self, sql: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """All rows, a record batch at a time, the first one empty."""
        return self._reading.batches(sql, batch_rows)

    def close(self) -> None:
        """May be called twice."""
        self._con.close()


def read_only_query(path: Path, sql: str, *, max_rows: int = 10_000) -> pa.Table:
    """One statement on such a file. Raises like ReadOnlyFile."""
    with closing(ReadOnlyFile(path)) as file:
        return file.table(sql, max_rows=max_rows)


def results_version(path: Path) -> int | None:
    """The schema version of a results file that nothing writes; None for a file of another program.

    Raises like ReadOnlyFile.
    """
    with closing(connect_read_only(path)) as con:
        return version_of(con)


@contextmanager
def _interrupted_after(seconds: float | None, con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Raises QueryError where what is in here takes longer."""
    if seconds is None:
        yield
        return
    over, left = threading.Event(), threading.Event()

    def interrupt() -> None:
        """Again and again: a statement that has not begun when it is interrupted runs all the same."""
        if left.wait(seconds):
            return
        over.set()
        while not left.wait(_AGAIN_S):
            con.interrupt()

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    try:
        yield
    except QueryError as error:
        if not over.is_set():
            raise
        raise QueryError(f"the query took longer than {seconds:g} s") from error
    finally:
        left.set()
        thread.join()
