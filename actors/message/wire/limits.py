"""MessageLimits, and what is held to them: a payload before it is written, a document after it was read. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import msgpack

from rabbitray.actors.errors import DecodeError, EncodeError

_SCALARS: Final = (str, int, float, bool, bytes, type(None), msgpack.ExtType, msgpack.Timestamp)
Collection = dict[Any, Any] | list[Any]  # Any: whatever a producer wrote
_JSON_SCALARS: Final = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageLimits:
    """Bounds of one message; beyond any of them it is refused with a reason.

    `max_message_bytes`: body as received, and again after decompression. `max_header_bytes`: its header table.
    `max_records`: jobs in a packed message. `max_depth`: nesting of the document. `max_collection`: entries of one
    map or list. `max_elements`: entries of all maps and lists of a document together.

    Reading a body takes time that grows with its size, and memory of at most 256 bytes for each entry (a map of one
    pair is the dearest) and 10 bytes for each byte of the plain body, itself included (a text with one letter beyond
    U+FFFF takes 4 for each of its letters, and is made in steps). Entries are counted before anything is built of them.
    """

    max_message_bytes: int = 16 * 1024 * 1024
    max_header_bytes: int = 64 * 1024
    max_records: int = 1_000
    max_depth: int = 32
    max_collection: int = 100_000
    max_elements: int = 500_000


DEFAULT_LIMITS = MessageLimits()


def require_writable(payload: Any, *, json: bool, depth: int) -> None:  # Any: the user's data
    """Raise EncodeError where `payload` would not come back as it is (tuples come back as lists).

    `depth`: levels of nesting left. In JSON, bytes, NaN and infinities cannot be kept; in both, only text
    keys.
    """
    if isinstance(payload, dict):
        _require_level(depth)
        for key, value in payload.items():
            if not isinstance(key, str):
                raise EncodeError(f"payload: keys are text, not {type(key).__name__}")
            require_writable(value, json=json, depth=depth - 1)
    elif isinstance(payload, (list, tuple)) and not isinstance(payload, _SCALARS):
        _require_level(depth)
        for value in payload:
            require_writable(value, json=json, depth=depth - 1)
    elif not isinstance(payload, _JSON_SCALARS if json else _SCALARS):
        raise EncodeError(
            f"payload: {type(payload).__name__} has no {'JSON' if json else 'msgpack'} form; `msgspec.to_builtins` "
            "makes text, numbers, lists and dicts of a payload, which a handler with a typed payload reads back"
        )
    elif json and isinstance(payload, float) and not math.isfinite(payload):
        raise EncodeError(f"payload: {payload} has no JSON form")


def _require_level(depth: int) -> None:
    if depth <= 0:
        raise EncodeError("payload: nested too deeply")


def require_within(document: Any, limits: MessageLimits, size: int) -> None:  # Any: whatever a producer wrote
    """Raise DecodeError where a document is nested too deeply or holds too many entries. `size`: of its bytes.

    An entry takes a byte at least, so those of few bytes are not counted.
    """
    if not isinstance(document, (dict, list)):
        return
    are_few = size <= min(limits.max_collection, limits.max_elements)
    level: list[Collection] = [document]
    left = limits.max_elements
    for _ in range(limits.max_depth):
        if not are_few:
            left -= _entries(level, limits)
            if left < 0:
                raise too_many(limits)
        level = _collections_in(level)
        if not level:
            return
    raise DecodeError("too_deep", f"more than {limits.max_depth} levels of nesting")


def _entries(level: list[Collection], limits: MessageLimits) -> int:
    sizes = list(map(len, level))
    if (largest := max(sizes)) > limits.max_collection:
        raise DecodeError("too_many_elements", f"{largest} entries in one, at most {limits.max_collection}")
    return sum(sizes)


def _collections_in(level: list[Collection]) -> list[Collection]:
    return [
        value
        for collection in level
        for value in (collection.values() if type(collection) is dict else collection)
        if type(value) is dict or type(value) is list
    ]


def too_many(limits: MessageLimits) -> DecodeError:
    """Return the error of a document with more entries than are allowed."""
    return DecodeError("too_many_elements", f"more than {limits.max_elements} entries")


def raise_unreadable(error: Exception) -> NoReturn:
    """Raise the DecodeError of a body on which a reader failed as it should not have."""
    if isinstance(error, RecursionError | MemoryError):
        raise DecodeError("too_deep" if isinstance(error, RecursionError) else "too_large", repr(error)) from None
    raise DecodeError("unreadable", f"{type(error).__name__}: {error}"[:200]) from error
