"""What the store writes beside results: runs (epochs), dead letters, decisions, control. All append-only.

Each function runs on the commit thread and commits its own transaction in the permitted shape.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec
import pyarrow as pa

from rabbitray.actors.message.rows import DEAD_LETTER_SCHEMA, TIMESTAMP, conform
from rabbitray.actors.store.commit.transaction import append
from rabbitray.actors.store.file import EPOCH_SQL, Connection, scalar

_CONTROL_SQL = "SELECT name, arg_max(value, version)::VARCHAR FROM control GROUP BY name"
_DECISION_SCHEMA = pa.schema(
    [
        ("decided_at", TIMESTAMP),
        ("pool", pa.string()),
        ("inputs", pa.string()),
        ("current", pa.int32()),
        ("wanted", pa.int32()),
        ("reason", pa.string()),
        ("in_effect_at", TIMESTAMP),
    ]
)


def register(con: Connection, router: str) -> int:
    """Issue the next epoch to `router`; all earlier ones end with this commit."""
    epoch = scalar(con, EPOCH_SQL) + 1
    batch = pa.table({"epoch": [epoch], "router": [router]})
    sql = "INSERT INTO runs BY NAME SELECT epoch, router, now() AS registered_at FROM rabbitray_batch"
    append(con, sql, batch, epoch=epoch)
    return epoch


def record_dead_letters(con: Connection, epoch: int, rows: pa.Table) -> None:
    """Append dead letters with their bodies; each gets an `id` of its own."""
    rows = conform(rows, DEAD_LETTER_SCHEMA)
    batch = rows.append_column("id", pa.array([uuid.uuid4().hex for _ in range(rows.num_rows)], pa.string()))
    sql = "INSERT INTO dead_letters BY NAME SELECT *, now() AS recorded_at FROM rabbitray_batch"
    append(con, sql, batch, epoch=epoch)


def decide(con: Connection, rows: Sequence[Mapping[str, object]]) -> None:
    """Append decisions of the autoscaler; `inputs` may be any JSON value, times datetime or None."""
    batch = pa.Table.from_pylist([_decision(row) for row in rows], _DECISION_SCHEMA)
    sql = "INSERT INTO decisions BY NAME SELECT * FROM rabbitray_batch"
    append(con, sql, batch, epoch=None)


def control(con: Connection) -> dict[str, object]:
    """The newest value of each control."""
    found = con.execute(_CONTROL_SQL).fetchall()
    return {str(name): msgspec.json.decode(value) for name, value in found}


def set_control(con: Connection, name: str, value: object) -> None:
    """Append a new value of one control; any JSON value."""
    version = scalar(con, "SELECT coalesce(max(version), 0) FROM control") + 1
    text = msgspec.json.encode(value).decode()
    batch = pa.table({"version": [version], "name": [name], "value": [text]})
    sql = "INSERT INTO control BY NAME SELECT version, name, value, now() AS changed_at FROM rabbitray_batch"
    append(con, sql, batch, epoch=None)


def _decision(row: Mapping[str, object]) -> dict[str, object]:
    values = {name: row.get(name) for name in _DECISION_SCHEMA.names}
    values["inputs"] = msgspec.json.encode(row.get("inputs")).decode()
    values["decided_at"] = row.get("decided_at") or datetime.now(UTC)
    return values
