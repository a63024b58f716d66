"""Returned: a message that the broker could not route, and whether it is one that we sent. Pure.

A message id does not tell which one came back: producers choose theirs, and copies keep them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rabbitray.actors.message.properties.property_list import Properties, from_raw
from rabbitray.actors.publisher.amqp.frames import CONTENT_BYTES, publish_method
from rabbitray.actors.publisher.message import Outgoing
from rabbitray.actors.rabbitmq.frame_guard import original

if TYPE_CHECKING:
    from aiormq.abc import DeliveredMessage
    from pamqp.commands import Basic


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """A message as it came back. `method`: the payload of the `basic.publish` that would send it there again."""

    method: bytes
    properties: Properties
    body: bytes
    reason: str

    @classmethod
    def read(cls, frame: Basic.Return, message: DeliveredMessage) -> Returned:
        """What a `basic.return` brought, over a guarded connection."""
        return cls(
            method=publish_method(frame.exchange or "", frame.routing_key or ""),
            properties=original(message.header.properties),
            body=message.body,
            reason=f"{frame.reply_code} {frame.reply_text}",
        )

    def among(self, in_flight: Mapping[int, Outgoing], tags: Iterable[int]) -> list[int]:
        """The tag of the first message that it equals; else of all that have its id: better sent twice than lost."""
        same_id: dict[int, None] = {}
        for tag in tags:
            out = in_flight.get(tag)
            if out is None or out.returned is not None or out.message_id != self.properties.message_id:
                continue
            if self.equals(out):
                return [tag]
            same_id[tag] = None
        return list(same_id)

    def equals(self, out: Outgoing) -> bool:
        """Whether it is this one by destination, body, kind and headers: two that agree are interchangeable."""
        if (out.method, out.body) != (self.method, self.body):
            return False
        raw = out.header[CONTENT_BYTES:]
        return raw == self.properties.raw or _told(from_raw(raw)) == _told(self.properties)


def _told(properties: Properties) -> tuple[object, ...]:
    """What tells one message from another, however a broker wrote it: what is unreadable counts as it stands there."""
    unreadable = properties.raw if properties.unreadable else None
    return properties.content_type, properties.content_encoding, properties.headers or {}, unreadable
