"""What a handler returned becomes JSON. Pure."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

import msgspec
import numpy as np

from rabbitray.actors.errors import ERROR_TEXT_MOST, text_of

MAX_RESULT_BYTES: Final = 16 * 1024 * 1024
MAX_DEPTH: Final = 64

_INT64_MIN: Final = -(2**63)
_UINT64_MAX: Final = 2**64 - 1

_TEXT: Final = frozenset((str,))
_SCALARS: Final = frozenset((str, bool, float, type(None)))
_CONTAINERS: Final = frozenset((dict, list, tuple))


class UnkeepableError(ValueError):
    """A result that has no JSON form, or none that is kept."""


def result_json(value: object, *, max_bytes: int = MAX_RESULT_BYTES) -> str:
    """The JSON text of a handler's result, UTF-8 size at most `max_bytes`.

    Raises UnkeepableError, one line, for what cannot be serialised, is too deep (64 levels; a cycle is too deep) or too
    large, and for whatever reading it raises: a permanent failure of that job only.
    """
    if value is None:  # many handlers return nothing
        return "null"
    try:
        encoded = msgspec.json.encode(value if is_json(value) else plain(value))
    except UnkeepableError:
        raise
    except UnicodeEncodeError as error:
        raise UnkeepableError(f"the result holds text that is not Unicode: {error.reason}") from error
    except MemoryError as error:
        raise UnkeepableError("the result does not fit in memory as JSON") from error
    except BaseException as error:  # its properties and `keys` are the user's code: not even SystemExit may end us here
        what = " ".join(f"{type(error).__qualname__}: {text_of(error)}".split())
        raise UnkeepableError(f"the result cannot be read: {what}") from error
    if len(encoded) > max_bytes:
        raise UnkeepableError(f"the result is {len(encoded)} bytes of JSON, at most {max_bytes} are kept: return less")
    return encoded.decode()


def is_json(value: Any, depth: int = 0) -> bool:  # Any: whatever a handler returned
    """Whether a value is what `plain` would make of it. Nearly all are, and to look takes a fraction of making one.

    Takes exact built-in types only, so that nothing of the user's is called.
    """
    kind = type(value)
    if kind is dict:
        if not _TEXT.issuperset(map(type, value)):
            return False
        items = value.values()
    elif kind is list or kind is tuple:
        items = value
    else:
        return kind in _SCALARS or (kind is int and _INT64_MIN <= value <= _UINT64_MAX)
    for item in items:
        kind = type(item)
        if kind in _SCALARS:
            continue
        if kind is int:
            if not _INT64_MIN <= item <= _UINT64_MAX:
                return False
        elif kind not in _CONTAINERS or depth >= MAX_DEPTH - 1 or not is_json(item, depth + 1):
            return False
    return True


def plain(value: object, depth: int = 0) -> object:
    """The value from None, bool, int, float, str, list and dict with text keys only.

    Raises UnkeepableError, and whatever reading the value raises.
    """
    kind = type(value)
    if value is None or kind is str or kind is bool:
        return value
    if depth > MAX_DEPTH:
        raise UnkeepableError(f"the result is nested deeper than {MAX_DEPTH} levels, or holds itself")
    if kind is int or kind is float:
        return _number(value)
    if isinstance(value, Mapping):
        return _mapping(value, depth)
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth + 1) for item in value]
    return _other(value, depth)


def _mapping(value: Mapping[object, object], depth: int) -> dict[str, object]:
    items = value.items() if type(value) is dict else list(value.items())
    out = {key if type(key) is str else _key(key): plain(item, depth + 1) for key, item in items}
    if len(out) != len(items):
        raise UnkeepableError(_one_key_twice([key for key, _ in items]))
    return out


def _one_key_twice(keys: Sequence[object]) -> str:
    seen: dict[str, object] = {}
    for key in keys:
        text = _key(key)
        if text in seen:
            kinds = f"{type(seen[text]).__qualname__} and {type(key).__qualname__}"
            return f"the result has two keys that are {text[:ERROR_TEXT_MOST]!r} in JSON ({kinds}): use text keys"
        seen[text] = key
    return "the result was changed while it was read: return a copy"


def _other(value: object, depth: int) -> object:
    if isinstance(value, msgspec.Struct):
        return _struct(value, depth)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: plain(getattr(value, field.name), depth + 1) for field in fields}
    for kinds, convert in _CONVERSIONS:
        if isinstance(value, kinds):
            return plain(convert(value), depth + 1)
    raise UnkeepableError(
        f"a result of type {type(value).__qualname__} cannot be kept as JSON: "
        "return a dict, list, dataclass, msgspec.Struct, text, number, bytes or None"
    )


def _struct(value: msgspec.Struct, depth: int) -> dict[str, object]:
    out: dict[str, object] = {}
    tag = value.__struct_config__.tag
    if tag is not None:
        out[value.__struct_config__.tag_field or "type"] = tag
    for field in msgspec.structs.fields(value):
        out[field.encode_name] = plain(getattr(value, field.name), depth + 1)
    return out


def _number(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and not _INT64_MIN <= value <= _UINT64_MAX:
        return digits(value)
    return value


def digits(value: int) -> str:
    """All decimal digits of a whole number. Raises UnkeepableError beyond Python's own limit (4,300 digits)."""
    try:
        return str(value)
    except ValueError as error:
        raise UnkeepableError(f"the result holds a whole number of {value.bit_length()} bits") from error


def _key(key: object) -> str:
    if isinstance(key, str):
        return str(key)
    inner = plain(key)
    if inner is None or isinstance(inner, bool | int | float | str):
        return msgspec.json.encode(inner).decode() if not isinstance(inner, str) else inner
    raise UnkeepableError(f"a result has a key of type {type(key).__qualname__}: use text keys")


def _base64(value: bytes | bytearray | memoryview) -> dict[str, str]:
    return {"$base64": base64.b64encode(value).decode()}


_CONVERSIONS: tuple[tuple[tuple[type, ...], Callable[..., object]], ...] = (
    ((bytes, bytearray, memoryview), _base64),
    ((Enum,), lambda value: value.value),
    ((datetime, date, time), lambda value: value.isoformat()),
    ((timedelta,), lambda value: value.total_seconds()),
    ((Decimal, UUID, PurePath), str),
    ((np.datetime64, np.timedelta64), str),
    ((np.generic,), lambda value: value.item()),
    ((np.ndarray,), lambda value: value.tolist()),
    ((str,), str),
    ((int,), int),
    ((float,), float),
)
