"""The property list of a copy that keeps its message whole. Pure.

All properties and headers stay as they stood in the content header of the message, byte by byte, but for those that
would change what becomes of the copy: RabbitMQ checks a user id against the login of whoever publishes (a foreign one
closes the channel), so it travels as a header, and a cluster id is no client's to set.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from rabbitray.actors.message.headers import USER_ID
from rabbitray.actors.rabbitmq.properties import Properties, headers_where

_HEADERS, _DELIVERY_MODE, _MESSAGE_ID, _USER_ID, _CLUSTER_ID = (1 << bit for bit in (13, 12, 7, 4, 2))
_TABLE, _SHORT = -1, 0  # how long a field is: by the length before it, or so many bytes
_FIELDS: Final = (
    *((1 << 15, _SHORT), (1 << 14, _SHORT), (_HEADERS, _TABLE), (_DELIVERY_MODE, 1), (1 << 11, 1), (1 << 10, _SHORT)),
    *((1 << 9, _SHORT), (1 << 8, _SHORT), (_MESSAGE_ID, _SHORT), (1 << 6, 8), (1 << 5, _SHORT), (_USER_ID, _SHORT)),
    *((1 << 3, _SHORT), (_CLUSTER_ID, _SHORT)),
)
"""The flags of the basic properties and their fields, in the order in which they stand (AMQP 0-9-1, 4.2.6.1)."""

_PERSISTENT: Final = b"\x02"
_FLAGS = struct.Struct(">H")
_SIZE = struct.Struct(">I")


def whole_copy(properties: Properties, stays: Callable[[str], bool], *, message_id: str) -> bytes | None:
    """The property list of a persistent copy, flags first, with the headers that `stays` takes by name.

    `message_id`: of a message that has none. None where the list, or one of the headers, cannot be told apart: a copy
    would not be the same.
    """
    fields = _fields_of(properties.raw)
    if fields is None:
        return None
    entries, lost = headers_where(properties, stays)
    if lost:
        return None
    if user := fields.pop(_USER_ID, None):
        entries += _entry(USER_ID, user[1:])
    fields.pop(_CLUSTER_ID, None)
    if entries or _HEADERS in fields:
        fields[_HEADERS] = _SIZE.pack(len(entries)) + entries
    fields[_DELIVERY_MODE] = _PERSISTENT
    fields.setdefault(_MESSAGE_ID, _short(message_id.encode()))
    present = [flag for flag, _ in _FIELDS if flag in fields]
    return _FLAGS.pack(sum(present)) + b"".join(fields[flag] for flag in present)


def _fields_of(raw: bytes) -> dict[int, bytes] | None:
    """Each property that is there, as it stands; None for a list that ends too early or goes on."""
    found: dict[int, bytes] = {}
    try:
        flags, at = _FLAGS.unpack_from(raw)[0], _FLAGS.size
        for flag, size in _FIELDS:
            if not flags & flag:
                continue
            end = at + _SIZE.size + _SIZE.unpack_from(raw, at)[0] if size == _TABLE else at + (size or 1 + raw[at])
            found[flag], at = raw[at:end], end
    except (IndexError, struct.error):
        return None
    return found if at == len(raw) and not flags & 0x0003 else None


def _entry(name: str, value: bytes) -> bytes:
    return _short(name.encode()) + b"S" + _SIZE.pack(len(value)) + value


def _short(text: bytes) -> bytes:
    return bytes((len(text),)) + text
