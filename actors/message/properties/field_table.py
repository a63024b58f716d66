"""Reads AMQP field tables, of whatever a stranger wrote. Pure; never raises, never reads a byte twice for nothing.

Layout: AMQP 0-9-1, 4.2.5.5, with RabbitMQ's types (its errata). A header whose name or value cannot be read is left
out, and the first one is told; where it ends is known all the same, so that those behind it are read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

Table = dict[str, Any]  # Any: AMQP field values

MOST_DEPTH: Final = 64
"""Tables and lists in one another. What counts and prints a table goes down as deep, one call for each."""

MOST_VALUES: Final = 8_192
"""In one table, all that lie in its lists and tables counted: 64 KiB of them by `table_bytes`, the most for headers."""

_TOO_MANY: Final = f"headers of more than {MOST_VALUES:,} values"
_SIZE = struct.Struct(">I")
_TEXT: Final = ord("S")
_MILLISECONDS_FROM: Final = 0xFFFFFFFF  # a time stamp above (the year 2106) is read as milliseconds, as pamqp does it


class UnreadableError(ValueError):
    """Bytes that are no field table, or a value that Python has nothing for."""


class Entry(NamedTuple):
    """One header: from `start` on the length of its name, the name, and from `at` to `end` its value, a type first."""

    start: int
    at: int
    end: int
    name: bytes


def read_table(data: bytes, start: int, end: int) -> tuple[Table, str | None]:
    """The table whose entries go from `start` to `end`, and why not all of it: the first header that is left out.

    Texts and whole numbers, which are what our publisher and every tracer write, are read here in a third of pamqp's
    time; a table with anything else, or one that is damaged, is read again as a whole.
    """
    found: Table = {}
    at = start
    try:
        while at < end:
            kind = at + 1 + data[at]
            name = data[at + 1 : kind].decode()
            if data[kind] == _TEXT:
                text = kind + 5
                at = text + _SIZE.unpack_from(data, kind + 1)[0]
                found[name] = data[text:at].decode()
            elif number := _WHOLE.get(data[kind]):
                (found[name],) = number.unpack_from(data, kind + 1)
                at = kind + 1 + number.size
            else:
                break
    except (IndexError, struct.error, UnicodeDecodeError):
        at = -1
    return (found, None) if at == end and len(found) <= MOST_VALUES else _Reader(data).table(start, end)


def entries(data: bytes, start: int, end: int) -> Iterator[Entry]:
    """The entries of a table, by their lengths alone. Raises UnreadableError at the first without a known end.

    And behind MOST_VALUES of them.
    """
    for _ in range(MOST_VALUES):
        if start >= end:
            return
        at = start + 1 + data[start]
        if at >= end:
            raise UnreadableError("a header without a value")
        stop = _value_end(data, at, end)
        yield Entry(start, at, stop, data[start + 1 : at])
        start = stop
    if start < end:
        raise UnreadableError(_TOO_MANY)


def shown(name: bytes) -> str:
    """The name of a header for people."""
    return repr(name.decode("utf-8", "backslashreplace"))


def _value_end(data: bytes, at: int, end: int) -> int:
    """Where the value ends that begins at `at` with its type."""
    kind = data[at]
    size = _FIXED.get(kind)
    if size is None:
        if kind not in _LONG:
            raise UnreadableError(f"the unknown type {chr(kind)!r}")
        size = 4 + _SIZE.unpack_from(data, at + 1)[0] if at + 5 <= end else end
    stop: int = at + 1 + size
    if stop > end:
        raise UnreadableError("a value that goes beyond its table")
    return stop


class _Reader:
    """Reads one table with all that lies in it; used once."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._values = 0

    def table(self, start: int, end: int) -> tuple[Table, str | None]:
        """What can be read of it, and why not all."""
        found: Table = {}
        why: str | None = None
        try:
            for entry in entries(self._data, start, end):
                try:
                    found[_name(entry.name)] = self._value(entry.at, entry.end, 1)
                except _UNREADABLE as error:
                    if self._values > MOST_VALUES:
                        raise
                    why = why or f"header {shown(entry.name)}: {error}"
        except _UNREADABLE as error:
            why = why or str(error)
        return found, why

    def _value(self, at: int, end: int, depth: int) -> Any:  # Any: AMQP field values
        self._values += 1
        if self._values > MOST_VALUES:
            raise UnreadableError(_TOO_MANY)
        data = self._data
        kind = data[at]
        if (fixed := _READERS.get(kind)) is not None:
            return fixed(data, at + 1)
        if kind == _TEXT:
            return _text(data[at + 5 : end])
        if kind == _BYTES:
            return bytearray(data[at + 5 : end])
        if depth > MOST_DEPTH:
            raise UnreadableError(f"more than {MOST_DEPTH} tables in one another")
        return self._list(at + 5, end, depth) if kind == _LIST else self._inner(at + 5, end, depth)

    def _list(self, at: int, end: int, depth: int) -> list[Any]:  # Any: AMQP field values
        found = []
        while at < end:
            stop = _value_end(self._data, at, end)
            found.append(self._value(at, stop, depth + 1))
            at = stop
        return found

    def _inner(self, start: int, end: int, depth: int) -> Table:
        return {
            _name(entry.name): self._value(entry.at, entry.end, depth + 1)
            for entry in entries(self._data, start, end)
        }  # fmt: skip


def _name(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise UnreadableError("a name that is not UTF-8") from None


def _text(text: bytes) -> str | bytes:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text


def _number(form: str) -> Callable[[bytes, int], Any]:  # Any: int or float
    unpack_from = struct.Struct(form).unpack_from
    return lambda data, at: unpack_from(data, at)[0]


def _time(data: bytes, at: int) -> datetime:
    (stamp,) = _STAMP.unpack_from(data, at)
    try:
        return datetime.fromtimestamp(stamp / 1000.0 if stamp > _MILLISECONDS_FROM else stamp, UTC)
    except (ValueError, OverflowError, OSError):
        raise UnreadableError(f"the time stamp {stamp}, beyond the year 9999") from None


def _decimal(data: bytes, at: int) -> Decimal:
    places, digits = _DECIMAL.unpack_from(data, at)
    found: Decimal = Decimal(digits) * Decimal(10) ** -places
    return found


_STAMP = struct.Struct(">Q")
_DECIMAL = struct.Struct(">BI")
_UNREADABLE = (UnreadableError, IndexError, struct.error)
_BYTES: Final = ord("x")
_LIST: Final = ord("A")
_LONG: Final = frozenset(b"SxAF")
_WHOLE = {
    ord(kind): struct.Struct(form)
    for kind, form in {"b": ">b", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q"}.items()
}  # what pamqp writes
_READERS: dict[int, Callable[[bytes, int], Any]] = {  # Any: AMQP field values
    ord("t"): lambda data, at: bool(data[at]),
    ord("b"): _number(">b"),
    ord("B"): _number(">B"),
    ord("s"): _number(">h"),
    ord("u"): _number(">H"),
    ord("I"): _number(">i"),
    ord("i"): _number(">I"),
    ord("l"): _number(">q"),
    ord("L"): _number(">q"),
    ord("f"): _number(">f"),
    ord("d"): _number(">d"),
    ord("D"): _decimal,
    ord("T"): _time,
    ord("V"): lambda data, at: None,
    0: lambda data, at: None,
}
_FIXED = {
    ord(kind): size
    for size, kinds in {0: "V\0", 1: "tbB", 2: "su", 4: "Iif", 5: "D", 8: "lLdT"}.items()
    for kind in kinds
}  # bytes of a value behind its type
