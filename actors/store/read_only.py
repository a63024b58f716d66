"""A results file that nothing writes: asked without a pool, by a process that does not have it open otherwise."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from rabbitray.actors.errors import QueryError
from rabbitray.actors.store.file import connect_read_only
from rabbitray.actors.store.query import Reading
from rabbitray.actors.store.readers import Readers
from rabbitray.actors.store.schema import version_note, version_of


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
