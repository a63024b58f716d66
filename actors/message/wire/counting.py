"""How many entries a body holds, counted before anything is built from it: in linear time, and without memory. Pure.

An entry is a value in a list, or a pair in a map; the count of a legal document is that of all its maps and lists
together. Of a JSON text that is none, it covers all that a reader builds before it meets the fault.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.wire.limits import MessageLimits, too_many

# Possessive throughout, and each search begins where the last one ended: no byte is looked at twice. The end of the
# text ends a string too, or each quote of one that is not closed would be tried as its beginning.
_STRING: Final = rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)'
_EMPTY: Final = rb"[\[{][ \t\n\r]*+[\]}]"
_NEXT_ENTRY: Final = re.compile(rb'(?:[^",\[{]++|' + _STRING + rb"|" + _EMPTY + rb")*+[,\[{]", re.DOTALL)
_NEXT_PAIR: Final = re.compile(rb'(?:[^":]++|' + _STRING + rb")*+:", re.DOTALL)

_BLANKS: Final = b" \t\n\r"

_LYING: Final = 1024
"""Up to here the lengths that a msgpack body claims cost a few MB at most, whether they are true or not."""

_UNCOUNTED: Final = 2
"""Bytes of msgpack for each entry that is allowed, up to which they need no count: a map in a map takes 2 bytes and 250
of memory, what takes 1 byte at most 90. So the memory is no more than that of the entries that are allowed."""

_WELL_FORMED: Final = msgspec.msgpack.Decoder(msgspec.Raw)


def require_few_in_json(body: bytes, limits: MessageLimits) -> None:
    """Raise DecodeError where a JSON text holds more entries than are allowed.

    There is one after each comma and each bracket, so that one count over the bytes is enough for most texts, and none
    at all for a short one.
    """
    if len(body) <= limits.max_elements:
        return
    if body.count(b",") + body.count(b"[") + body.count(b"{") <= limits.max_elements:
        return
    if json_entries(body, limits.max_elements) > limits.max_elements:
        raise too_many(limits)


def json_entries(body: bytes, most: int) -> int:
    """Return how many entries a JSON text holds; stops counting beyond `most`."""
    return _matches(_NEXT_ENTRY, body, most)


def names_each_once(body: bytes, document: dict[str, Any]) -> bool:  # Any: JSON values
    """Whether no map in a legal JSON text has a key twice; `document`: what was read from it.

    After each key stands a colon, so there are as many as pairs in the document where no pair was lost. Those in texts
    are counted, too, at first all of them, then those after a quote, and at last none.
    """
    if body.count(b":") == len(document):
        return True  # the usual flat document
    names = body.translate(None, _BLANKS).count(b'":')
    if names == len(document):
        return True  # one with times
    pairs = _pairs(document)
    return names == pairs or _matches(_NEXT_PAIR, body, pairs) == pairs


def _pairs(value: Any) -> int:  # Any: a JSON value
    if type(value) is dict:
        return len(value) + sum(map(_pairs, value.values()))
    return sum(map(_pairs, value)) if type(value) is list else 0


def _matches(pattern: re.Pattern[bytes], body: bytes, most: int) -> int:
    match, count, at = pattern.match, 0, 0
    while count <= most and (found := match(body, at)) is not None:
        at = found.end()
        count += 1
    return count


def require_few_in_msgpack(body: bytes, limits: MessageLimits) -> None:
    """Raise DecodeError where a msgpack body is broken, or holds more entries than are allowed.

    A reader makes room for what a list claims to hold, and for each of a thousand inside one another: 5 kB took 80 MB.
    Once it is known that the claims are true, there are no more of them than bytes, and only of a large body they are
    counted.
    """
    if len(body) <= _LYING:
        return
    try:
        _WELL_FORMED.decode(body)
    except RecursionError:
        raise DecodeError("too_deep", "msgpack nested beyond any reason") from None
    except msgspec.MsgspecError as error:
        raise DecodeError("bad_msgpack", str(error)[:200]) from None
    if (
        len(body) > _UNCOUNTED * limits.max_elements
        and msgpack_entries(body, limits.max_elements) > limits.max_elements
    ):
        raise too_many(limits)


def msgpack_entries(body: bytes, most: int) -> int:
    """Return how many entries a well-formed msgpack body holds; stops counting beyond `most`."""
    steps, count, at, end = _STEPS, 0, 0, len(body)
    while at < end:
        first = body[at]
        if step := steps[first]:
            at += step
            continue
        width = _WIDTHS.get(first, 0)
        said = int.from_bytes(body[at + 1 : at + 1 + width], "big") if width else first & 0x0F
        at += 1 + width
        if first not in _COUNTED:
            at += said + (first in _EXTENDED)
        elif (count := count + said) > most:
            break
    return count


_WIDTHS: Final = {
    **dict.fromkeys((0xC4, 0xC7, 0xD9), 1),  # bin, ext, str: the length in so many bytes
    **dict.fromkeys((0xC5, 0xC8, 0xDA, 0xDC, 0xDE), 2),  # and list, map: the number of entries
    **dict.fromkeys((0xC6, 0xC9, 0xDB, 0xDD, 0xDF), 4),
}
_EXTENDED: Final = frozenset((0xC7, 0xC8, 0xC9))
_COUNTED: Final = frozenset((*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF))
_FIXED: Final = {
    **dict(zip(range(0xCA, 0xD4), (5, 9, 2, 3, 5, 9, 2, 3, 5, 9), strict=True)),  # numbers
    **dict(zip(range(0xD4, 0xD9), (3, 4, 6, 10, 18), strict=True)),  # ext
    **{0xA0 | size: 1 + size for size in range(32)},  # str
    **dict.fromkeys((*_WIDTHS, *_COUNTED), 0),
}
_STEPS: Final = tuple(_FIXED.get(first, 1) for first in range(256))
"""By its first byte, the size of a value; 0 where that is not all that tells it, or where it counts."""
