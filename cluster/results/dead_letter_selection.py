"""Which dead letters a replay takes, and the copy that goes back to the main queue. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.headers import (
    Headers,
    carried_headers,
    header_number,
    moment_ms,
    stays_dead,
    text_of,
    travels,
)
from rabbitray.actors.message.job import uuid7
from rabbitray.actors.message.properties import fields as f
from rabbitray.actors.message.properties.copy_properties import (
    CopyProperties,
    Keep,
    copy_properties,
    park_priority,
    restore_priority,
)
from rabbitray.actors.message.properties.property_list import Properties, header_names
from rabbitray.actors.message.properties.sent_with import sent_with
from rabbitray.actors.publisher import EncodedMessage


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message of the dead-letter queue."""

    body: bytes
    properties: Properties

    @property
    def headers(self) -> Headers:
        """The headers that can be read."""
        return self.properties.headers or {}


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

    def takes(self, message: DeadLetter) -> bool:
        """Whether this message is replayed."""
        return (
            (not self.ids or bool(self.ids & identities(message)))
            and (self.error_class is None or _same_class(self.error_class, error_class(message)))
            and self._old_enough(message)
            and replays(message) < self.max_replays
        )

    def _old_enough(self, message: DeadLetter) -> bool:
        if self.seen_before_ms is None and self.seen_after_ms is None:
            return True
        seen = first_seen_ms(message)
        if seen is None:
            return False
        before, after = self.seen_before_ms, self.seen_after_ms
        return (before is None or seen <= before) and (after is None or seen >= after)


def identities(message: DeadLetter) -> set[str]:
    """What the message is called: its key, its message id."""
    names = (message.headers.get(h.KEY), message.properties.message_id)
    return {_text(name) for name in names if name}


def error_class(message: DeadLetter) -> str:
    """The class of the error that it died of; empty when it says none."""
    return _text(message.headers.get(h.ERROR_CLASS) or "")


def first_seen_ms(message: DeadLetter) -> int | None:
    """When it was first received, Unix ms; else when it was published; None when it says neither."""
    value = message.headers.get(h.FIRST_SEEN)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    return moment_ms(message.properties.timestamp, time.time_ns() // 1_000_000) or None


def replays(message: DeadLetter) -> int:
    """How often it was replayed before."""
    return header_number(message.headers.get(h.REPLAYS), 0, h.MAX_COUNT)


def replay_copy(message: DeadLetter, queue: str, *, keep: Keep = "all") -> EncodedMessage:
    """The copy for the main queue: attempts at 0, death and error headers gone, history kept, one replay more.

    The identity stays: the key header where there is one, and the message id itself. Headers that cannot be read stay
    behind, for the pool would park the copy again; `x-rabbitray-headers-cut` says how many. It may wait 30 days once
    more, see `latest_due_ms`.
    """
    now_ms = time.time_ns() // 1_000_000
    kept = copy_properties(message.properties, travels, keep=keep, readable=True)
    restore_priority(kept.fields, message.headers)
    ours = carried_headers(message.headers, now_ms)
    ours |= {h.ATTEMPT: 0, h.REPLAYS: replays(message) + 1, h.REPLAYED: now_ms, h.ORIGIN: ours.get(h.ORIGIN, queue)}
    seen = first_seen_ms(message)
    ours |= {h.FIRST_SEEN: min(seen, now_ms)} if seen is not None else {}
    ours = {name: value for name, value in ours.items() if name not in (h.HOPS, h.HEADERS_CUT)}
    sent, left = _sent_with(message, kept, now_ms), kept.left
    if keep == "least":
        sent, left = {}, left + len(sent)
    return EncodedMessage(
        body=message.body,
        message_id=kept.message_id(uuid7),
        routing_key=queue,
        headers=ours | sent | ({h.HEADERS_CUT: left} if left else {}),
        entries=kept.entries,
        properties=kept.fields,
    )


def unchanged(message: DeadLetter, queue: str) -> EncodedMessage | None:
    """The same message again, for the end of its own queue; None where a copy would not be the same.

    RabbitMQ's count of deliveries starts again with the copy, whose priority is 0, as that of all dead letters.
    Everything else is as it stands, also headers that cannot be read.
    """
    properties = message.properties
    kept = copy_properties(properties, stays_dead)
    if kept.left or f.MESSAGE_ID not in kept.fields or set(header_names(properties)) & set(h.ROUTING):
        return None
    ours: Headers = {h.PRIORITY: park_priority(kept.fields, message.headers)}
    return EncodedMessage(
        body=message.body,
        message_id=kept.message_id(uuid7),
        routing_key=queue,
        headers=ours | _sent_with(message, kept, time.time_ns() // 1_000_000),
        entries=kept.entries,
        properties=kept.fields,
    )


def _sent_with(message: DeadLetter, kept: CopyProperties, now_ms: int) -> Headers:
    return sent_with(kept.came, message.headers, b"", copied=True, received_ms=now_ms).headers()


def deliveries(message: DeadLetter) -> int:
    """How often RabbitMQ says that it was delivered before; a quorum queue with a limit drops by this number."""
    counts = (message.headers.get(name) for name in h.DELIVERY_COUNTS)
    return max((count for count in counts if isinstance(count, int)), default=0)


def _same_class(wanted: str, found: str) -> bool:
    return wanted == found or wanted == found.rpartition(".")[2]


def _text(value: object) -> str:
    return text_of(bytes(value)) if isinstance(value, bytes | bytearray) else str(value)
