"""The properties of a message, read from the bytes of its content header: whatever they are, none of them raises.

Deliveries, messages that were got and messages that came back are all read here; pamqp, which closes the connection
for what it cannot read, never sees them (`frame_guard`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

import msgspec

from rabbitray.actors.message.headers import text_of
from rabbitray.actors.message.properties.field_table import Table, UnreadableError, entries, read_table

MOST_TABLE_BYTES: Final = 256 * 1024
"""A frame of RabbitMQ has 128 KiB, where nobody set another size."""

_PLAIN: Final = 0xF080  # content type and encoding, headers, delivery mode, message id
_TIME: Final = 0x0040
_HEADERS: Final = 0x2000
_PRIORITY: Final = 0x0800

_FLAGS = struct.Struct(">H")
_LONG = struct.Struct(">Q")
_SIZE = struct.Struct(">I")
_ENDS_EARLY = "the properties end too early"


class Properties(msgspec.Struct, gc=False, kw_only=True):
    """The basic properties that we use. `timestamp`: Unix seconds, or what the producer took for them.

    `raw`: all properties as they stood in the content header, flags first. In it the header table has `header_bytes`
    from `table_at` on. `unreadable`: why the headers or properties are not all here, None as a rule.
    """

    content_type: str | None = None
    content_encoding: str | None = None
    headers: Table | None = None
    message_id: str | None = None
    timestamp: int | None = None
    header_bytes: int = 0
    table_at: int = 0
    raw: bytes = b""
    unreadable: str | None = None


def read_properties(
    data: bytes | bytearray, at: int, end: int, flags: int, *, most_table: int = MOST_TABLE_BYTES
) -> Properties:
    """The property list of a content header from `at` to `end` (AMQP 0-9-1, 4.2.6.1), in the order of its flags.

    The two bytes before `at` are the flags. Raises nothing; what cannot be read is told in `unreadable`.
    A header table of more than `most_table` bytes is not read.
    """
    raw = bytes(data[at - 2 : end])
    found = Properties(raw=raw)
    at = 2
    try:
        if flags & 0x8000:
            found.content_type, at = _text(raw, at)
        if flags & 0x4000:
            found.content_encoding, at = _text(raw, at)
        if flags & 0x2000:
            at = _read_headers(found, raw, at, most_table)
        at += bool(flags & 0x1000) + bool(flags & 0x0800)  # delivery mode, priority
        if flags & 0x0700:
            for bit in (0x0400, 0x0200, 0x0100):  # correlation id, reply to, expiration
                if flags & bit:
                    at += 1 + raw[at]
        if flags & 0x0080:
            found.message_id, at = _text(raw, at)
        if flags & 0x0040:
            (found.timestamp,) = _LONG.unpack_from(raw, at)
        if at > len(raw):
            found.unreadable = found.unreadable or _ENDS_EARLY
        elif flags & 0x0001:
            found.unreadable = found.unreadable or "properties that AMQP does not know"
    except (IndexError, struct.error):
        found.unreadable = found.unreadable or _ENDS_EARLY
    return found


def from_raw(raw: bytes | bytearray) -> Properties:
    """The properties of which `raw` is all there was, flags first."""
    if len(raw) < 2:
        return Properties(raw=bytes(raw), unreadable=_ENDS_EARLY)
    return read_properties(raw, 2, len(raw), _FLAGS.unpack_from(raw)[0])


def is_plain(properties: Properties, *, stamped: bool) -> bool:
    """Whether there is nothing but what tells how to read and name a message. `stamped`: a header has its time."""
    return not int.from_bytes(properties.raw[:2], "big") & ~(_PLAIN | _TIME if stamped else _PLAIN)


def priority_of(properties: Properties) -> int | None:
    """The priority that a message has; None for none, and where the properties end too early."""
    raw = properties.raw
    flags, at = int.from_bytes(raw[:2], "big"), properties.table_at + properties.header_bytes
    if not flags & _PRIORITY or properties.unreadable == _ENDS_EARLY or (flags & _HEADERS and not at):
        return None
    if not at:
        at = 2
        for bit in (0x80, 0x40):  # content type, content encoding
            at += 1 + raw[at] if raw[0] & bit else 0
    at += bool(raw[0] & 0x10)  # delivery mode
    return raw[at] if at < len(raw) else None


def headers_where(properties: Properties, stays: Callable[[str], bool], *, readable: bool = False) -> tuple[bytes, int]:
    """The entries of the header table that `stays` takes by name, as they stood there, and how many others it took.

    `readable`: only those that can be read; the others that `stays` takes are counted. Behind an entry whose end is
    not known, and behind MOST_VALUES, nothing is found. Names that are not UTF-8 reach `stays` with surrogate escapes.
    """
    raw, start = properties.raw, properties.table_at
    kept: list[bytes] = []
    left = 0
    try:
        for entry in entries(raw, start, start + properties.header_bytes):
            if not stays(entry.name.decode("utf-8", "surrogateescape")):
                continue
            if readable and read_table(raw, entry.start, entry.end)[1] is not None:
                left += 1
            else:
                kept.append(raw[entry.start : entry.end])
    except UnreadableError:
        left += 1
    return b"".join(kept), left


def header_names(properties: Properties) -> list[str]:
    """The names in the header table, as `headers_where` has them, also of a table that was not read."""
    names: list[str] = []

    def note(name: str) -> bool:
        names.append(name)
        return False

    headers_where(properties, note)
    return names


def _read_headers(found: Properties, raw: bytes, at: int, most: int) -> int:
    """Reads the header table whose length stands at `at`; returns where it ends."""
    size: int = _SIZE.unpack_from(raw, at)[0]
    start, end = at + 4, at + 4 + size
    if end > len(raw):
        found.unreadable = "a header table that goes beyond its frame"
        return end
    if size > most:
        found.unreadable = f"a header table of {size:,} bytes"
    elif size:
        found.headers, found.unreadable = read_table(raw, start, end)
    found.header_bytes, found.table_at = size, start
    return end


def _text(raw: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + raw[at]
    return text_of(raw[at + 1 : end]), end
