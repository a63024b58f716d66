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
from rabbitray.actors.message.properties.route import read_route

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Envelope(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """What AMQP says of a message beside its body, as it stood there.

    `raw`: the property list, flags first; `route`: see `read_route`.
    """

    raw: bytes
    route: bytes
    redelivered: bool


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message as its producer sent it, also when it comes back as a copy of ours. Frozen.

    - `body`: the bytes on the wire; `content_type` and `content_encoding` say how to read them.
    - `headers`: the producer's, by name; none of RabbitMQ's death records, none of ours.
    - `exchange`, `routing_key`: that it was first sent with.
    - `message_id`, `type`, `correlation_id`, `reply_to`, `app_id`, `user_id`, `priority`: AMQP's properties, None where
      there is none.
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
    exchange, routing_key = read_route(envelope.route)
    return Message(
        body=body,
        content_type=text_in(fields, f.CONTENT_TYPE),
        content_encoding=text_in(fields, f.CONTENT_ENCODING),
        headers={name: value for name, value in h.clean_headers(table).items() if not name.startswith(h.OURS)},
        exchange=_put_back(table, h.EXCHANGE, exchange),
        routing_key=_put_back(table, h.ROUTING_KEY, routing_key),
        message_id=text_in(fields, f.MESSAGE_ID),
        type=text_in(fields, f.TYPE),
        correlation_id=text_in(fields, f.CORRELATION_ID),
        reply_to=text_in(fields, f.REPLY_TO),
        app_id=text_in(fields, f.APP_ID),
        user_id=text_in(fields, f.USER_ID) or h.header_text(table.get(h.USER_ID)),
        priority=number_in(fields, f.PRIORITY),
        timestamp=number_in(fields, f.TIMESTAMP),
        expires_at=_expires_at(table, text_in(fields, f.EXPIRATION), received_ms),
        redelivered=envelope.redelivered,
        delivery_count=h.delivery_count(table),
    )


def _put_back(table: Mapping[str, Any], name: str, stands: str) -> str:  # Any: AMQP header values
    """What a copy carries in this header; else what stands in the delivery. An empty exchange is one, too."""
    value = table.get(name)
    return value if isinstance(value, str) else stands


def _expires_at(table: Mapping[str, Any], expiration: str | None, received_ms: int) -> datetime | None:
    """`expiration`: milliseconds, as AMQP has them: a text."""
    moment = table.get(h.EXPIRES)
    if not isinstance(moment, int) or isinstance(moment, bool):
        if expiration is None or not expiration.isascii() or not expiration.isdigit():
            return None
        moment = received_ms + int(expiration)
    try:
        return _EPOCH + timedelta(milliseconds=moment)
    except OverflowError:
        return None
