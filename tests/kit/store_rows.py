"""Rows for the store's tests."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from rabbitray.actors.message.job import Job
from rabbitray.actors.message.payload_hash import payload_hash
from rabbitray.actors.message.rows import DEAD_LETTER_SCHEMA, RESULT_SCHEMA

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def rows_of(
    keys: Sequence[str | None],
    *,
    queue: str | None = "jobs",
    results: Sequence[str | None] | None = None,
    user_id: str = "u1",
    payload: object = None,
) -> pa.Table:
    """One DONE row for each key. `payload`: of each; None: the rows have no hash of one, as in earlier versions."""
    count = len(keys)
    columns: dict[str, object] = {name: [None] * count for name in RESULT_SCHEMA.names}
    columns.update(key=list(keys), message_id=list(keys), queue=[queue] * count, status=["DONE"] * count)
    columns.update(result=list(results or ['{"ok":true}'] * count), user_id=[user_id] * count)
    columns.update(attempts=[1] * count, finished_at=[NOW] * count)
    if payload is not None:
        columns["payload_hash"] = [payload_hash(Job(payload=payload))] * count
    return pa.table(columns, schema=RESULT_SCHEMA)


def dead_rows(keys: Sequence[str]) -> pa.Table:
    """One dead letter for each key."""
    count = len(keys)
    columns: dict[str, object] = {name: [None] * count for name in DEAD_LETTER_SCHEMA.names}
    columns.update(key=list(keys), queue=["jobs"] * count, reason=["rejected"] * count, dead_at=[NOW] * count)
    columns.update(body=[b"\x00\xff" + key.encode() for key in keys])
    return pa.table(columns, schema=DEAD_LETTER_SCHEMA)


def sql_in_a_process(path: Path, *statements: str) -> None:
    """Run SQL on a results file as another program would, and end like a crash: the log stays as it is."""
    script = (
        "import duckdb, os, sys\n"
        "con = duckdb.connect(sys.argv[1], config={'checkpoint_threshold': '1GiB'})\n"
        "for statement in sys.argv[2:]: con.execute(statement)\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(path), *statements], check=True)
