"""The property list of a copy that keeps its message whole. Pure.

All properties and headers stay as they stood in the content header of the message, byte by byte, but for those that
would change what becomes of the copy: RabbitMQ checks a user id against the login of whoever publishes (a foreign one
closes the channel), so it travels as a header, and a cluster id is no client's to set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rabbitray.actors.message.headers import USER_ID
from rabbitray.actors.message.properties import fields as f
from rabbitray.actors.message.properties.fields import fields_of
from rabbitray.actors.message.properties.property_list import Properties, headers_where

_PERSISTENT: Final = b"\x02"


def whole_copy(properties: Properties, stays: Callable[[str], bool], *, message_id: str) -> bytes | None:
    """The property list of a persistent copy, flags first, with the headers that `stays` takes by name.

    `message_id`: of a message that has none. None where the list, or one of the headers, cannot be told apart: a copy
    would not be the same.
    """
    fields = fields_of(properties.raw)
    if fields is None:
        return None
    entries, lost = headers_where(properties, stays)
    if lost:
        return None
    if user := fields.pop(f.USER_ID, None):
        entries += _entry(USER_ID, user[1:])
    fields.pop(f.CLUSTER_ID, None)
    if entries or f.HEADERS in fields:
        fields[f.HEADERS] = f.SIZE.pack(len(entries)) + entries
    fields[f.DELIVERY_MODE] = _PERSISTENT
    fields.setdefault(f.MESSAGE_ID, _short(message_id.encode()))
    present = [flag for flag in f.ORDER if flag in fields]
    return f.FLAGS.pack(sum(present)) + b"".join(fields[flag] for flag in present)


def _entry(name: str, value: bytes) -> bytes:
    return _short(name.encode()) + b"S" + f.SIZE.pack(len(value)) + value


def _short(text: bytes) -> bytes:
    return bytes((len(text),)) + text
