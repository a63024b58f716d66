"""The user's payload: what may be written, and how much may be read. Pure."""

from __future__ import annotations

import math
from typing import Any, Final

import msgpack

from actors.errors import DecodeError, EncodeError
from actors.wire.limits import WireLimits

_SCALARS: Final = (str, int, float, bool, bytes, type(None), msgpack.ExtType, msgpack.Timestamp)
_JSON_SCALARS: Final = (str, int, float, bool, type(None))


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


def require_within(document: Any, limits: WireLimits) -> None:  # Any: whatever a producer wrote
    """Raise DecodeError where a document that was read is nested too deeply or holds too many entries."""
    if isinstance(document, (dict, list)):
        total = _count(document, limits, limits.max_depth)
        if total > limits.max_elements:
            raise DecodeError("too_many_elements", f"{total} entries, at most {limits.max_elements}")


def _count(collection: dict[Any, Any] | list[Any], limits: WireLimits, depth: int) -> int:  # Any: as above
    if depth <= 0:
        raise DecodeError("too_deep", f"more than {limits.max_depth} levels of nesting")
    total = len(collection)
    if total > limits.max_collection:
        raise DecodeError("too_many_elements", f"{total} entries in one, at most {limits.max_collection}")
    for value in collection.values() if isinstance(collection, dict) else collection:
        if type(value) is dict or type(value) is list:
            total += _count(value, limits, depth - 1)
    return total
