"""How many entries a body holds, counted before anything is built from it: in linear time, and without memory. Pure.

An entry is a value in a list, or a pair in a map; the count of a legal document is that of all its maps and lists
together. Of a JSON text that is none, it covers all that a reader builds before it meets the fault.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.wire.limits import MessageLimits, too_many

# Possessive throughout, and each search begins where the last one ended: no byte is looked at twice. The end of the
# text ends a string too, or each quote of one that is not closed would be tried as its beginning.
_STRING: Final = rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)'
_EMPTY: Final = rb"[\[{][ \t\n\r]*+[\]}]"
_NEXT_ENTRY: Final = re.compile(rb'(?:[^",\[{]++|' + _STRING + rb"|" + _EMPTY + rb")*+[,\[{]", re.DOTALL)
_NEXT_PAIR: Final = re.compile(rb'(?:[^":]++|' + _STRING + rb")*+:", re.DOTALL)
_BEFORE_COLON: Final = (b'":', b" :", b"\n:", b"\r:", b"\t:")

_LYING: Final = 1024
"""Up to here the lengths that a msgpack body claims cost a few MB at most, whether they are true or not."""

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


def has_only_pairs(body: bytes, pairs: int) -> bool:
    """Whether a legal JSON text names no more than these `pairs`: those in its document, where no key is there twice.

    A colon stands after each key; others are in texts, and few of those come after a quote or a blank.
    """
    if body.count(b":") == pairs or sum(map(body.count, _BEFORE_COLON)) == pairs:
        return True
    return _matches(_NEXT_PAIR, body, pairs) == pairs


def _matches(pattern: re.Pattern[bytes], body: bytes, most: int) -> int:
    match, count, at = pattern.match, 0, 0
    while count <= most and (found := match(body, at)) is not None:
        at = found.end()
        count += 1
    return count


def require_few_in_msgpack(body: bytes, limits: MessageLimits) -> None:
    """Raise DecodeError where a msgpack body is broken, or holds more entries than are allowed.

    A reader makes room for as many as a list claims to hold, each of a thousand inside one another: 5 kB could ask for
    800 MB. Once it is known that the claims are true, there are not more of them than bytes.
    """
    if len(body) <= _LYING:
        return
    try:
        _WELL_FORMED.decode(body)
    except RecursionError:
        raise DecodeError("too_deep", "msgpack nested beyond any reason") from None
    except msgspec.MsgspecError as error:
        raise DecodeError("bad_msgpack", str(error)[:200]) from None
    if len(body) > limits.max_elements and msgpack_entries(body, limits.max_elements) > limits.max_elements:
        raise too_many(limits)


def msgpack_entries(body: bytes, most: int) -> int:
    """Return how many entries a well-formed msgpack body holds; stops counting beyond `most`."""
    count, at, end = 0, 0, len(body)
    while at < end and count <= most:
        first = body[at]
        at += _STEPS[first]
        if first in _COUNTED:
            count += first & 0x0F if first < 0xA0 else int.from_bytes(body[at - _WIDTHS[first] : at], "big")
        elif first in _WIDTHS:
            at += int.from_bytes(body[at - _WIDTHS[first] : at], "big") + (first in _EXTENDED)
    return count


_WIDTHS: Final = {
    **dict.fromkeys((0xC4, 0xC7, 0xD9), 1),  # bin, ext, str: the length in so many bytes
    **dict.fromkeys((0xC5, 0xC8, 0xDA, 0xDC, 0xDE), 2),  # and list, map: the number of entries
    **dict.fromkeys((0xC6, 0xC9, 0xDB, 0xDD, 0xDF), 4),
}
_EXTENDED: Final = frozenset((0xC7, 0xC8, 0xC9))
_COUNTED: Final = frozenset((*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF))


def _step(first: int) -> int:
    """Bytes from the first byte of a value to the next one; without the content, where a length or number stands."""
    if 0xA0 <= first <= 0xBF:
        return 1 + (first & 0x1F)
    plain = {0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}
    fixed = {0xD4: 3, 0xD5: 4, 0xD6: 6, 0xD7: 10, 0xD8: 18}
    return (plain | fixed).get(first, 1 + _WIDTHS.get(first, 0))


_STEPS: Final = tuple(map(_step, range(256)))
