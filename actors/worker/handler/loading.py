"""The user's code: loads `module:attr`, and sets a class up."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from rabbitray.actors.errors import HandlerLoadError, one_line
from rabbitray.actors.secret import NO_SECRETS, Redactor
from rabbitray.actors.telemetry.own_logging import own_logging
from rabbitray.actors.worker.fork_guard import ForkGuard
from rabbitray.actors.worker.handler.shape import (
    BATCH_MARK,
    Function,
    Style,
    require_call,
    require_usable,
    style_of,
)
from rabbitray.actors.worker.handler.signature import Asks, asks_of
from rabbitray.actors.worker.handler.users_modules import in_package, name_of, shadowed, where_it_lies

F = TypeVar("F", bound=Callable[..., Any] | type)


def batch(handler: F) -> F:
    """Marks a handler that takes a list of jobs and returns a list of results; returns it unchanged.

    `handler`: a function, or a class with `__call__`, plain or async. Annotated `list[Job[Order]]`, `list[Order]` or
    `list[Message]` it gets a list of these; two lists where it asks for messages beside the others. The returned list
    has one item for each job, in order: a result that JSON can hold, or an exception instance (`Retry`, `Reject`, any
    other) that is that job's outcome. When the call itself raises, its jobs are run again one by one.
    """
    setattr(handler, BATCH_MARK, True)
    return handler


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A loaded handler, ready to be called with what it asks for. `close` is called once when the worker ends."""

    name: str
    style: Style
    call: Function
    close: Callable[[], Any]  # Any: may be a coroutine
    asks: Asks = field(default_factory=Asks)


def load(path: str, redact: Redactor = NO_SECRETS) -> Handler:
    """Imports `module:attr`, sets a class up, and finds the style. `redact`: for what a forked process says at its end.

    Raises HandlerLoadError, one line: what cannot be found or called, and what is near. An exception of the user's
    own set-up code (`__init__`, `setup`) passes through unchanged.
    """
    return prepare(find(path, redact), path, redact)


def prepare(found: Any, name: str, redact: Redactor = NO_SECRETS) -> Handler:  # Any: a function or class of the user's
    """Sets a class up, and finds the style of what is already imported. Raises as `load`."""
    asks = _asks(found, name)
    if not inspect.isclass(found):
        return Handler(name=name, style=style_of(found), call=found, close=lambda: None, asks=asks)
    guard = ForkGuard(redact)
    with own_logging():
        made: Any = set_up(f"handler {name!r}", "made", found, guard)  # Any: the user's object
        setup = getattr(made, "setup", None)
        if callable(setup) and inspect.isawaitable(set_up(f"handler {name!r}", "set up", setup, guard)):
            raise HandlerLoadError(f"handler {name!r}: setup must be a plain function, and returned an awaitable")
    close = getattr(made, "close", None)
    return Handler(name=name, style=style_of(found), call=made, close=close or (lambda: None), asks=asks)


def set_up(what: str, step_name: str, step: Callable[[], Any], guard: ForkGuard) -> Any:  # Any: the user's object
    """What ends a process ends this start only: Ray would show a worker that ended, and no word of why.

    `what`: the handler or decoder, with its name; `step_name`: what is done with it, for the words of the error.
    """
    try:
        return guard.call(step)
    except Exception:
        raise
    except BaseException as error:  # SystemExit, KeyboardInterrupt, what else is none of our processes' business
        raise HandlerLoadError(f"{what}: could not be {step_name}: {one_line(error)}") from error


def find(path: str, redact: Redactor = NO_SECRETS) -> Any:  # Any: a function or a class of the user's
    """The handler at `module:attr`, importable from the working directory; nothing is set up yet."""
    found = find_named("handler", path, redact)
    _asks(found, path)
    return found


def find_named(what: str, path: str, redact: Redactor = NO_SECRETS) -> Any:  # Any: whatever stands there
    """The object at `module:attr`. `what`: handler or decoder, for the words of HandlerLoadError."""
    module_name, colon, attribute = path.partition(":")
    if not colon or not module_name or not attribute:
        raise HandlerLoadError(f"{what} {path!r} is not of the form module:attr, e.g. mypackage.jobs:handle")
    if (meant := name_of(module_name)) is not None:
        raise HandlerLoadError(f"{what} {path!r} names a file; write the module: {meant}:{attribute}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    module = _import(what, path, module_name, redact)
    found = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = get_close_matches(part, dir(found), 1)
            hint = shadowed(module) or (f"; did you mean {near[0]!r}?" if near else "")
            raise HandlerLoadError(f"{what} {path!r}: module {module_name!r} has no {part!r}{hint}")
        found = getattr(found, part)
    return found


def _asks(found: Any, name: str) -> Asks:  # Any: whatever stands at the path
    """What a handler asks for. Raises HandlerLoadError where it cannot be called with that."""
    require_usable(found, name)
    asks = asks_of(found, name)
    require_call(found, name, asks.given)
    return asks


def _import(what: str, path: str, module_name: str, redact: Redactor) -> Any:  # Any: a module
    try:
        with own_logging():
            return ForkGuard(redact).call(importlib.import_module, module_name)
    except ModuleNotFoundError as missing:
        raise HandlerLoadError(f"{what} {path!r}: {_missing(missing.name or '?', module_name)}") from missing
    except BaseException as error:  # SystemExit, too
        raise HandlerLoadError(f"{what} {path!r}: importing {module_name!r} failed: {one_line(error)}") from error


def _missing(name: str, module_name: str) -> str:
    """What cannot be imported, and what to do: other things for a module that lies in the user's folder."""
    own = module_name.split(".")[0] == name.split(".")[0]
    said = f"no module named {name!r}" if own else f"importing {module_name!r} needs {name!r}"
    parent = sys.modules.get(name.split(".")[0])
    if "." in name and parent is not None and (hint := shadowed(parent)):
        return f"{said}{hint}"
    if (lies := where_it_lies(name, module_name)) is not None:
        within = in_package(name, lies)
        other = f", or write `from {within} import {name}`" if within and not own else ""
        return f"{said}, which is {lies}, but not on the path: set PYTHONPATH={lies.parent.resolve()}{other}"
    if own:
        return f"{said}; start where it can be imported, or set PYTHONPATH"
    return f"{said}, which is not installed, nor anywhere in {Path.cwd()}; install it, or set PYTHONPATH"
