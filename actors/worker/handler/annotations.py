"""What an annotation asks for. Pure."""

from __future__ import annotations

import inspect
import types
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from rabbitray.actors.message.job import Job
from rabbitray.actors.message.message import Message

Given = Literal["job", "payload", "message"]

_UNIONS: Final = (Union, types.UnionType)
_SHOWN_MOST: Final = 100
_NOTHING: Final[tuple[Any, ...]] = (inspect.Parameter.empty, Any, *Job.__mro__[1:])  # Any: special forms of typing


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What one parameter gets. `ours`: it names one of our classes; `wanted`: what its payload becomes, if `typed`."""

    given: Given
    ours: bool = False
    typed: bool = False
    wanted: Any = None  # Any: an annotation


_JOB_OR_ANYTHING: Final = Wish(given="job")
_JOB: Final = Wish(given="job", ours=True)
_MESSAGE: Final = Wish(given="message", ours=True)


def resolved(annotation: Any, names: dict[str, Any]) -> Any:  # Any: annotations, whatever has a name
    """An annotation without texts in it, which Python leaves there; of a variable what it is bound to, a text as a
    rule. Raises what evaluating them raises.
    """
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    found = get_type_hints(holder, names, names, include_extras=True)["it"]
    bound = found.__bound__ if isinstance(found, TypeVar) else None
    return found if bound is None else resolved(bound, names)


def wish_of(annotation: Any) -> Wish:  # Any: an annotation
    """What it asks for. Whatever a Job is, too (`object`, a Protocol, a union with Job), gets the job, as ever."""
    annotation, origin = _unaliased(annotation), get_origin(annotation)
    if origin is Annotated or origin in _UNIONS:
        members = get_args(annotation)[: 1 if origin is Annotated else None]
        found = next((wish for wish in map(wish_of, members) if not _is_payload(wish)), None)
        return found or Wish(given="payload", typed=True, wanted=annotation)
    if isinstance(annotation, TypeVar):
        return _JOB_OR_ANYTHING if annotation.__bound__ is None else wish_of(annotation.__bound__)
    if any(annotation is one for one in _NOTHING) or getattr(annotation, "_is_protocol", False):
        return _JOB_OR_ANYTHING
    if annotation is Message:
        return _MESSAGE
    if inspect.isclass(origin or annotation) and issubclass(origin or annotation, Job):
        payload = next((arg for arg in get_args(annotation) if _is_payload(wish_of(arg))), None)
        return _JOB if payload is None else Wish(given="job", ours=True, typed=True, wanted=payload)
    return Wish(given="payload", typed=True, wanted=annotation)


def item_of(annotation: Any) -> Any:  # Any: an annotation
    """Of what a batch handler gets a list of, one. Raises TypeError where a list is not what is annotated."""
    annotation = _unaliased(annotation)
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if any(annotation is one for one in _NOTHING):
        return Any
    container, items = get_origin(annotation) or annotation, get_args(annotation)
    if not inspect.isclass(container) or not issubclass(list, container) or len(items) > 1:
        raise TypeError(f"no list: {annotation}")
    return items[0] if items else Any


def shown(annotation: Any) -> str:  # Any: an annotation
    """As it would be written."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return " ".join(text.split())[:_SHOWN_MOST]


def _is_payload(wish: Wish) -> bool:
    return wish.given == "payload"


def _unaliased(annotation: Any) -> Any:  # Any: an annotation
    """Of `type Name = ...` what stands behind it."""
    while type(annotation).__name__ == "TypeAliasType":
        annotation = annotation.__value__
    return annotation
