"""What kombu packs a message in: its serializers, the envelope of its other transports, its types in JSON. Pure.

JSON and msgpack are read; a pickle never.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import date, datetime
from datetime import time as daytime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from msgspec.structs import replace

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.formats.fields import require_text, text
from rabbitray.actors.message.formats.plain import read_json
from rabbitray.actors.message.headers import COMPRESSION, content_kind
from rabbitray.actors.message.message import Message
from rabbitray.actors.message.wire import MessageLimits, with_compression
from rabbitray.actors.message.wire.compression import plain_body
from rabbitray.actors.message.wire.decode import JSON_TYPES, MSGPACK_TYPES, PICKLE_TYPES
from rabbitray.actors.message.wire.documents import unpack

_TYPE: Final = b"__type__"
_TYPED: Final = {"__type__", "__value__"}
_TEXT_MOST: Final = 4_300  # digits, as many as Python reads of a number
_TYPES: Final[dict[str, Callable[[Any], Any]]] = {  # Any: JSON values
    "bytes": lambda value: value.encode(),
    "base64": lambda value: base64.b64decode(value),
    "datetime": datetime.fromisoformat,
    "date": lambda value: date.fromisoformat(value[:10]),
    "time": daytime.fromisoformat,
    "decimal": lambda value: Decimal(value[:_TEXT_MOST]),
    "uuid": lambda value: UUID(hex=value["hex"]),
}
"""How kombu writes, as `{"__type__": ..., "__value__": ...}`, what JSON has no form for."""


def read_document(body: bytes, message: Message, limits: MessageLimits) -> tuple[Any, Message]:  # Any: as it was sent
    """The document in a message, and the message that it is in: itself, or the one in its envelope."""
    document = _read(body, message, limits)
    if isinstance(document, dict) and isinstance(document.get("properties"), dict) and "body" in document:
        body, message = _out_of(document, message, limits)
        document = _read(body, message, limits)
    return document, message


def _read(body: bytes, message: Message, limits: MessageLimits) -> Any:  # Any: as above
    kind = content_kind(message.content_type)
    if kind in PICKLE_TYPES:
        raise DecodeError("pickle_refused", f"{kind}: nothing is ever unpickled; let its producer send JSON")
    if kind in MSGPACK_TYPES:
        return unpack(body, limits)
    if kind and kind not in JSON_TYPES:
        raise DecodeError("unsupported_content_type", f"{kind[:100]}: of kombu's serializers JSON and msgpack are read")
    document = read_json(body, message, limits)
    return _untyped(document) if _TYPE in body else document


def _out_of(envelope: dict[str, Any], outer: Message, limits: MessageLimits) -> tuple[bytes, Message]:  # Any: JSON
    """Body and message in what kombu sends where a broker has no properties (Redis, SQS), moved on to RabbitMQ."""
    headers = envelope.get("headers") or {}
    if not isinstance(headers, dict):
        raise DecodeError("bad_field", "headers: a map")
    body = require_text(envelope["body"], "body").encode("utf-8", "surrogatepass")
    if envelope["properties"].get("body_encoding") == "base64":
        body = _from_base64(body)
    encoding = text(envelope.get("content-encoding"), "content-encoding") or ""
    inner = replace(
        outer,
        content_type=text(envelope.get("content-type"), "content-type"),
        content_encoding=encoding or None,
        headers=headers,
        correlation_id=text(envelope["properties"].get("correlation_id"), "correlation_id"),
    )
    return plain_body(body, with_compression(encoding, headers.get(COMPRESSION)), limits), inner


def _from_base64(body: bytes) -> bytes:
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise DecodeError("bad_base64", str(error)[:200]) from None


def _untyped(value: Any) -> Any:  # Any: JSON values
    """A document with kombu's types in the place of how it writes them; those that it does not know stay."""
    if isinstance(value, list):
        return [_untyped(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == _TYPED and (read := _TYPES.get(value["__type__"]) if _is_text(value["__type__"]) else None):
        try:
            return read(value["__value__"])
        except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
            raise DecodeError("bad_field", f"{value['__type__']}: {type(error).__name__}") from None
    return {name: _untyped(item) for name, item in value.items()}


def _is_text(value: Any) -> bool:  # Any: JSON values
    return isinstance(value, str)
