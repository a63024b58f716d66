"""Our own statements on a results file that nothing writes, in a process that does not have it open otherwise.

A statement of somebody else goes to `queries.file`: it may take this process with it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from rabbitray.actors.errors import QueryError
from rabbitray.actors.store.file import connect_read_only
from rabbitray.actors.store.query import Reading
from rabbitray.actors.store.schema import version_of


def read_only_query(path: Path, sql: str, *, max_rows: int = 10_000, timeout_s: float | None = None) -> pa.Table:
    """Ask a results file that nothing writes. Blocking; for a process that does not have the file open otherwise.

    Raises StoreOpenError (locked: with the holder's pid), QueryError: `timeout_s` is over, too.
    """
    with closing(connect_read_only(path)) as con, _interrupted_after(timeout_s, con):
        return Reading(con).table(sql, max_rows)


def read_only_stream(path: Path, sql: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """All rows, a record batch at a time, the first one empty; the file is open as long as the iterator lives.

    Raises like `read_only_query`.
    """
    with closing(connect_read_only(path)) as con:
        yield from Reading(con).batches(sql, batch_rows)


def results_version(path: Path) -> int | None:
    """The schema version of a results file that nothing writes; None for a file of another program.

    Raises like `read_only_query`.
    """
    with closing(connect_read_only(path)) as con:
        return version_of(con)


@contextmanager
def _interrupted_after(seconds: float | None, con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Raises QueryError where what is in here takes longer."""
    if seconds is None:
        yield
        return
    over = threading.Event()

    def interrupt() -> None:
        over.set()
        con.interrupt()

    timer = threading.Timer(seconds, interrupt)
    timer.start()
    try:
        yield
    except QueryError as error:
        if not over.is_set():
            raise
        raise QueryError(f"the query took longer than {seconds:g} s") from error
    finally:
        timer.cancel()
        timer.join()
