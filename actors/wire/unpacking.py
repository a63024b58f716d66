"""msgpack bytes -> one document within its limits. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgpack

from actors.errors import DecodeError
from actors.wire.limits import WireLimits
from actors.wire.payload import require_within

_SMALL: Final = 64 * 1024
"""Up to here a document costs at most 64 bytes for each of its own: no need to count."""


def unpack(body: bytes, limits: WireLimits) -> Any:  # Any: whatever a producer wrote
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


def _counting_hooks(limits: WireLimits) -> dict[str, Any]:  # Any: hooks as msgpack takes them
    """Return hooks that stop the reading of a large body as soon as it holds too many entries."""
    left = limits.max_elements

    def count(collection: Any) -> Any:  # Any: dict in, dict out; list in, list out
        nonlocal left
        left -= len(collection) + 1
        if left < 0:
            raise DecodeError("too_many_elements", f"more than {limits.max_elements} entries")
        return collection

    return {"object_hook": count, "list_hook": count}
