"""Outbox: the copies that leave for a rung or the dead letters, with their headers.

Published through our own direct exchange, persistent and mandatory; the copy has a message id of its own and
carries the key in a header, so that returns can be told apart and the identity stays.
"""

from __future__ import annotations

from typing import Any, Protocol

from actors import headers as h
from actors.delivery import Delivery
from actors.failpoints import Failpoints
from actors.identity import uuid7
from actors.publisher import Message
from actors.topology import Topology
from actors.verdict import Failure, Rung

HEADER_TEXT_MOST = 1_000
_ROUTING = ("CC", "BCC")  # RabbitMQ would route the copy to the queues that the producer named here, too
Headers = dict[str, Any]  # Any: AMQP header values


class Sender(Protocol):
    """Publishes one message, mandatory; returns once confirmed, else raises PublishFailedError."""

    async def publish_message(self, message: Message) -> None: ...


class CopyOutbox:
    """Builds and publishes retry copies and dead letters of one queue."""

    def __init__(self, sender: Sender, topology: Topology, failpoints: Failpoints | None = None) -> None:
        self._sender = sender
        self._failpoints = failpoints or Failpoints("")
        self._topology = topology

    async def retry(self, delivery: Delivery, failure: Failure, rung: Rung) -> None:
        """A copy into the rung of `rung.delay_ms`; its TTL brings it back to the main queue."""
        own: Headers = {h.ATTEMPT: rung.attempt} | ({h.DUE: rung.due_ms} if rung.due_ms else {})
        await self._send(delivery, failure, own, self._topology.rung(rung.delay_ms))

    async def park(self, delivery: Delivery, failure: Failure, reason: str) -> None:
        """A copy into the dead-letter queue, with what went wrong."""
        own: Headers = {
            h.ATTEMPT: failure.attempt + 1,
            h.ERROR: failure.error[:HEADER_TEXT_MOST],
            h.ERROR_CLASS: failure.error_class[:HEADER_TEXT_MOST],
            h.CATEGORY: failure.category,
            h.REASON: reason,
            h.ORIGIN: self._topology.queue,
        }
        await self._send(delivery, failure, own, self._topology.dead_queue)

    async def again(self, delivery: Delivery, piece: Failure) -> None:
        """One record of a packed message into the main queue, at no charge."""
        await self._send(delivery, piece, {h.ATTEMPT: piece.attempt}, self._topology.queue)

    async def _send(self, delivery: Delivery, failure: Failure, own: Headers, queue: str) -> None:
        await self._sender.publish_message(copy_of(delivery, failure, own, self._topology.exchange, queue))
        self._failpoints.reach("after_publish")


def copy_of(delivery: Delivery, failure: Failure, own: Headers, exchange: str, routing_key: str) -> Message:
    """A copy of the message, or of the one record that failed, less RabbitMQ's death headers, plus our own."""
    parcel = delivery.parcel
    alone = failure.body is not None
    table = clean_headers(getattr(delivery.properties, "headers", None) or {})
    key = failure.key or parcel.key or parcel.message_id
    table |= {h.FIRST_SEEN: parcel.first_seen_ms or parcel.received_ms} | own
    table |= {h.KEY: key} if key else {}
    table |= {h.PUBLISHED: parcel.published_ms} if parcel.published_ms else {}
    if alone:
        table.pop(h.RECORDS, None)
    return Message(
        body=parcel.body if failure.body is None else failure.body,
        message_id=uuid7(),
        exchange=exchange,
        routing_key=routing_key,
        content_type=failure.content_type or parcel.content_type or None,
        content_encoding=None if alone else parcel.content_encoding or None,
        headers=table,
        timestamp_s=parcel.published_ms // 1_000,
    )


def clean_headers(table: Headers) -> Headers:
    """The headers without RabbitMQ's death records and without our own from an earlier round."""
    ours = (h.ERROR, h.ERROR_CLASS, h.CATEGORY, h.REASON, h.DUE, h.ATTEMPT, *_ROUTING)
    return {name: value for name, value in table.items() if not name.startswith(h.DEATH_PREFIXES) and name not in ours}
