"""Our own statements on a results file that nothing writes, in a process that does not have it open otherwise.

A statement of somebody else goes to `queries.file`: it may take this process with it.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from rabbitray.actors.store.file import connect_read_only
from rabbitray.actors.store.query import Reading
from rabbitray.actors.store.schema import version_of


def read_only_query(path: Path, sql: str, *, max_rows: int = 10_000) -> pa.Table:
    """Ask a results file that nothing writes. Blocking, without a deadline; for a process that does not have the file
    open otherwise.

    Raises StoreOpenError (locked: with the holder's pid), QueryError.
    """
    con = connect_read_only(path)
    try:
        return Reading(con).table(sql, max_rows)
    finally:
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
