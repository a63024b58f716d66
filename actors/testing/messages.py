"""What may be handed to `work`, as the parcel that a worker would get. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.headers import JSON, MSGPACK
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.keys import Found, KeyRule, converted_id, key_in_delivery
from rabbitray.actors.message.parcel import Parcel
from rabbitray.actors.message.wire import encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as any producer may have sent it.

    - `body`: the bytes on the wire; `content_type` and `content_encoding` say how to read them.
    - `message_id`, `correlation_id`, `type`, `app_id`, `reply_to`, `user_id`: AMQP's properties.
    - `headers`: by name.
    - `key`: the header with the idempotency key.
    - `attempt`: the header with the charged runs before this one; None: no header, the body says it.
    """

    body: bytes
    content_type: str = MSGPACK
    content_encoding: str = ""
    message_id: str | None = None
    correlation_id: str | None = None
    type: str | None = None
    app_id: str | None = None
    reply_to: str | None = None
    user_id: str | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)  # Any: AMQP header values
    key: str | None = None
    attempt: int | None = None


def parcel_of(message: Job | Message | Mapping[str, Any] | bytes, rule: KeyRule) -> Parcel:  # Any: a JSON document
    """A message of a test as it would arrive. Raises EncodeError for a job that cannot be sent."""
    match message:
        case Message():
            return _raw(message, rule)
        case Job():
            body, content_type = encode(message)
            attempt = message.attempt or None
            sent = Message(body=body, content_type=content_type, message_id=message.id, key=message.key)
            return msgspec.structs.replace(_raw(sent, rule), attempt=-1 if attempt is None else attempt)
        case bytes():
            return _raw(Message(body=message), rule)
        case _:
            return _raw(Message(body=msgspec.json.encode(message), content_type=JSON), rule)


def _raw(message: Message, rule: KeyRule) -> Parcel:
    table = dict(message.headers) | ({h.KEY: message.key} if message.key else {})
    table |= {} if message.attempt is None else {h.ATTEMPT: message.attempt}
    message_id = message.message_id or converted_id(table)
    found = Found(key=h.header_text(table.get(h.KEY)))
    if rule.place != "default":
        found = key_in_delivery(rule, table, message, message_id)
    now_ms = time.time_ns() // 1_000_000
    return Parcel(
        body=message.body,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        message_id=message_id,
        key=found.key,
        attempt=-1 if message.attempt is None else message.attempt,
        first_seen_ms=now_ms,
        published_ms=now_ms,
        received_ms=now_ms,
        traceparent=None,
        tracestate=None,
        missing=found.missing,
    )
