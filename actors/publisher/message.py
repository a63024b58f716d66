"""EncodedMessage: one AMQP message to send; Outgoing: the same while it is on its way."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from rabbitray.actors.errors import UnroutableError


class Tracer(Protocol):
    """What a publisher needs for traces; `rabbitray.actors.telemetry.tracing.Tracing` is one."""

    def publish_span(self, destination: str, message_id: str, *, routing_key: str) -> AbstractContextManager[object]:
        """Return the span of one publish, to be entered around it."""

    def inject(self, headers: dict[str, Any]) -> None:  # Any: AMQP header values
        """Write the current trace context into message headers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedMessage:
    """One AMQP message as `Publisher.publish_message` sends it: persistent and mandatory.

    - `body`: as it goes onto the wire.
    - `message_id`: 1 to 255 UTF-8 bytes. After a loss it is sent again under the same id. Others may have it, too.
    - `exchange`, `routing_key`: where it goes.
    - `headers`: any AMQP field values. A float is a `d` (64 bits), bytes are an `x`, a datetime has whole seconds.
    - `entries`: header entries beside them, as they stand in a frame; nobody looks into them.
    - `content_type`, `content_encoding`: at most 255 bytes.
    - `timestamp_s`: Unix seconds.
    - `priority`: 0 to 255, None for none, which is not the same as 0.
    - `properties`: of a copy, the properties as its message had them, without the headers: each by its flag in AMQP's
      content header, as it stands there. Where they are given, `content_type`, `content_encoding`, `timestamp_s` and
      `priority` are not looked at, and the property `message_id` must say what the field says.
    """

    body: bytes
    message_id: str
    routing_key: str
    exchange: str = ""
    content_type: str | None = None
    content_encoding: str | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)  # Any: AMQP header values
    entries: bytes = b""
    timestamp_s: int = 0
    priority: int | None = None
    properties: Mapping[int, bytes] = field(default_factory=dict)


class Promise(Protocol):
    """How the caller learns what became of a message: an asyncio future, or a concurrent one."""

    def done(self) -> bool:
        """Whether it has a result, or nobody waits for one any more."""

    def set_result(self, result: None, /) -> None:
        """The message was confirmed."""

    def set_exception(self, exception: Exception, /) -> None:
        """The message was not confirmed, and why."""


class Outgoing:
    """A message on its way: its frames, its deadline, and the caller's future. Owned by one Pipeline.

    *Settled* (`promise` is None): the caller knows how it ended. *On the wire*: some channel waits for the
    broker's answer to it; it counts as outstanding until then, also when it timed out meanwhile, since its
    bytes may wait in the socket for as long.
    """

    __slots__ = (
        "body",
        "deadline",
        "header",
        "losses",
        "message_id",
        "method",
        "on_wire",
        "promise",
        "returned",
        "sent",
        "size",
        "started",
    )

    def __init__(self, *, method: bytes, header: bytes, body: bytes, message_id: str) -> None:
        self.method = method
        self.header = header
        self.body = body
        self.message_id = message_id
        self.size = len(body) + len(header)
        self.promise: Promise | None = None
        self.started = 0.0
        self.deadline = 0.0
        self.sent = False  # at least once, on whatever connection
        self.on_wire = False
        self.returned: str | None = None
        self.losses = 0  # how many channels the broker closed under it

    def unroutable(self) -> UnroutableError:
        """Why it is in no queue, and what to do."""
        return UnroutableError(
            f"message {self.message_id}: no queue takes it (RabbitMQ: {self.returned}); check the queue's name, start "
            "its pool first, or create it with `rabbitray publish --create`"
        )
