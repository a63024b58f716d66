"""The jobs of a batch that have a result become one Arrow table for the store. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from rabbitray.actors.message.rows import RESULT_SCHEMA, TIMESTAMP
from rabbitray.actors.worker.batch.unit import Unit

_EMPTY = RESULT_SCHEMA.empty_table()


def results(units: Sequence[Unit], queue: str, worker: str, batch_id: str, *, clock_us: int = 0) -> pa.Table:
    """One row for each job that is DONE, in order; column by column, since that is what Arrow is fast at.

    `clock_us`: how far the clock of this machine is ahead of the one that all times are told by.
    """
    if not units:
        return _EMPTY
    count = len(units)
    none = pa.nulls(count, pa.string())
    columns = {
        "key": pa.array([unit.key for unit in units], pa.string()),
        "message_id": pa.array([unit.parcel.message_id for unit in units], pa.string()),
        "queue": pa.repeat(pa.scalar(queue), count),
        "message_type": pa.array([unit.job.message_type or None for unit in units], pa.string()),
        "user_id": pa.array([unit.job.user_id for unit in units], pa.string()),
        "status": pa.repeat(pa.scalar("DONE"), count),
        "result": pa.array([unit.result for unit in units], pa.string()),
        "error": none,
        "error_class": none,
        "category": none,
        "attempts": pa.array([unit.attempt + 1 for unit in units], pa.int32()),
        "published_at": _times([unit.parcel.published_ms * 1_000 or None for unit in units]),
        "received_at": _times([unit.parcel.received_ms * 1_000 for unit in units]),
        "started_at": _times([unit.started_us - clock_us for unit in units]),
        "finished_at": _times([unit.finished_us - clock_us for unit in units]),
        "worker": pa.repeat(pa.scalar(worker), count),
        "batch_id": pa.repeat(pa.scalar(batch_id), count),
        "trace_id": pa.array([_trace_id(unit.parcel.traceparent) for unit in units], pa.string()),
        "payload_hash": pa.array([unit.payload_hash for unit in units], pa.uint64()),
    }
    return pa.Table.from_arrays([columns[name] for name in RESULT_SCHEMA.names], schema=RESULT_SCHEMA)


def _times(microseconds: list[int | None] | list[int]) -> pa.Array:
    """A view of whole numbers: a cast looks at each again, and takes 10 us more for any number of them."""
    return pa.array(microseconds, pa.int64()).view(TIMESTAMP)


def _trace_id(traceparent: str | None) -> str | None:
    return traceparent[3:35] if traceparent else None
