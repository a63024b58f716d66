"""Outbox: the copies that leave for a rung or the dead letters, with their headers.

Published through our own direct exchange, persistent and mandatory. The copy keeps the producer's message id, which
people know it by and which may be its identity, and carries the key in a header, where one is known.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from rabbitray.actors.errors import EncodeError, UnroutableError
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.headers import (
    MAX_TEXT,
    Headers,
    carried_headers,
    clean_headers,
    cut_text,
    header_number,
    latest_due_ms,
    stays_dropped,
    stays_whole,
    table_bytes,
    travels,
)
from rabbitray.actors.message.job import uuid7
from rabbitray.actors.message.keys import DEFAULT_RULE, KeyRule
from rabbitray.actors.message.parcel import MAX_ATTEMPT, Record
from rabbitray.actors.message.properties.property_list import Properties, header_names, headers_where, priority_of
from rabbitray.actors.message.properties.whole_copy import whole_copy
from rabbitray.actors.message.reply import Failure
from rabbitray.actors.message.rows import DEAD_LETTER_SCHEMA
from rabbitray.actors.message.wire.limits import DEFAULT_LIMITS
from rabbitray.actors.publisher import EncodedMessage
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.settlement.failpoints import Failpoints
from rabbitray.actors.router.settlement.outstanding import OutstandingRetries
from rabbitray.actors.router.settlement.retries import Rung
from rabbitray.actors.router.spool import SpooledBody

log = logging.getLogger(__name__)

ERROR_MOST_BYTES = 1_000
ERROR_CLASS_MOST_BYTES = 150
REASON_MOST_BYTES = 80
TRACESTATE_MOST_BYTES = 150
"""Cut so far, our own headers fit into a frame of 4,096 bytes, the smallest that AMQP allows, at their largest."""

FOREIGN_MOST_BYTES = DEFAULT_LIMITS.max_header_bytes
"""All headers of a message must fit one frame, ours included: RabbitMQ closes the connection otherwise."""


class CopySender(Protocol):
    """Publishes one message, mandatory; returns once confirmed, else raises PublishFailedError."""

    async def publish_message(self, message: EncodedMessage) -> None: ...


class LargeSender(Protocol):
    """Publishes one message whose body is in a file, mandatory; returns once confirmed, else raises."""

    async def publish(self, message: EncodedMessage, body: SpooledBody) -> None: ...


class CopyOutbox:
    """Builds and publishes retry copies and dead letters of one queue; `large` those whose bodies are in files.

    `outstanding` is told what went into a rung. `way_again`: asked for a copy that came back since no queue took it,
    with its queue and when it was sent (monotonic s); where it says so, the copy is sent once more.
    """

    def __init__(
        self,
        sender: CopySender,
        topology: Topology,
        failpoints: Failpoints | None = None,
        *,
        large: LargeSender | None = None,
        outstanding: OutstandingRetries | None = None,
        way_again: Callable[[str, float], Awaitable[bool]] | None = None,
    ) -> None:
        self._sender = sender
        self._way_again = way_again
        self._large = large
        self._failpoints = failpoints or Failpoints("")
        self._topology = topology
        self._outstanding = outstanding

    async def retry(self, delivery: Delivery, record: Record, rung: Rung) -> None:
        """A copy into the rung of `rung.delay_ms`; its TTL brings it back to the main queue."""
        own: Headers = {h.ATTEMPT: rung.attempt} | ({h.DUE: rung.due_ms} if rung.due_ms else {})
        own |= {h.SPARED: rung.spared} if rung.spared else {}
        own |= {h.HOPS: rung.hops} if rung.hops else {}
        sent = await self._send(delivery, record, own, self._topology.rung(rung.delay_ms))
        if self._outstanding is not None:
            self._outstanding.went_in(sent.message_id, min(rung.attempt, MAX_ATTEMPT), rung.delay_ms, _now_ms())

    async def park(self, delivery: Delivery, failure: Failure, reason: str) -> None:
        """A copy into the dead-letter queue, with what went wrong."""
        own: Headers = {
            h.ATTEMPT: failure.attempt + 1,
            h.ERROR: cut_text(failure.error, ERROR_MOST_BYTES),
            h.ERROR_CLASS: cut_text(failure.error_class, ERROR_CLASS_MOST_BYTES),
            h.CATEGORY: failure.category,
            h.REASON: cut_text(reason, REASON_MOST_BYTES),
            h.ORIGIN: self._topology.queue,
        }
        await self._send(delivery, failure, own, self._topology.dead_queue)

    async def again(self, delivery: Delivery, record: Record) -> None:
        """One record of a packed message into the main queue, at no charge."""
        await self._send(delivery, record, {h.ATTEMPT: record.attempt}, self._topology.queue)

    async def renew(self, delivery: Delivery, *, dropped: bool = False) -> bool:
        """The same message at the end of its queue, where RabbitMQ has not counted a delivery of it; False where it
        cannot be the same. `dropped`: it is one of the dropped queue.
        """
        properties, message_id = delivery.properties, delivery.parcel.message_id or uuid7()
        if not isinstance(properties, Properties) or properties.unreadable:
            return False
        whole = whole_copy(properties, stays_dropped if dropped else stays_whole, message_id=message_id)
        if whole is None:
            return False
        exchange, queue = self._topology.exchange, self._topology.dropped_queue if dropped else self._topology.queue
        copy = EncodedMessage(
            body=delivery.parcel.body, message_id=message_id, exchange=exchange, routing_key=queue, properties=whole
        )
        await self._publish(delivery, copy)
        self._failpoints.reach("after_publish")
        return True

    async def _send(self, delivery: Delivery, record: Record, own: Headers, queue: str) -> EncodedMessage:
        """The copy, once it is confirmed."""
        exchange = self._topology.exchange
        copy = copy_of(delivery, record, own, exchange, queue)
        try:
            await self._publish(delivery, copy)
        except EncodeError as error:  # only what the producer wrote can be at fault, and the next try would be alike
            log.warning("A copy of message %s leaves its headers behind: %s", delivery.parcel.message_id, error)
            copy = copy_of(delivery, record, own, exchange, queue, foreign=False)
            await self._publish(delivery, copy)
        self._failpoints.reach("after_publish")
        return copy

    async def _publish(self, delivery: Delivery, copy: EncodedMessage) -> None:
        sent_at = time.monotonic()
        try:
            await self._put(delivery, copy)
        except UnroutableError:
            if self._way_again is None or not await self._way_again(copy.routing_key, sent_at):
                raise
            await self._put(delivery, copy)

    async def _put(self, delivery: Delivery, copy: EncodedMessage) -> None:
        if delivery.spooled is None:
            await self._sender.publish_message(copy)
        else:
            assert self._large is not None
            await self._large.publish(copy, delivery.spooled)


def copy_of(
    delivery: Delivery, record: Record, own: Headers, exchange: str, routing_key: str, *, foreign: bool = True
) -> EncodedMessage:
    """A copy of the message, or of one record of it alone, less RabbitMQ's death headers, plus our own.

    `foreign`: with the producer's headers; they are also left behind where they are too large for a copy.
    """
    parcel = delivery.parcel
    alone = record.body is not None
    key = record.key if alone else record.key or parcel.key
    kept, entries = _kept(delivery, foreign=foreign)
    ours = _carried(delivery) | kept | own | ({h.KEY: key} if key else {})
    if alone:
        ours.pop(h.RECORDS, None)
    return EncodedMessage(
        body=parcel.body if record.body is None else record.body,
        message_id=_short(parcel.message_id) or uuid7(),
        exchange=exchange,
        routing_key=routing_key,
        content_type=_short(record.content_type or parcel.content_type),
        content_encoding=None if alone else _short(parcel.content_encoding),
        headers=ours,
        entries=entries,
        timestamp_s=parcel.published_ms // 1_000,
        priority=priority_of(properties) if isinstance(properties := delivery.properties, Properties) else None,
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _given(delivery: Delivery) -> Mapping[str, Any]:  # Any: AMQP header values
    return getattr(delivery.properties, "headers", None) or {}


def _kept(delivery: Delivery, *, foreign: bool) -> tuple[Headers, bytes]:
    """The producer's headers that stay on a copy: as values, and as they stood in their frame.

    Where they cannot travel, the trace alone, and how many stay behind.
    """
    properties = delivery.properties
    if isinstance(properties, Properties) and properties.header_bytes:
        entries, lost = headers_where(properties, travels)
        if foreign and len(entries) <= FOREIGN_MOST_BYTES:
            return _left_behind(delivery, lost), entries
        return _cut(delivery, [name for name in header_names(properties) if travels(name)]), b""
    table = clean_headers(_given(delivery))
    if foreign and (not table or table_bytes(table, FOREIGN_MOST_BYTES) <= FOREIGN_MOST_BYTES):
        return table, b""
    return _cut(delivery, table), b""


def _cut(delivery: Delivery, names: Collection[str]) -> Headers:
    """Of the producer's headers of these names the trace, and how many stay behind."""
    parcel = delivery.parcel
    kept: Headers = {h.TRACEPARENT: parcel.traceparent} if parcel.traceparent else {}
    if parcel.tracestate and len(parcel.tracestate.encode("utf-8", "replace")) <= TRACESTATE_MOST_BYTES:
        kept[h.TRACESTATE] = parcel.tracestate
    return kept | _left_behind(delivery, sum(name not in kept for name in names))


def _left_behind(delivery: Delivery, count: int) -> Headers:
    """So many headers are missing on this copy, and those that an earlier one had to leave behind."""
    count += header_number(_given(delivery).get(h.HEADERS_CUT), 0, h.MAX_COUNT)
    return {h.HEADERS_CUT: count} if count else {}


def _carried(delivery: Delivery) -> Headers:
    """Our own headers that stay from copy to copy, as they were read when the message came."""
    parcel, given = delivery.parcel, _given(delivery)
    kept = carried_headers(given, parcel.received_ms) | {h.FIRST_SEEN: parcel.first_seen_ms or parcel.received_ms}
    kept.pop(h.KEY, None)
    kept |= {h.REPLAYS: delivery.replays} if delivery.replays else {}
    return kept | ({h.RECORDS: delivery.records} if h.RECORDS in given else {})


def spared_before(delivery: Delivery) -> int:
    """How many failures of this message charged no attempt; clamped, for producers can write it."""
    return header_number(_given(delivery).get(h.SPARED), 0, h.MAX_COUNT)


def hops_before(delivery: Delivery) -> int:
    """How often this message was put back without a charge; clamped likewise."""
    return header_number(_given(delivery).get(h.HOPS), 0, h.MAX_HOPS)


def may_wait_until_ms(delivery: Delivery) -> int:
    """Until when this message may be put back without a charge (Unix ms)."""
    parcel = delivery.parcel
    return latest_due_ms(_given(delivery), parcel.first_seen_ms, parcel.received_ms)


def _short(text: str | None) -> str | None:
    """A text that AMQP can hold as a property; None for none, and for one that grew too long in reading."""
    return text if text and len(text.encode()) <= MAX_TEXT else None


def _unread(delivery: Delivery) -> bytes | None:
    """All properties as they came, where their headers could not be read, or not all of them."""
    properties = delivery.properties
    return properties.raw if isinstance(properties, Properties) and properties.unreadable else None


def dead_letter_rows(
    dead: Sequence[tuple[Delivery, Failure, str]], queue: str, worker: str = "", rule: KeyRule = DEFAULT_RULE
) -> pa.Table:
    """One row for each (delivery, failure, reason). `worker`: whose last run it was; empty: not known.

    `rule`: where the keys of this queue are.
    """
    now_us = time.time_ns() // 1_000
    return pa.Table.from_pylist(
        [
            {"key": _key(delivery, failure, rule)} | _row(delivery, failure, reason, queue, worker, now_us)
            for delivery, failure, reason in dead
        ],
        schema=DEAD_LETTER_SCHEMA,
    )


def _key(delivery: Delivery, failure: Failure, rule: KeyRule) -> str | None:
    """By default a message that says nothing else is known by its message id, once its body has been read."""
    known = failure.key or delivery.parcel.key
    by_id = known is None and rule.place == "default" and not failure.unread
    return delivery.parcel.message_id if by_id else known


def _row(delivery: Delivery, failure: Failure, reason: str, queue: str, worker: str, now_us: int) -> dict[str, object]:
    parcel, spooled = delivery.parcel, delivery.spooled
    elsewhere = f"; its body of {spooled.size:,} bytes is in {Topology(queue=queue).dead_queue} only" if spooled else ""
    return {
        "message_id": failure.message_id or parcel.message_id,
        "queue": queue,
        "message_type": failure.message_type,
        "error": failure.error + elsewhere,
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
        "body": None if spooled else failure.body if failure.body is not None else parcel.body,
        "raw_properties": _unread(delivery),
        "content_encoding": (None if failure.body is not None else parcel.content_encoding) or None,
        "traceback": failure.traceback or None,
        "raised_in": failure.raised_in or None,
    }
