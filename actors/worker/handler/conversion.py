"""A payload becomes what the handler's annotation says; one that does not fit is told by the path of the field. Pure.

msgspec converts Structs, dataclasses, TypedDicts and containers of them, pydantic what has something of pydantic in it,
and what msgspec cannot. pydantic is imported for such a type only: that takes a tenth of a second.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, get_args, get_origin, get_type_hints, is_typeddict

import msgpack
import msgspec
from msgspec.inspect import CustomType, Field, Type, type_info

from rabbitray.actors.errors import InvalidPayloadError, one_line

Convert = Callable[[Any], Any]  # Any: a payload, and what the user wants of it

_PYDANTIC: Final = ("pydantic", "pydantic_core", "annotated_types")
_MARKS: Final = ("__get_pydantic_core_schema__", "__pydantic_validator__")
_NO_DATA: Final = ("callable", "is-instance", "is-subclass")
"""What pydantic takes for a type, though it is of code, of which no payload is."""
_PROBLEMS_MOST: Final = 3
_EXPECTED: Final = re.compile("^Expected `([^`]+)`(?:, got `([^`]+)`)?")
_PLACE: Final = re.compile(r" - at `(key` in `)?(\$[^`]*)`$")


def converter(wanted: Any) -> Convert:  # Any: an annotation
    """What converts a payload to this type; it raises InvalidPayloadError for one that does not fit.

    Its text may quote the payload, and be as long: whoever keeps it hides the secrets in it first, and cuts it then.

    Raises TypeError, one line, for a type that no payload can become.
    """
    unfit = "" if _is_pydantic(wanted, set()) else _unfit_for_msgspec(wanted)
    if unfit is None:
        return functools.partial(_converted, functools.partial(_by_msgspec, wanted))
    try:
        return functools.partial(_converted, _by_pydantic(wanted))
    except Exception as error:  # the user's types: whatever they raise
        raise TypeError(unfit or one_line(error)) from error


def _converted(convert: Convert, payload: Any) -> Any:  # Any: as above
    """A payload that does not fit is tried once more where msgpack has brought times that are no datetimes."""
    try:
        return convert(payload)
    except InvalidPayloadError:
        timed = _with_datetimes(payload)
        if timed is payload:
            raise
    return convert(timed)


def _with_datetimes(payload: Any) -> Any:
    """The payload itself where there is none in it."""
    if isinstance(payload, msgpack.Timestamp):
        try:
            return payload.to_datetime()
        except (OverflowError, ValueError):  # beyond the year 9999
            return payload
    if isinstance(payload, list):
        items = [_with_datetimes(item) for item in payload]
        return items if any(new is not old for new, old in zip(items, payload, strict=True)) else payload
    if isinstance(payload, dict):
        values = {key: _with_datetimes(value) for key, value in payload.items()}
        return values if any(values[key] is not payload[key] for key in payload) else payload
    return payload


def _by_msgspec(wanted: Any, payload: Any) -> Any:
    """JSON has no keys but texts: of a map with other keys they are read from their text."""
    try:
        return msgspec.convert(payload, wanted, str_keys=True)
    except msgspec.ValidationError as error:
        said = _said_by_msgspec(str(error))
    raise InvalidPayloadError(said)  # out here: the error has quoted the payload, and is to be in no chain


def _by_pydantic(wanted: Any) -> Convert:
    from pydantic import TypeAdapter, ValidationError  # a tenth of a second, for those who use it

    adapter: TypeAdapter[Any] = TypeAdapter(wanted)
    if adapter.core_schema["type"] in _NO_DATA:
        raise TypeError("it is no type of data")
    validate = functools.partial(_as_json, adapter) if _is_strict(adapter.core_schema) else adapter.validate_python

    def convert(payload: Any) -> Any:
        try:
            return validate(payload)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise InvalidPayloadError(_said_by_pydantic(problems))  # as above

    return convert


def _as_json(adapter: Any, payload: Any) -> Any:  # Any: a TypeAdapter
    """A strict model takes a text for a time only where it reads JSON, which has no times."""
    try:
        document = json.dumps(payload)
    except (TypeError, ValueError):  # msgpack has more than JSON
        return adapter.validate_python(payload)
    return adapter.validate_json(document)


def _is_strict(schema: Any) -> bool:  # Any: pydantic's description of a type, nested maps and lists
    """Whether some part of a type takes nothing but values of its own types."""
    left = [schema]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            if part.get("strict") is True:
                return True
            left += part.values()
        elif isinstance(part, list | tuple):
            left += part
    return False


def _unfit_for_msgspec(wanted: Any) -> str | None:
    """Why msgspec cannot convert to this type; None where it can."""
    try:
        info = type_info(wanted)
    except Exception as error:  # noqa: BLE001 # the user's types, e.g. with an annotation that means nothing
        return one_line(error)
    found = next((cls for cls in _custom(info, set()) if cls is not object), None)
    return None if found is None else f"{getattr(found, '__qualname__', found)} is no type of data"


def _custom(part: object, seen: set[int]) -> Iterator[Any]:  # Any: a class of the user's
    """The classes in a type of which msgspec knows nothing."""
    if isinstance(part, CustomType):
        yield part.cls
    elif isinstance(part, Type | Field) and id(part) not in seen:
        seen.add(id(part))
        for below in msgspec.structs.asdict(part).values():
            yield from _custom(below, seen)
    elif isinstance(part, tuple):
        for below in part:
            yield from _custom(below, seen)


def _is_pydantic(part: Any, seen: set[int]) -> bool:  # Any: an annotation, or something in one
    """Whether something in a type is pydantic's: a model, a type of its own, a `Field` in an `Annotated`."""
    if id(part) in seen:
        return False
    seen.add(id(part))
    if type(part).__module__.partition(".")[0] in _PYDANTIC or any(hasattr(part, mark) for mark in _MARKS):
        return True
    return any(_is_pydantic(below, seen) for below in _below(part))


def _below(part: Any) -> list[Any]:
    """What a type is made of."""
    named = [getattr(part, name, None) for name in ("__supertype__", "__value__")]  # NewType, `type X = ...`
    return [get_origin(part), *named, *get_args(part), *_fields(part)]


def _fields(part: Any) -> list[Any]:
    if not (dataclasses.is_dataclass(part) or is_typeddict(part) or hasattr(part, "_field_defaults")):
        return []
    try:
        return list(get_type_hints(part, include_extras=True).values())
    except Exception:  # noqa: BLE001 # the user's annotations; whoever converts will say what is wrong
        return []


def _said_by_msgspec(text: str) -> str:
    """The path first. What the payload holds stays as it is quoted, or nobody would find a secret in it."""
    place = _PLACE.search(text)
    said = _EXPECTED.sub(_types, text[: place.start()] if place else text)
    if place is None:
        return f"$: {said}"
    return f"{'key in ' if place[1] else ''}{place[2]}: {said}"


def _types(expected: re.Match[str]) -> str:
    return f"Expected {expected[1]}" + (f", got {expected[2]}" if expected[2] else "")


def _said_by_pydantic(problems: Sequence[Any]) -> str:  # Any: maps of pydantic's
    told = [f"{_path(problem['loc'])}: {problem['msg']}" for problem in problems[:_PROBLEMS_MOST]]
    more = len(problems) - len(told)
    return "; ".join([*told, f"and {more} more"] if more else told)


def _path(places: Sequence[int | str]) -> str:
    return "$" + "".join(f"[{place}]" if isinstance(place, int) else f".{place}" for place in places)
