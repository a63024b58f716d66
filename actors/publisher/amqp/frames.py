"""AMQP 0-9-1 publish frames as bytes. Pure.

The one place where we write frames ourselves. aiormq builds three objects, a task and a future for each
publish, which costs more than the broker does; here a publish is three `bytes.join`. Layout: AMQP 0-9-1,
4.2.3, 4.2.5.5 and 4.2.6; numbers, decimals and times in tables by pamqp.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from struct import error as StructError
from typing import Any, Final

from pamqp import encode as amqp

from rabbitray.actors.errors import EncodeError
from rabbitray.actors.message.headers import PUBLISHED
from rabbitray.actors.message.properties import fields as f

_METHOD, _HEADER, _BODY = 1, 2, 3
_END: Final = b"\xce"
_FRAME: Final = Struct(">BHI")
_BASIC_PUBLISH: Final = b"\x00\x3c\x00\x28\x00\x00"  # class 60, method 40, reserved
_MANDATORY: Final = b"\x01"
_CONTENT: Final = Struct(">HHQ")
CONTENT_BYTES: Final = _CONTENT.size
"""Of a content header, before its properties."""

_BASIC: Final = 60
_OVERHEAD: Final = 8  # frame head and end
_PERSISTENT: Final = b"\x02"
_SECONDS: Final = Struct(">Q")
_MS: Final = Struct(">q")
_LONG: Final = Struct(">I")
_DOUBLE: Final = Struct(">d")
_ONLY_PUBLISHED: Final = (len(PUBLISHED) + 10).to_bytes(4, "big") + bytes([len(PUBLISHED)]) + PUBLISHED.encode() + b"l"
"""A header table that holds nothing but the time of publishing; its 8 bytes follow."""


def publish_method(exchange: str, routing_key: str) -> bytes:
    """Return the payload of `basic.publish`, mandatory. Raises EncodeError for names over 255 bytes."""
    return b"".join((_BASIC_PUBLISH, _short(exchange), _short(routing_key), _MANDATORY))


def published_only(published_ms: int) -> bytes:
    """Return the header table `{x-rabbitray-published: published_ms}`, the usual one."""
    return _ONLY_PUBLISHED + _MS.pack(published_ms)


def table(headers: Mapping[str, Any], entries: bytes = b"") -> bytes:  # Any: AMQP header values
    """Return a header table, with `entries` behind those of `headers` as they are.

    Raises EncodeError for a value that AMQP cannot carry.
    """
    try:
        table = _entries(headers) + entries
        return _LONG.pack(len(table)) + table
    except (TypeError, ValueError, OverflowError, RecursionError, StructError) as error:
        raise EncodeError(f"message headers: {error}") from error


def content_header(
    *,
    body_size: int,
    headers: bytes,
    message_id: str,
    timestamp_s: int,
    content_type: str | None,
    content_encoding: str | None = None,
    priority: int | None = None,
) -> bytes:
    """Return the payload of the content header frame: persistent, with the given properties."""
    flags = f.HEADERS | f.DELIVERY_MODE | f.MESSAGE_ID | f.TIMESTAMP
    parts = [_CONTENT.pack(_BASIC, 0, body_size), b""]
    if content_type is not None:
        flags |= f.CONTENT_TYPE
        parts.append(_short(content_type))
    if content_encoding is not None:
        flags |= f.CONTENT_ENCODING
        parts.append(_short(content_encoding))
    mode = _PERSISTENT
    if priority is not None:
        flags |= f.PRIORITY
        mode += bytes((priority,))
    parts += (headers, mode, _short(message_id), _SECONDS.pack(timestamp_s))
    parts[1] = f.FLAGS.pack(flags)
    return b"".join(parts)


def copied_header(body_size: int, properties: Mapping[int, bytes], headers: bytes) -> bytes:
    """Return the payload of the content header frame: persistent, with these headers and the properties of another
    message, by their flags."""
    fields = {**properties, f.HEADERS: headers, f.DELIVERY_MODE: _PERSISTENT}
    parts = [fields[flag] for flag in f.ORDER if flag in fields]
    return b"".join((_CONTENT.pack(_BASIC, 0, body_size), f.FLAGS.pack(sum(fields)), *parts))


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


def _entries(headers: Mapping[str, Any]) -> bytes:  # Any: AMQP header values
    return b"".join([part for name, value in headers.items() for part in (_name(name), _value(value))])


def _value(value: Any) -> bytes:  # Any: AMQP header values
    """A value with its type. pamqp would make a 32-bit float of a float, write no bytes and cut long names."""
    if isinstance(value, str):
        return _long(b"S", value.encode())
    if isinstance(value, float):
        return b"d" + _DOUBLE.pack(value)
    if isinstance(value, Mapping):
        return _long(b"F", _entries(value))
    if isinstance(value, list | tuple):
        return _long(b"A", b"".join([_value(one) for one in value]))
    if isinstance(value, bytes | bytearray):
        return _long(b"x", bytes(value))
    return amqp.encode_table_value(value)


def _long(kind: bytes, value: bytes) -> bytes:
    return kind + _LONG.pack(len(value)) + value


def _name(name: str) -> bytes:
    if not isinstance(name, str):
        raise TypeError(f"{name!r} is no name of a header")
    return _short(name)


def _short(text: str) -> bytes:
    raw = text.encode()
    if len(raw) > 255:
        raise EncodeError(f"{text[:40]!r}...: {len(raw)} bytes, AMQP allows 255")
    return bytes((len(raw),)) + raw
