"""What a copy keeps of the properties and headers of its message: all copies of ours are made here. Pure.

Each stays byte by byte as it stood in the content header, but for those that would change what becomes of the copy:
the user id and the expiration, which travel as headers (`sent_with`), CC and BCC, by which RabbitMQ would route the
copy once more, and the cluster id, which is no client's to set. A copy is always persistent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.properties import fields as f
from rabbitray.actors.message.properties.fields import Fields, fields_of
from rabbitray.actors.message.properties.property_list import Properties, header_names, headers_where, priority_of

Keep = Literal["all", "properties", "least"]
"""How much of a message a copy keeps: all; no headers but the trace; of the properties those alone that say how to read
the body and what it is called. Where a frame does not hold one, the next is tried."""

KEEPS: Final[tuple[Keep, ...]] = ("all", "properties", "least")

_TRACE_MOST_BYTES: Final = 170
"""Of each header of a trace that stays where the others do not."""

_NO_PRIORITY, _PRIORITY_MOST = -1, 255

_ELSEWHERE: Final = (f.HEADERS, f.DELIVERY_MODE, f.EXPIRATION, f.USER_ID, f.CLUSTER_ID)
_DISPENSABLE: Final = (f.CORRELATION_ID, f.REPLY_TO, f.TYPE, f.APP_ID)
_NEVER_LEFT: Final = (f.HEADERS, f.DELIVERY_MODE, f.CLUSTER_ID)


class CopyProperties(NamedTuple):
    """`fields`: the properties that stay properties; `entries`: header entries as they stood in a frame.

    `came`: all properties as they came; `left`: how many headers and properties stay behind.
    """

    fields: Fields
    entries: bytes
    came: Fields
    left: int

    def message_id(self, otherwise: Callable[[], str]) -> str:
        """Its message id as it is known by; one of `otherwise`, from now on, where it has none."""
        raw = self.fields.get(f.MESSAGE_ID, b"\0")
        if raw == b"\0":
            text = otherwise()
            self.fields[f.MESSAGE_ID] = f.short(text.encode())
            return text
        return h.text_of(raw[1:])


def copy_properties(
    properties: Properties,
    stays: Callable[[str], bool],
    *,
    keep: Keep = "all",
    readable: bool = False,
    most_bytes: int | None = None,
) -> CopyProperties:
    """What a copy keeps. `stays`: of the headers, by name; `readable`: of these, what can be read.

    `most_bytes`: larger header tables stay behind, but for the trace.
    """
    came = fields_of(properties.raw)
    left = 0
    if came is None:
        came, left = _read_apart(properties)
    fields = {flag: raw for flag, raw in came.items() if flag not in _ELSEWHERE}
    if keep == "least":
        left += sum(fields.pop(flag, None) is not None for flag in _DISPENSABLE)
    entries, lost = _headers(properties, stays, keep == "all", readable, most_bytes)
    return CopyProperties(fields, entries, came, left + lost)


def park_priority(fields: Fields, table: Mapping[str, Any]) -> int:  # Any: AMQP header values
    """Sets the priority 0 among the properties of a dead letter; returns what its header PRIORITY says then.

    `table`: the headers of the dead letter that this is a copy of, which have said it before.
    """
    given = _own_priority(table)
    before = f.number_in(fields, f.PRIORITY) if given is None else given
    fields[f.PRIORITY] = b"\0"
    return _NO_PRIORITY if before is None else before


def restore_priority(fields: Fields, table: Mapping[str, Any]) -> None:  # Any: AMQP header values
    """Gives a copy the priority that its dead letter says its message had."""
    given = _own_priority(table)
    if given == _NO_PRIORITY:
        fields.pop(f.PRIORITY, None)
    elif given is not None:
        fields[f.PRIORITY] = bytes((given,))


def _own_priority(table: Mapping[str, Any]) -> int | None:  # Any: AMQP header values
    value = table.get(h.PRIORITY)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return min(max(value, _NO_PRIORITY), _PRIORITY_MOST)


def _read_apart(properties: Properties) -> tuple[Fields, int]:
    """What could be read of a property list that cannot be told apart, and how much of it could not, at least 1."""
    texts = {
        f.CONTENT_TYPE: properties.content_type,
        f.CONTENT_ENCODING: properties.content_encoding,
        f.MESSAGE_ID: properties.message_id,
    }
    found = {flag: f.short(raw) for flag, text in texts.items() if text and len(raw := text.encode()) <= f.SHORT_MOST}
    if (priority := priority_of(properties)) is not None:
        found[f.PRIORITY] = bytes((priority,))
    if properties.timestamp is not None:
        found[f.TIMESTAMP] = f.LONG.pack(properties.timestamp)
    flags = int.from_bytes(properties.raw[:2], "big")
    lost = sum(bool(flags & flag) for flag in f.ORDER if flag not in found and flag not in _NEVER_LEFT)
    lost += bool(flags & f.HEADERS and not properties.table_at)
    return found, max(lost, 1) if properties.raw else 0


def _headers(
    properties: Properties, stays: Callable[[str], bool], wanted: bool, readable: bool, most_bytes: int | None
) -> tuple[bytes, int]:
    """The header entries of a copy, and how many stay behind."""
    if wanted:
        entries, lost = headers_where(properties, stays, readable=readable)
        if most_bytes is None or len(entries) <= most_bytes:
            return entries, lost
    trace = [entry for name in (h.TRACEPARENT, h.TRACESTATE) if (entry := _small(properties, name))]
    return b"".join(trace), sum(map(stays, header_names(properties))) - len(trace)


def _small(properties: Properties, name: str) -> bytes:
    """The header of this name, unless it is large."""
    entry, _ = headers_where(properties, lambda found: found == name, readable=True)
    return entry if len(entry) <= _TRACE_MOST_BYTES else b""
