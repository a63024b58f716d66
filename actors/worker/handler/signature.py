"""What a handler asks for, by the annotations of its parameters: the job, its payload, the whole message. Pure.

A parameter whose annotation says nothing (none at all, `Any`, `object`) gets the job. A decorator that takes `*args`
hands on what the function asks for that it wraps; of one with parameters of its own these count.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Final

from rabbitray.actors.errors import HandlerLoadError, one_line
from rabbitray.actors.worker.handler.annotations import Given, Wish, item_of, resolved, shown, wish_of
from rabbitray.actors.worker.handler.conversion import Convert, converter
from rabbitray.actors.worker.handler.parameters import names_of, parameters_of
from rabbitray.actors.worker.handler.shape import is_batch

_WHY: Final = 300
"""Characters of what somebody else says of a type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asks:
    """What a handler is called with for a job, in the order of its parameters; a batch handler with a list of each.

    `convert`: what the payload is put through, be it given alone or in its job; None: it is given as it came.
    """

    given: tuple[Given, ...] = ("job",)
    convert: Convert | None = None

    @property
    def message(self) -> bool:
        """Whether it wants the whole message."""
        return "message" in self.given

    @property
    def job_alone(self) -> bool:
        """Whether it is called with the job as it came, and nothing else."""
        return self.given == ("job",) and self.convert is None


def asks_of(found: Any, name: str) -> Asks:  # Any: a function, an object with `__call__`, or a class of such
    """What it asks for: by its first parameter, and by a second one if one of them asks for the message.

    Raises HandlerLoadError for an annotation that means nothing, or that no payload can become. What its other
    parameters need is no business of this.
    """
    function, parameters = parameters_of(found)
    reader = _Reader(name, names_of(function), batch=is_batch(found))
    wishes = [reader.first(parameter) for parameter in parameters[:1]]
    for parameter in parameters[1:2]:
        second = reader.second(parameter)
        if second is not None and (second.given == "message") != (wishes[0].given == "message"):
            wishes.append(second)
    converts = [_converter(wish, parameter, name) for wish, parameter in zip(wishes, parameters, strict=False)]
    return Asks(
        given=tuple(wish.given for wish in wishes) or ("job",),
        convert=next((convert for convert in converts if convert is not None), None),
    )


class _Reader:
    """Reads the annotations of one handler's parameters. `names`: what they may name."""

    def __init__(self, handler: str, names: dict[str, Any], *, batch: bool) -> None:  # Any: whatever has a name
        self._handler = handler
        self._names = names
        self._batch = batch

    def first(self, parameter: inspect.Parameter) -> Wish:
        """What the first one gets. Raises HandlerLoadError."""
        annotation = self._resolved(parameter)
        try:
            return self._wish(annotation)
        except TypeError:
            raise HandlerLoadError(
                f"handler {self._handler!r}: the annotation {shown(parameter.annotation)} of parameter "
                f"{parameter.name!r} is no list, as a batch handler gets it; write list[...], e.g. list[Job]"
            ) from None

    def second(self, parameter: inspect.Parameter) -> Wish | None:
        """What the second one gets, if it can be given anything; one with a default only what it names as ours."""
        optional = parameter.default is not parameter.empty
        try:
            wish = self._wish(self._resolved(parameter))
        except TypeError:
            return None
        except HandlerLoadError:
            if optional:
                return None
            raise
        return None if optional and not wish.ours else wish

    def _wish(self, annotation: Any) -> Wish:  # Any: an annotation
        return wish_of(item_of(annotation) if self._batch else annotation)

    def _resolved(self, parameter: inspect.Parameter) -> Any:  # Any: an annotation
        try:
            return resolved(parameter.annotation, self._names)
        except Exception as error:  # the user's code
            raise HandlerLoadError(
                f"handler {self._handler!r}: the annotation {shown(parameter.annotation)} of parameter "
                f"{parameter.name!r} cannot be resolved: {one_line(error)[:_WHY]}; what it names must be there at run "
                "time, at the top of the module"
            ) from error


def _converter(wish: Wish, parameter: inspect.Parameter, name: str) -> Convert | None:
    if not wish.typed:
        return None
    try:
        return converter(wish.wanted)
    except TypeError as error:
        raise HandlerLoadError(
            f"handler {name!r}: no payload can become what parameter {parameter.name!r} asks for, "
            f"{shown(wish.wanted)}: {' '.join(str(error).split())[:_WHY]}; annotate it Job or Message, or as a "
            "pydantic model, msgspec Struct, dataclass, TypedDict or dict"
        ) from error
