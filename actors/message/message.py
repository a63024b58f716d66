"""Message: a message as its producer sent it, for handlers and decoders that ask for more than its payload. Pure.

Envelope is what it is made from in the worker. It travels there only for who asks; nobody else pays for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.properties import fields as f
from rabbitray.actors.message.properties.fields import fields_of, number_in, text_in
from rabbitray.actors.message.properties.property_list import from_raw
from rabbitray.actors.message.properties.sent_with import sent_with

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Envelope(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """What AMQP says of a message beside its body, as it stood there.

    `raw`: the property list, flags first; `route`: see `read_route`. `copied`: it came the way that our copies come, so
    what headers of ours say that it was sent with is believed.
    """

    raw: bytes
    route: bytes
    redelivered: bool
    copied: bool = True


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message as its producer sent it, also when it comes back as a copy of ours. Frozen.

    - `body`: the bytes on the wire; `content_type` and `content_encoding` say how to read them.
    - `headers`: the producer's, by name; none of RabbitMQ's death records, none of ours.
    - `exchange`, `routing_key`: that it was first sent with.
    - `user_id`: RabbitMQ has checked it, unless this is a copy: then a header says it, see docs/security.md.
    - `message_id`, `type`, `correlation_id`, `reply_to`, `app_id`, `priority`: AMQP's properties, None where there is
      none. A copy of a message without an id has one of ours.
    - `timestamp`: as its producer wrote it, which AMQP means to be seconds since 1970.
    - `expires_at`: when its producer wanted it to expire, counted from its first delivery; None for never.
    - `redelivered`: this delivery is not the first one; `delivery_count`: how often RabbitMQ says that it was delivered
      before (quorum queues only, else 0).
    """

    body: bytes
    content_type: str | None = None
    content_encoding: str | None = None
    headers: Mapping[str, Any] = {}  # Any: AMQP header values
    exchange: str = ""
    routing_key: str = ""
    message_id: str | None = None
    type: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    app_id: str | None = None
    user_id: str | None = None
    priority: int | None = None
    timestamp: int | None = None
    expires_at: datetime | None = None
    redelivered: bool = False
    delivery_count: int = 0


def message_of(envelope: Envelope, body: bytes, received_ms: int) -> Message:
    """The message that this envelope and body are; what a copy of ours carries in headers is put back in its place."""
    fields = fields_of(envelope.raw) or {}
    table = from_raw(envelope.raw).headers or {}
    sent = sent_with(fields, table, envelope.route, copied=envelope.copied, received_ms=received_ms)
    return Message(
        body=body,
        content_type=text_in(fields, f.CONTENT_TYPE),
        content_encoding=text_in(fields, f.CONTENT_ENCODING),
        headers={name: value for name, value in h.clean_headers(table).items() if not name.startswith(h.OURS)},
        exchange=(sent.exchange or b"").decode("utf-8", "replace"),
        routing_key=(sent.routing_key or b"").decode("utf-8", "replace"),
        message_id=text_in(fields, f.MESSAGE_ID),
        type=text_in(fields, f.TYPE),
        correlation_id=text_in(fields, f.CORRELATION_ID),
        reply_to=text_in(fields, f.REPLY_TO),
        app_id=text_in(fields, f.APP_ID),
        user_id=None if sent.user_id is None else h.text_of(sent.user_id),
        priority=number_in(fields, f.PRIORITY),
        timestamp=number_in(fields, f.TIMESTAMP),
        expires_at=None if sent.expires_ms is None else _EPOCH + timedelta(milliseconds=sent.expires_ms),
        redelivered=envelope.redelivered,
        delivery_count=h.delivery_count(table),
    )
