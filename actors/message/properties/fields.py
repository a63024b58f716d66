"""The basic properties in a content header, each as it stands there, and those that are looked at seldom. Pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from rabbitray.actors.message.headers import text_of

CONTENT_TYPE, CONTENT_ENCODING, HEADERS, DELIVERY_MODE = 1 << 15, 1 << 14, 1 << 13, 1 << 12
PRIORITY, CORRELATION_ID, REPLY_TO, EXPIRATION = 1 << 11, 1 << 10, 1 << 9, 1 << 8
MESSAGE_ID, TIMESTAMP, TYPE, USER_ID, APP_ID, CLUSTER_ID = 1 << 7, 1 << 6, 1 << 5, 1 << 4, 1 << 3, 1 << 2
"""The flag of each property."""

_TABLE, _SHORT = -1, 0  # how long a field is: by the length before it, or so many bytes
_LENGTHS: Final = {HEADERS: _TABLE, DELIVERY_MODE: 1, PRIORITY: 1, TIMESTAMP: 8}

ORDER: Final = (
    *(CONTENT_TYPE, CONTENT_ENCODING, HEADERS, DELIVERY_MODE, PRIORITY, CORRELATION_ID, REPLY_TO, EXPIRATION),
    *(MESSAGE_ID, TIMESTAMP, TYPE, USER_ID, APP_ID, CLUSTER_ID),
)
"""The order in which they stand (AMQP 0-9-1, 4.2.6.1)."""

FLAGS: Final = struct.Struct(">H")
SIZE: Final = struct.Struct(">I")
LONG: Final = struct.Struct(">Q")

SHORT_MOST: Final = 255
"""Bytes of a text that is a property."""

Fields = dict[int, bytes]
"""Each property that is there by its flag: a text or table with its length before it."""


def fields_of(raw: bytes) -> Fields | None:
    """The properties of which `raw` is all there was, flags first; None for a list that ends too early or goes on."""
    found: Fields = {}
    try:
        flags, at = FLAGS.unpack_from(raw)[0], FLAGS.size
        for flag in ORDER:
            if not flags & flag:
                continue
            size = _LENGTHS.get(flag, _SHORT)
            end = at + SIZE.size + SIZE.unpack_from(raw, at)[0] if size == _TABLE else at + (size or 1 + raw[at])
            found[flag], at = raw[at:end], end
    except (IndexError, struct.error):
        return None
    return found if at == len(raw) and not flags & 0x0003 else None


def short_text_at(raw: bytes, wanted: int) -> bytes:
    """One short text, by its flag; empty where there is none, and where the list ends before it does."""
    flags, at = int.from_bytes(raw[: FLAGS.size], "big"), FLAGS.size
    if not flags & wanted:
        return b""
    try:
        for flag in ORDER:
            if flag == wanted:
                end = at + 1 + raw[at]
                return raw[at + 1 : end] if end <= len(raw) else b""
            if flags & flag:
                size = _LENGTHS.get(flag, _SHORT)
                at += SIZE.size + SIZE.unpack_from(raw, at)[0] if size == _TABLE else size or 1 + raw[at]
    except (IndexError, struct.error):
        pass
    return b""


def short(text: bytes) -> bytes:
    """A text as it stands among the properties; of at most SHORT_MOST bytes."""
    return bytes((len(text),)) + text


def text_in(fields: Mapping[int, bytes], flag: int) -> str | None:
    """A property that is a text; None where there is none, or an empty one."""
    return text_of(fields[flag][1:]) or None if flag in fields else None


def number_in(fields: Mapping[int, bytes], flag: int) -> int | None:
    """A property that is a number, without a sign; None where there is none."""
    return int.from_bytes(fields[flag], "big") if flag in fields else None
