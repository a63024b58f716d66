"""Dead letters as rows: the message's body, headers and what went wrong, for the table `dead_letters`. Pure."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import pyarrow as pa

from actors.delivery import Delivery
from actors.rows import DEAD_LETTER_SCHEMA
from actors.verdict import Failure


def dead_letter_rows(dead: Sequence[tuple[Delivery, Failure, str]], queue: str, worker: str = "") -> pa.Table:
    """One row for each (delivery, failure, reason). `worker`: whose last run it was; empty: not known."""
    now_us = time.time_ns() // 1_000
    return pa.Table.from_pylist(
        [_row(delivery, failure, reason, queue, worker, now_us) for delivery, failure, reason in dead],
        schema=DEAD_LETTER_SCHEMA,
    )


def _row(delivery: Delivery, failure: Failure, reason: str, queue: str, worker: str, now_us: int) -> dict[str, object]:
    parcel = delivery.parcel
    return {
        "key": failure.key or parcel.key or parcel.message_id,
        "message_id": failure.message_id or parcel.message_id,
        "queue": queue,
        "message_type": failure.message_type,
        "error": failure.error,
        "error_class": failure.error_class,
        "category": failure.category,
        "reason": reason,
        "attempts": failure.attempt + 1,
        "first_seen": (parcel.first_seen_ms or parcel.received_ms) * 1_000,
        "dead_at": now_us,
        "worker": worker or None,
        "trace_id": parcel.traceparent[3:35] if parcel.traceparent else None,
        "headers": json.dumps(getattr(delivery.properties, "headers", None) or {}, default=str),
        "content_type": failure.content_type or parcel.content_type or None,
        "body": failure.body if failure.body is not None else parcel.body,
    }
