"""Outbox: the copies that leave for a rung or the dead letters, with their headers.

Published through our own direct exchange, persistent and mandatory. The copy keeps the producer's message id, which
people know it by and which may be its identity, and carries the key in a header, where one is known.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from rabbitray.actors.errors import EncodeError, UnroutableError
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.headers import (
    Headers,
    carried_headers,
    cut_text,
    header_number,
    latest_due_ms,
    stays_dropped,
    stays_whole,
    travels,
    travels_alone,
)
from rabbitray.actors.message.job import uuid7
from rabbitray.actors.message.keys import DEFAULT_RULE, KeyRule
from rabbitray.actors.message.parcel import MAX_ATTEMPT, Record
from rabbitray.actors.message.properties import fields as f
from rabbitray.actors.message.properties.copy_properties import KEEPS, Keep, copy_properties, park_priority
from rabbitray.actors.message.properties.fields import Fields
from rabbitray.actors.message.properties.property_list import Properties, is_plain
from rabbitray.actors.message.properties.sent_with import SentWith, sent_with
from rabbitray.actors.message.reply import Failure
from rabbitray.actors.message.rows import DEAD_LETTER_SCHEMA
from rabbitray.actors.message.wire import with_compression
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
        properties = _properties(delivery)
        kept = copy_properties(properties, stays_dropped if dropped else stays_whole)
        if properties.unreadable or not kept.came or kept.left:
            return False
        copy = EncodedMessage(
            body=delivery.parcel.body,
            message_id=kept.message_id(uuid7),
            exchange=self._topology.exchange,
            routing_key=self._topology.dropped_queue if dropped else self._topology.queue,
            headers=_sent_with(delivery, kept.came, self._topology).headers(),
            entries=kept.entries,
            properties=kept.fields,
        )
        await self._publish(delivery, copy)
        self._failpoints.reach("after_publish")
        return True

    async def _send(self, delivery: Delivery, record: Record, own: Headers, queue: str) -> EncodedMessage:
        """The copy, once it is confirmed."""
        for keep in KEEPS:
            copy = copy_of(delivery, record, own, self._topology, queue, keep=keep)
            try:
                await self._publish(delivery, copy)
                break
            except EncodeError as error:  # only what the producer wrote can be at fault: the same would fail again
                if keep == KEEPS[-1]:
                    raise
                log.warning("A copy of message %s leaves headers behind: %s", delivery.parcel.message_id, error)
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
    delivery: Delivery, record: Record, own: Headers, topology: Topology, queue: str, *, keep: Keep = "all"
) -> EncodedMessage:
    """A copy of the message, or of one record of it alone, for `queue`: see `copy_properties`, plus our own headers.

    A record is a message of its own: of its packed message it has all but how to read the body (kombu's `compression`
    is a header), and how many records there were. `keep`: headers beyond FOREIGN_MOST_BYTES are left behind all the
    same. A dead letter has the priority 0 whatever its message had, which a header says: so they lie in their order, on
    every RabbitMQ.
    """
    parcel, alone = delivery.parcel, record.body is not None
    key = record.key if alone else record.key or parcel.key
    properties = _properties(delivery)
    stays = travels_alone if alone and with_compression("", _given(delivery).get(h.COMPRESSION)) else travels
    kept = copy_properties(properties, stays, keep=keep, most_bytes=FOREIGN_MOST_BYTES)
    sent = _sent_with(delivery, kept.came, topology).headers()
    left = kept.left
    if keep == "least":
        left, sent = left + len(sent), {}
    ours = _carried(delivery) | sent | _left_behind(delivery, left) | own | ({h.KEY: key} if key else {})
    if alone:
        ours.pop(h.RECORDS, None)
        kept.fields.pop(f.CONTENT_ENCODING, None)
    if record.content_type:
        kept.fields[f.CONTENT_TYPE] = f.short(record.content_type.encode())
    if queue == topology.dead_queue:
        ours[h.PRIORITY] = park_priority(kept.fields, {})
    return EncodedMessage(
        body=parcel.body if record.body is None else record.body,
        message_id=kept.message_id(uuid7),
        exchange=topology.exchange,
        routing_key=queue,
        headers=ours,
        entries=kept.entries,
        properties=kept.fields,
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _properties(delivery: Delivery) -> Properties:
    """Its properties; none for what has no property list."""
    return delivery.properties if isinstance(delivery.properties, Properties) else Properties()


def _given(delivery: Delivery) -> Mapping[str, Any]:  # Any: AMQP header values
    return getattr(delivery.properties, "headers", None) or {}


def _sent_with(delivery: Delivery, came: Fields, topology: Topology) -> SentWith:
    copied = delivery.route in topology.copies_come_by
    return sent_with(came, _given(delivery), delivery.route, copied=copied, received_ms=delivery.parcel.received_ms)


def _left_behind(delivery: Delivery, count: int) -> Headers:
    """So many headers and properties are missing on this copy, and those that an earlier one had to leave behind."""
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


def _told_headers(delivery: Delivery) -> Mapping[str, Any]:  # Any: AMQP header values
    """The headers as they came, and how the message was sent, where they do not say that already."""
    sent = sent_with({}, {}, delivery.route, copied=False, received_ms=0).headers()
    return {**sent, **_given(delivery)}


def _beside_the_row(delivery: Delivery) -> bytes | None:
    """All properties as they came, where some could not be read, or no other column of the row holds them."""
    properties = _properties(delivery)
    told = properties.unreadable is None and is_plain(properties, stamped=h.PUBLISHED in _given(delivery))
    return None if told else properties.raw


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
        "headers": json.dumps(_told_headers(delivery), default=str),
        "content_type": failure.content_type or parcel.content_type or None,
        "body": None if spooled else failure.body if failure.body is not None else parcel.body,
        "raw_properties": _beside_the_row(delivery),
        "content_encoding": (None if failure.body is not None else parcel.content_encoding) or None,
        "traceback": failure.traceback or None,
        "raised_in": failure.raised_in or None,
    }
