"""Bytes -> one document, JSON or msgpack, within the limits. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgpack
import msgspec

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.wire.counting import require_few_in_json, require_few_in_msgpack
from rabbitray.actors.message.wire.limits import MessageLimits, require_within


def unpack(body: bytes, limits: MessageLimits) -> Any:  # Any: whatever a producer wrote
    """Return the one document in `body`; DecodeError when it is damaged, has a tail, or is over the limits."""
    require_few_in_msgpack(body, limits)
    most = min(limits.max_collection, len(body))
    try:
        document = _unpacked(body, most)
    except (msgpack.StackError, RecursionError):
        raise DecodeError("too_deep", "msgpack nested beyond any reason") from None
    except (msgpack.UnpackException, ValueError, TypeError) as error:
        raise DecodeError("bad_msgpack", f"{type(error).__name__}: {error}"[:200]) from None
    require_within(document, limits, len(body))
    return document


def _unpacked(body: bytes, most: int) -> Any:  # Any: as above
    """At first with text and bytes as the only keys, which costs nothing; then once more with numbers among them."""
    try:
        return msgpack.unpackb(body, strict_map_key=True, max_array_len=most, max_map_len=most)
    except msgpack.StackError:
        raise
    except ValueError:
        return msgpack.unpackb(body, strict_map_key=False, object_pairs_hook=_map, max_array_len=most, max_map_len=most)


_KEYS: Final = (str, bytes, int, float, bool, type(None))
"""Of others many could be made that have one hash, and a map of them takes time that grows with its square."""


def _map(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:  # Any: as above
    for key, _ in pairs:
        if type(key) not in _KEYS:
            raise TypeError(f"a map with a key of the type {type(key).__name__}")
    return dict(pairs)


def parse(text: bytes, limits: MessageLimits) -> Any:  # Any: whatever a producer wrote
    """Return the document of a JSON text; DecodeError as above."""
    require_few_in_json(text, limits)
    try:
        document = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError("bad_json", str(error)[:200]) from None
    if not _is_surely_within(text, limits):
        require_within(document, limits, len(text))
    return document


def _is_surely_within(text: bytes, limits: MessageLimits) -> bool:
    """Of a small document nothing is looked at where there are no more brackets than levels are allowed."""
    small = len(text) <= min(limits.max_collection, limits.max_elements)
    return small and text.count(b"{") + text.count(b"[") <= limits.max_depth
