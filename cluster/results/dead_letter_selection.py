"""Which dead letters a replay takes, and the copy that goes back to the main queue. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.headers import carried_headers, clean_headers, header_number
from rabbitray.actors.message.job import uuid7
from rabbitray.actors.publisher import EncodedMessage

Table = Mapping[str, Any]  # Any: AMQP header values

_NOT_CARRIED = ("correlation_id", "reply_to", "expiration", "priority", "type", "user_id", "app_id")


class DeadMessage(Protocol):
    """A message of the dead-letter queue, as aio-pika gives it."""

    body: bytes
    headers: dict[str, Any]  # Any: AMQP header values
    message_id: str | None
    content_type: str | None
    content_encoding: str | None
    timestamp: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """All of what is given must hold; nothing given: every dead letter.

    `ids`: keys or message ids. `error_class`: whole, or its last part after a dot. Times are Unix ms of the first
    time that the message was seen. `max_replays`: one that was replayed so often already stays.
    """

    ids: frozenset[str] = frozenset()
    error_class: str | None = None
    seen_before_ms: int | None = None
    seen_after_ms: int | None = None
    max_replays: int = 10

    def takes(self, message: DeadMessage) -> bool:
        """Whether this message is replayed."""
        return (
            (not self.ids or bool(self.ids & identities(message)))
            and (self.error_class is None or _same_class(self.error_class, error_class(message)))
            and self._old_enough(message)
            and replays(message) < self.max_replays
        )

    def _old_enough(self, message: DeadMessage) -> bool:
        if self.seen_before_ms is None and self.seen_after_ms is None:
            return True
        seen = first_seen_ms(message)
        if seen is None:
            return False
        before, after = self.seen_before_ms, self.seen_after_ms
        return (before is None or seen <= before) and (after is None or seen >= after)


def identities(message: DeadMessage) -> set[str]:
    """What the message is called: its key, its message id."""
    names = (message.headers.get(h.KEY), message.message_id)
    return {_text(name) for name in names if name}


def error_class(message: DeadMessage) -> str:
    """The class of the error that it died of; empty when it says none."""
    return _text(message.headers.get(h.ERROR_CLASS) or "")


def first_seen_ms(message: DeadMessage) -> int | None:
    """When it was first received, Unix ms; else when it was published; None when it says neither."""
    value = message.headers.get(h.FIRST_SEEN)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    return int(message.timestamp.timestamp() * 1000) if isinstance(message.timestamp, datetime) else None


def replays(message: DeadMessage) -> int:
    """How often it was replayed before."""
    return header_number(message.headers.get(h.REPLAYS), 0, h.MAX_COUNT)


def replay_copy(message: DeadMessage, queue: str, *, foreign: bool = True) -> EncodedMessage:
    """The copy for the main queue: attempts at 0, death and error headers gone, history kept, one replay more.

    The identity stays: the key header where there is one, and the message id itself. `foreign`: with the producer's
    headers. It may wait 30 days once more, see `latest_due_ms`.
    """
    now_ms = time.time_ns() // 1_000_000
    theirs, ours = clean_headers(message.headers), carried_headers(message.headers, now_ms)
    headers = (theirs if foreign else {h.HEADERS_CUT: len(theirs)}) | ours
    headers.pop(h.HOPS, None)
    headers |= {h.ATTEMPT: 0, h.REPLAYS: replays(message) + 1, h.REPLAYED: now_ms, h.ORIGIN: ours.get(h.ORIGIN, queue)}
    seen = first_seen_ms(message)
    headers |= {h.FIRST_SEEN: min(seen, now_ms)} if seen is not None else {}
    return EncodedMessage(
        body=message.body,
        message_id=message.message_id or uuid7(),
        routing_key=queue,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        headers=headers,
        timestamp_s=int(message.timestamp.timestamp()) if isinstance(message.timestamp, datetime) else 0,
    )


def unchanged(message: DeadMessage, queue: str) -> EncodedMessage | None:
    """The same message again, for the end of its own queue; None where a copy would not be the same.

    Our publisher carries a message id, a content type and encoding, a time and headers: the dead letters that we
    wrote have no more. RabbitMQ's count of deliveries starts again with the copy.
    """
    headers = {name: value for name, value in message.headers.items() if name not in h.DELIVERY_COUNTS}
    strange = any(getattr(message, name, None) for name in _NOT_CARRIED) or headers.keys() & set(h.ROUTING)
    if strange or not message.message_id or not isinstance(message.timestamp, datetime):
        return None
    return EncodedMessage(
        body=message.body,
        message_id=message.message_id,
        routing_key=queue,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        headers=headers,
        timestamp_s=int(message.timestamp.timestamp()),
    )


def deliveries(message: DeadMessage) -> int:
    """How often RabbitMQ says that it was delivered before; a quorum queue with a limit drops by this number."""
    counts = (message.headers.get(name) for name in h.DELIVERY_COUNTS)
    return max((count for count in counts if isinstance(count, int)), default=0)


def _same_class(wanted: str, found: str) -> bool:
    return wanted == found or wanted == found.rpartition(".")[2]


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes | bytearray) else str(value)
