"""What a CBOR body would make a reader build, counted before anything is built, in linear time. Pure.

A reader believes lengths, follows references and makes whatever a tag names: a pattern, a mail, a list that holds
itself. Here each length is held against the bytes that there are, and few tags pass.
"""

from __future__ import annotations

from typing import Final

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.wire.limits import MessageLimits, too_many

_BYTES, _TEXT, _LIST, _MAP, _TAG = 2, 3, 4, 5, 6
_OPEN: Final = 31
_BREAK: Final = 0xFF
_ENDLESS: Final = 2**62
"""Items of a list or map that does not say how many it has: more than any has, and even, as those of a map are."""
_TAGS: Final = frozenset((0, 1, 2, 3, 4, 37, 100, 1004, 55799))
"""Times, dates, large numbers, decimals, UUIDs, and the mark of CBOR itself."""
_BIGNUMS: Final = frozenset((2, 3))
_BIGNUM_MOST: Final = 1_785
"""Bytes: 4,300 digits, as many as Python writes of a number."""
_TAGS_MOST: Final = 4
"""Tags in front of one value."""

_STEPS: Final = bytearray(256)
"""By its first byte, the size of an item that holds no others; 0 where that is not all that tells it."""
for _kind in (0x00, 0x20, 0xE0):  # numbers, negative ones, simple values and floats
    _STEPS[_kind : _kind + 24] = b"\x01" * 24
    _STEPS[_kind + 24 : _kind + 28] = b"\x02\x03\x05\x09"
for _kind in (0x40, 0x60):  # bytes, texts
    _STEPS[_kind : _kind + 24] = bytes(range(1, 25))


def require_harmless(body: bytes, limits: MessageLimits) -> None:
    """Raise DecodeError for a body that is no well-formed CBOR, or more than the limits or `_TAGS` allow."""
    try:
        end = _Scan(body, limits).run()
    except IndexError:
        end = len(body) + 1
    if end != len(body):
        raise DecodeError("bad_cbor", "truncated" if end > len(body) else "more follows the document")


class _Scan:
    """One pass over a body, which raises IndexError beyond its end."""

    def __init__(self, body: bytes, limits: MessageLimits) -> None:
        self._body = body
        self._limits = limits
        self._entries = 0
        self._around: list[tuple[int, int]] = []  # of the lists and maps around this one: items to come, kind

    def run(self) -> int:
        """Where the first item ends."""
        body, around = self._body, self._around
        at, left, kind = 0, 1, _LIST
        while True:
            while not left:
                if not around:
                    return at
                left, kind = around.pop()
            first = body[at]
            left -= 1
            if step := _STEPS[first]:
                at += step
            elif first == _BREAK:
                at += 1
                left, kind = self._closed(left + 1, kind)
            else:
                at, items, inner = self._other(at, is_key=kind == _MAP and left % 2 == 1)
                if inner:
                    around.append((left, kind))
                    left, kind = items, inner

    def _other(self, at: int, *, is_key: bool) -> tuple[int, int, int]:
        """An item that `_STEPS` does not tell: where it ends, or, of a list or map, where its first item begins, how
        many items it has, and its kind.
        """
        kind, value, at = self._head(at)
        if is_key and kind in (_LIST, _MAP, _TAG):
            raise DecodeError("bad_cbor", "a key that is a list, a map or a tag")
        for _ in range(_TAGS_MOST):
            if kind != _TAG:
                break
            self._require_tag(value, at)
            kind, value, at = self._head(at)
        if kind in (_BYTES, _TEXT):
            return (self._parts(kind, at) if value == _ENDLESS else at + value), 0, 0
        if kind in (_LIST, _MAP):
            return at, self._opened(kind, value, at), kind
        if kind == _TAG or value == _ENDLESS:
            raise DecodeError("bad_cbor", "an item that is none")
        return at, 0, 0

    def _opened(self, kind: int, value: int, at: int) -> int:
        """How many items a list or map has that begins here."""
        if len(self._around) >= self._limits.max_depth:
            raise DecodeError("too_deep", f"more than {self._limits.max_depth} levels of nesting")
        if value == _ENDLESS:
            return _ENDLESS
        items = 2 * value if kind == _MAP else value
        if items > len(self._body) - at:
            raise IndexError
        self._count(value)
        return items

    def _closed(self, left: int, kind: int) -> tuple[int, int]:
        """The list or map around one that ends here."""
        items = _ENDLESS - left
        if left <= _ENDLESS // 2 or (kind == _MAP and items % 2):
            raise DecodeError("bad_cbor", "an end of nothing, or a key without a value")
        self._count(items // 2 if kind == _MAP else items)
        return self._around.pop()

    def _count(self, entries: int) -> None:
        self._entries += entries
        if entries > self._limits.max_collection or self._entries > self._limits.max_elements:
            raise too_many(self._limits)

    def _head(self, at: int) -> tuple[int, int, int]:
        """Kind and value of an item, and where what follows them begins."""
        first = self._body[at]
        kind, info = first >> 5, first & 0x1F
        if info < 24:
            return kind, info, at + 1
        if info == _OPEN:
            return kind, _ENDLESS, at + 1
        if info > 27:
            raise DecodeError("bad_cbor", f"a first byte of {first:#04x}")
        end = at + 1 + (1 << (info - 24))
        value = int.from_bytes(self._body[at + 1 : end], "big")
        if end > len(self._body) or (_BYTES <= kind <= _MAP and value >= _ENDLESS):
            raise IndexError
        return kind, value, end

    def _parts(self, kind: int, at: int) -> int:
        """Where a text or bytes end that come in parts."""
        while self._body[at] != _BREAK:
            inner, size, at = self._head(at)
            if inner != kind or size == _ENDLESS:
                raise DecodeError("bad_cbor", "a part of a text or of bytes that is none")
            at += size
        return at + 1

    def _require_tag(self, tag: int, at: int) -> None:
        """Of a tag whose value begins there."""
        if tag not in _TAGS:
            raise DecodeError("unsupported_tag", f"CBOR's tag {tag}")
        if tag in _BIGNUMS:
            kind, size, _ = self._head(at)
            if kind != _BYTES or size > _BIGNUM_MOST:
                raise DecodeError("bad_cbor", f"a number of more than {_BIGNUM_MOST} bytes")
