"""A handler that uses DuckDB in its worker's process, and says at its end that it ends."""

from __future__ import annotations

import atexit
import sys

import duckdb

from rabbitray.actors.message.job import Job

connection = duckdb.connect()
atexit.register(lambda: sys.stderr.write("retires as a plain process\n"))


def count(job: Job) -> dict[str, object]:
    """The number of the job, out of DuckDB."""
    [row] = connection.execute("SELECT ?", [job.payload["n"]]).fetchall()
    return {"n": row[0]}
