"""Result rows as a worker sends them, by key."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from rabbitray.actors.message.parcel import Parcel
from rabbitray.actors.message.rows import RESULT_SCHEMA


def rows_of(keys: Iterable[str | None], queue: str = "q") -> pa.Table:
    """Result rows of these keys."""
    rows = [{"key": key, "queue": queue, "status": "DONE"} for key in keys]
    return pa.Table.from_pylist(rows, schema=RESULT_SCHEMA)


def key_of(one: Parcel) -> str | None:
    """The key as the worker finds it for bodies without an id of their own."""
    return one.key or one.message_id
