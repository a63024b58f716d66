"""The property list of a message of a test, as its producer's client would have written it. Pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from rabbitray.actors.errors import EncodeError
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.message import Message
from rabbitray.actors.message.properties import fields as f
from rabbitray.actors.message.properties.property_list import from_raw, headers_where

_TEXTS: Final = (
    (f.CONTENT_TYPE, "content_type"),
    (f.CONTENT_ENCODING, "content_encoding"),
    (f.CORRELATION_ID, "correlation_id"),
    (f.REPLY_TO, "reply_to"),
    (f.MESSAGE_ID, "message_id"),
    (f.TYPE, "type"),
    (f.USER_ID, "user_id"),
    (f.APP_ID, "app_id"),
)
_LONG: Final = struct.Struct(">q")
_SECONDS: Final = struct.Struct(">Q")
_DOUBLE: Final = struct.Struct(">d")
_MOST_SHORT: Final = 255


def properties_of(message: Message) -> bytes:
    """Its properties, flags first. Raises EncodeError for what AMQP cannot carry."""
    try:
        fields = {flag: _short(text) for flag, name in _TEXTS if (text := getattr(message, name)) is not None}
        if table := _headers(message):
            fields[f.HEADERS] = _sized(_entries(table))
        if message.priority is not None:
            fields[f.PRIORITY] = bytes((message.priority,))
        if message.timestamp is not None:
            fields[f.TIMESTAMP] = _SECONDS.pack(message.timestamp)
    except (AttributeError, TypeError, ValueError, struct.error) as error:
        raise EncodeError(f"AMQP cannot carry this message: {error}") from error
    return _list_of(fields)


def properties_alone(raw: bytes, content_type: str) -> bytes:
    """Of a packed message those that the copy of one of its records has: all but how to read the body."""
    properties, fields = from_raw(raw), f.fields_of(raw) or {}
    fields.pop(f.CONTENT_ENCODING, None)
    fields[f.CONTENT_TYPE] = _short(content_type)
    if f.HEADERS in fields:
        fields[f.HEADERS] = _sized(headers_where(properties, lambda name: name != h.COMPRESSION)[0])
    return _list_of(fields)


def _list_of(fields: f.Fields) -> bytes:
    present = [flag for flag in f.ORDER if flag in fields]
    return f.FLAGS.pack(sum(present)) + b"".join(fields[flag] for flag in present)


def _headers(message: Message) -> dict[str, Any]:  # Any: AMQP header values
    """With what the broker, and a copy of ours, say of it in headers."""
    table = dict(message.headers)
    if message.delivery_count:
        table[h.DELIVERY_COUNTS[0]] = message.delivery_count
    if message.expires_at is not None:
        table[h.EXPIRES] = int(message.expires_at.timestamp() * 1_000)
    return table


def _entries(table: Mapping[str, Any]) -> bytes:  # Any: AMQP header values
    return b"".join(_short(name) + _value(value) for name, value in table.items())


def _value(value: Any) -> bytes:  # Any: AMQP header values
    """A value with its type first."""
    match value:
        case None:
            return b"V"
        case bool():
            return b"t" + bytes((value,))
        case int():
            return b"l" + _LONG.pack(value)
        case float():
            return b"d" + _DOUBLE.pack(value)
        case str():
            return b"S" + _sized(value.encode())
        case bytes():
            return b"x" + _sized(value)
        case datetime():
            return b"T" + _SECONDS.pack(int(value.timestamp()))
        case Mapping():
            return b"F" + _sized(_entries(value))
        case list() | tuple():
            return b"A" + _sized(b"".join(map(_value, value)))
        case _:
            raise TypeError(f"a header cannot be a {type(value).__name__}")


def _sized(raw: bytes) -> bytes:
    return f.SIZE.pack(len(raw)) + raw


def _short(text: str) -> bytes:
    raw = text.encode()
    if len(raw) > _MOST_SHORT:
        raise ValueError(f"{text[:40]!r}... has {len(raw)} bytes, at most {_MOST_SHORT}")
    return bytes((len(raw),)) + raw
