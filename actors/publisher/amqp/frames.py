"""AMQP 0-9-1 publish frames as bytes. Pure.

The one place where we write frames ourselves. aiormq builds three objects, a task and a future for each
publish, which costs more than the broker does; here a publish is three `bytes.join`. Layout: AMQP 0-9-1,
4.2.3 and 4.2.6; tables by pamqp, which knows RabbitMQ's field types.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Any, Final

from pamqp import encode as amqp

from rabbitray.actors.errors import EncodeError
from rabbitray.actors.message.headers import PUBLISHED

_METHOD, _HEADER, _BODY = 1, 2, 3
_END: Final = b"\xce"
_FRAME: Final = Struct(">BHI")
_BASIC_PUBLISH: Final = b"\x00\x3c\x00\x28\x00\x00"  # class 60, method 40, reserved
_MANDATORY: Final = b"\x01"
_CONTENT: Final = Struct(">HHQ")
_BASIC: Final = 60
_OVERHEAD: Final = 8  # frame head and end
_HAS: Final = Struct(">H")
_CONTENT_TYPE, _CONTENT_ENCODING, _HEADERS, _DELIVERY_MODE, _MESSAGE_ID, _TIMESTAMP = (
    1 << bit for bit in (15, 14, 13, 12, 7, 6)
)
_PERSISTENT: Final = b"\x02"
_SECONDS: Final = Struct(">Q")
_MS: Final = Struct(">q")
_ONLY_PUBLISHED: Final = (len(PUBLISHED) + 10).to_bytes(4, "big") + bytes([len(PUBLISHED)]) + PUBLISHED.encode() + b"l"
"""A header table that holds nothing but the time of publishing; its 8 bytes follow."""


def publish_method(exchange: str, routing_key: str) -> bytes:
    """Return the payload of `basic.publish`, mandatory. Raises EncodeError for names over 255 bytes."""
    return b"".join((_BASIC_PUBLISH, _short(exchange), _short(routing_key), _MANDATORY))


def published_only(published_ms: int) -> bytes:
    """Return the header table `{x-rabbitray-published: published_ms}`, the usual one."""
    return _ONLY_PUBLISHED + _MS.pack(published_ms)


def table(headers: Mapping[str, Any]) -> bytes:  # Any: AMQP header values
    """Return a header table. Raises EncodeError for a value that AMQP cannot carry."""
    try:
        try:
            return amqp.field_table(dict(headers))
        except TypeError:  # bytes, which pamqp reads but does not write
            return amqp.field_table({name: _writable(value) for name, value in headers.items()})
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EncodeError(f"message headers: {error}") from error


def content_header(
    *,
    body_size: int,
    headers: bytes,
    message_id: str,
    timestamp_s: int,
    content_type: str | None,
    content_encoding: str | None = None,
) -> bytes:
    """Return the payload of the content header frame: persistent, with the given properties."""
    flags = _HEADERS | _DELIVERY_MODE | _MESSAGE_ID | _TIMESTAMP
    parts = [_CONTENT.pack(_BASIC, 0, body_size), b""]
    if content_type is not None:
        flags |= _CONTENT_TYPE
        parts.append(_short(content_type))
    if content_encoding is not None:
        flags |= _CONTENT_ENCODING
        parts.append(_short(content_encoding))
    parts += (headers, _PERSISTENT, _short(message_id), _SECONDS.pack(timestamp_s))
    parts[1] = _HAS.pack(flags)
    return b"".join(parts)


def append_publish(out: list[bytes], channel: int, method: bytes, header: bytes, body: bytes, frame_max: int) -> None:
    """Append the frames of one publish on `channel` to `out`; a long body is cut to `frame_max` (0: any size)."""
    out += (_FRAME.pack(_METHOD, channel, len(method)), method, _END)
    out += (_FRAME.pack(_HEADER, channel, len(header)), header, _END)
    size = len(body)
    if 0 < size <= frame_max - _OVERHEAD:
        out += (_FRAME.pack(_BODY, channel, size), body, _END)
    elif size:
        append_body(out, channel, body, frame_max)


def append_body(out: list[bytes], channel: int, body: bytes, frame_max: int) -> None:
    """Append the frames of a body, or of a piece of one, cut to `frame_max` (0: any size)."""
    limit = frame_max - _OVERHEAD if frame_max else len(body)
    for start in range(0, len(body), limit):
        part = body[start : start + limit]
        out += (_FRAME.pack(_BODY, channel, len(part)), part, _END)


def header_fits(header: bytes, frame_max: int) -> bool:
    """Whether a content header goes into one frame of this connection, which it must (0: any size)."""
    return not frame_max or len(header) + _OVERHEAD <= frame_max


def _writable(value: Any) -> Any:  # Any: AMQP header values
    if isinstance(value, bytes):
        return bytearray(value)
    if isinstance(value, Mapping):
        return {name: _writable(inner) for name, inner in value.items()}
    return [_writable(inner) for inner in value] if isinstance(value, list | tuple) else value


def _short(text: str) -> bytes:
    raw = text.encode()
    if len(raw) > 255:
        raise EncodeError(f"{text[:40]!r}...: {len(raw)} bytes, AMQP allows 255")
    return bytes((len(raw),)) + raw
