"""The shape of a handler: what can be called, and in which style: sync, async, batch. Pure."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from rabbitray.actors.errors import HandlerLoadError

Style = Literal["sync", "async", "batch", "async_batch"]
Function = Callable[..., Any]  # Any: what a handler returns is the user's

BATCH_MARK: Final = "__rabbitray_batch__"
GENERATOR_HINT: Final = "return a result instead of yielding, e.g. a list"
_NUMBERS: Final = ("no argument", "one argument", "two arguments")


def require_usable(found: Any, name: str) -> None:  # Any: whatever stands at the path
    """Raises HandlerLoadError for what is no function and no class whose objects can be called; see `require_call`."""
    if not callable(found):
        raise HandlerLoadError(f"handler {name!r} is of type {type(found).__name__}, not a function or a class")
    if inspect.isclass(found):
        _require_usable_class(found, name)
    if any(map(_yields, _called(found))):
        raise HandlerLoadError(f"handler {name!r} is a generator: {GENERATOR_HINT}")


def require_call(found: Any, name: str, given: Sequence[str]) -> None:  # Any: as above
    """Raises HandlerLoadError for what cannot be called with this: the job, its payload, the message."""
    what = " and ".join(f"the list of {one}s" if is_batch(found) else f"the {one}" for one in given)
    says = f"handler {name!r} is called with {_NUMBERS[len(given)]}, {what}"
    call, arguments = call_of(found), (None,) * len(given)
    if not inspect.isclass(found):
        require_signature(call, arguments, says)
    elif inspect.isfunction(call):
        require_signature(call, (found, *arguments), says)


def _require_usable_class(found: type, name: str) -> None:
    if not any("__call__" in vars(base) for base in found.__mro__):
        raise HandlerLoadError(f"handler {name!r} is a class without __call__: define __call__(self, job)")
    setup = getattr(found, "setup", None)
    if inspect.iscoroutinefunction(setup):
        raise HandlerLoadError(f"handler {name!r}: setup must be a plain function, not async")
    require_signature(found, (), f"handler {name!r} is a class that is made without arguments")
    for step in ("setup", "close"):
        if inspect.isfunction(called := inspect.getattr_static(found, step, None)):
            require_signature(called, (found,), f"handler {name!r}: {step} is called without arguments")


def require_signature(called: Function, arguments: tuple[object, ...], says: str) -> None:
    """Raises HandlerLoadError where the signature does not take these arguments.

    What a decorator wraps does not count, since the decorator may fill in what is missing; neither does a signature
    that somebody only states.
    """
    if hasattr(called, "__signature__") and not inspect.isclass(called):
        return
    try:
        signature = inspect.signature(called, follow_wrapped=False)
    except (ValueError, TypeError):  # a function in C may have none
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise HandlerLoadError(f"{says}: {error}") from error


def awaits(found: Any) -> bool:  # Any: a function, an object with `__call__`, or a class of such
    """Whether calling the handler gives a coroutine: its jobs then share a worker's slots."""
    return any(map(inspect.iscoroutinefunction, _called(found)))


def style_of(found: Any) -> Style:  # Any: as above
    """How it is called."""
    match awaits(found), is_batch(found):
        case True, True:
            return "async_batch"
        case True, False:
            return "async"
        case False, True:
            return "batch"
        case _:
            return "sync"


def _yields(called: Function) -> bool:
    return inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called)


def is_batch(found: Any) -> bool:  # Any: as above
    """Whether it takes lists."""
    return any(getattr(called, BATCH_MARK, False) for called in _called(found))


def _called(found: Any) -> tuple[Any, Any]:  # Any: as above
    """The handler, without the arguments that a partial fills in, and the function that is its `__call__`."""
    while isinstance(found, functools.partial):
        found = found.func
    return found, call_of(found)


def call_of(found: Any) -> Any:  # Any: as above
    """Of a class the function that its instances are called by; anything else is called itself."""
    if not inspect.isclass(found):
        return found if isinstance(found, functools.partial) or inspect.isroutine(found) else found.__call__
    return next(vars(base)["__call__"] for base in found.__mro__ if "__call__" in vars(base))
