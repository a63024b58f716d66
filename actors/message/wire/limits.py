"""MessageLimits, and reading within them: depth, elements, bytes, for JSON and msgpack alike. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from rabbitray.actors.errors import DecodeError, EncodeError

_SCALARS: Final = (str, int, float, bool, bytes, type(None), msgpack.ExtType, msgpack.Timestamp)
_JSON_SCALARS: Final = (str, int, float, bool, type(None))
_SMALL: Final = 64 * 1024
"""Up to here a document costs at most 64 bytes for each of its own: no need to count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageLimits:
    """Bounds of one message; beyond any of them it is refused with a reason.

    `max_message_bytes`: body as received, and again after decompression. `max_header_bytes`: its header table.
    `max_records`: jobs in a packed message. `max_depth`: nesting of the document. `max_collection`: entries of one
    map or list. `max_elements`: entries of all maps and lists of a document together, which bounds its memory to
    about 64 bytes each.
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
        raise EncodeError(f"payload: {type(payload).__name__} has no {'JSON' if json else 'msgpack'} form")
    elif json and isinstance(payload, float) and not math.isfinite(payload):
        raise EncodeError(f"payload: {payload} has no JSON form")


def _require_level(depth: int) -> None:
    if depth <= 0:
        raise EncodeError("payload: nested too deeply")


def require_within(document: Any, limits: MessageLimits) -> None:  # Any: whatever a producer wrote
    """Raise DecodeError where a document that was read is nested too deeply or holds too many entries."""
    if isinstance(document, (dict, list)):
        total = _count(document, limits, limits.max_depth)
        if total > limits.max_elements:
            raise DecodeError("too_many_elements", f"{total} entries, at most {limits.max_elements}")


def _count(collection: dict[Any, Any] | list[Any], limits: MessageLimits, depth: int) -> int:  # Any: as above
    if depth <= 0:
        raise DecodeError("too_deep", f"more than {limits.max_depth} levels of nesting")
    total = len(collection)
    if total > limits.max_collection:
        raise DecodeError("too_many_elements", f"{total} entries in one, at most {limits.max_collection}")
    for value in collection.values() if isinstance(collection, dict) else collection:
        if type(value) is dict or type(value) is list:
            total += _count(value, limits, depth - 1)
    return total


def unpack(body: bytes, limits: MessageLimits) -> Any:  # Any: whatever a producer wrote
    """Return the one document in `body`; DecodeError when it is damaged, has a tail, or is over the limits."""
    hooks = {} if len(body) <= _SMALL else _counting_hooks(limits)
    try:
        document = msgpack.unpackb(
            body,
            strict_map_key=True,
            max_array_len=limits.max_collection,
            max_map_len=limits.max_collection,
            **hooks,
        )
    except DecodeError:
        raise
    except (msgpack.StackError, RecursionError):
        raise DecodeError("too_deep", "msgpack nested beyond any reason") from None
    except (msgpack.UnpackException, ValueError, TypeError) as error:
        raise DecodeError("bad_msgpack", f"{type(error).__name__}: {error}"[:200]) from None
    require_within(document, limits)
    return document


def _counting_hooks(limits: MessageLimits) -> dict[str, Any]:  # Any: hooks as msgpack takes them
    """Return hooks that stop the reading of a large body as soon as it holds too many entries."""
    left = limits.max_elements

    def count(collection: Any) -> Any:  # Any: dict in, dict out; list in, list out
        nonlocal left
        left -= len(collection) + 1
        if left < 0:
            raise DecodeError("too_many_elements", f"more than {limits.max_elements} entries")
        return collection

    return {"object_hook": count, "list_hook": count}
