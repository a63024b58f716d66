"""The parameters of a handler that count, and what their annotations may name. Pure.

Python shows of a decorated function what it wraps (`inspect.signature`); called is the decorator's function. So that
one counts, as far as it says anything: what takes `*args` alone hands on what it gets.
"""

from __future__ import annotations

import functools
import inspect
import types
from typing import Any, Final

from rabbitray.actors.message.job import Job
from rabbitray.actors.worker.handler.shape import Function, call_of

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_WRAPPERS_MOST: Final = 64
_OURS: Final = {"Job": Job}
"""Where a module imports it for type checkers alone, as handlers could that were written before this was read."""


def parameters_of(found: Any) -> tuple[Function, list[inspect.Parameter]]:  # Any: a function, object or class
    """The function whose parameters count, and those that are given by position; none where nobody can know."""
    function, own = _called(found)
    for _ in range(_WRAPPERS_MOST):
        parameters = [one for one in _signature(function) if one.kind in _POSITIONAL][own:]
        inner = _wrapped(function)
        if parameters or inner is None:
            return function, parameters
        function = inner
    return function, []


def names_of(function: Any) -> dict[str, Any]:  # Any: a function; whatever has a name
    """What the annotations of a function may name. Those of one that it wraps were copied to it."""
    names: dict[str, Any] = dict(_OURS)
    for _ in range(_WRAPPERS_MOST):
        while isinstance(function, functools.partial):
            function = function.func
        function = getattr(function, "__func__", function)
        names |= getattr(function, "__globals__", {})
        function = getattr(function, "__wrapped__", None)
    return names


def _called(found: Any) -> tuple[Function, int]:  # Any: as above
    """The function that is called, and how many of its first parameters are the object itself."""
    if hasattr(found, "__wrapped__") and not inspect.isclass(found):
        return found, 0
    call = call_of(found)
    if not inspect.isclass(found) or isinstance(call, staticmethod):
        return getattr(call, "__func__", call) if inspect.isclass(found) else call, 0
    return getattr(call, "__func__", call), int(hasattr(call, "__get__"))


def _signature(function: Function) -> list[inspect.Parameter]:
    """Of the function itself; none where it has no signature, or somebody only states one."""
    if hasattr(function, "__signature__"):
        return []
    try:
        return list(inspect.signature(function, follow_wrapped=False).parameters.values())
    except (ValueError, TypeError):  # a function in C may have none
        return []


def _wrapped(function: Function) -> Function | None:
    """What it wraps, called in the same way."""
    if isinstance(function, functools.partial):
        inner = _wrapped(function.func)
        return None if inner is None else functools.partial(inner, *function.args, **function.keywords)
    inner = getattr(function, "__wrapped__", None)
    if inner is not None and isinstance(function, types.MethodType):
        return types.MethodType(inner, function.__self__)
    return inner
