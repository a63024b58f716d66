"""The properties of a message, read from the bytes of its content header."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
from pamqp import decode
from pamqp.exceptions import PAMQPException

Table = dict[str, Any]  # Any: AMQP field values

_LONG = struct.Struct(">Q")
_SIZE = struct.Struct(">I")
_TEXT = ord("S")
_WHOLE = {"b": ">b", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q"}  # field types that pamqp writes
_NUMBERS = {ord(kind): struct.Struct(form) for kind, form in _WHOLE.items()}

UNREADABLE = (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError, struct.error, PAMQPException)
"""What bytes that are no AMQP can raise here; aiormq reads them again and says what is wrong."""


class Properties(msgspec.Struct, gc=False, kw_only=True):
    """The basic properties that we use. `timestamp`: Unix seconds; `header_bytes`: what the table took in its frame."""

    content_type: str | None = None
    content_encoding: str | None = None
    headers: Table | None = None
    message_id: str | None = None
    timestamp: int | None = None
    header_bytes: int = 0


def read_properties(data: bytearray, at: int, end: int, flags: int) -> Properties:
    """The property list of a content header that ends at `end` (AMQP 0-9-1, 4.2.6.1), in the order of its flags."""
    found = Properties()
    if flags & 0x8000:
        found.content_type, at = _text(data, at)
    if flags & 0x4000:
        found.content_encoding, at = _text(data, at)
    if flags & 0x2000:
        (size,) = _SIZE.unpack_from(data, at)
        if at + 4 + size > end:
            raise ValueError("a header table beyond its frame")
        if size:
            found.headers = read_table(data, at, size)
            found.header_bytes = size
        at += 4 + size
    at += bool(flags & 0x1000) + bool(flags & 0x0800)  # delivery mode, priority
    for bit in (0x0400, 0x0200, 0x0100):  # correlation id, reply to, expiration
        if flags & bit:
            at += 1 + data[at]
    if flags & 0x0080:
        found.message_id, at = _text(data, at)
    if flags & 0x0040:
        (found.timestamp,) = _LONG.unpack_from(data, at)
    return found


def read_table(data: bytearray, start: int, size: int) -> Table:
    """The field table of `size` bytes behind its length at `start`, all of them in `data`.

    Texts and whole numbers, which are what our publisher and every tracer write, are read here in a third of pamqp's
    time; a table with anything else, or one that is damaged, is left to pamqp as a whole.
    """
    found: Table = {}
    at, end = start + 4, start + 4 + size
    try:
        while at < end:
            kind = at + 1 + data[at]
            name = data[at + 1 : kind].decode()
            if data[kind] == _TEXT:
                text = kind + 5
                at = text + _SIZE.unpack_from(data, kind + 1)[0]
                found[name] = data[text:at].decode()
            elif number := _NUMBERS.get(data[kind]):
                (found[name],) = number.unpack_from(data, kind + 1)
                at = kind + 1 + number.size
            else:
                break
    except (IndexError, struct.error, UnicodeDecodeError):
        at = -1
    return found if at == end else decode.field_table(bytes(memoryview(data)[start:end]))[1]


def _text(data: bytearray, at: int) -> tuple[str, int]:
    end = at + 1 + data[at]
    return data[at + 1 : end].decode("utf-8", "replace"), end
