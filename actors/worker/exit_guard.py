"""ExitGuard: `sys.exit` in a task that a handler started ends that task, not the event loop of the worker.

asyncio lets SystemExit and KeyboardInterrupt of a task out of `run_forever`. The thread of a Ray actor's loop then ends
without a word, and with it the worker's answers: the router would take it for hung.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from typing import Any, Final

from rabbitray.actors.errors import RabbitrayError, text_of

Coro = Coroutine[Any, Any, Any]  # Any: what the user's coroutine and the loop tell each other
Factory = Callable[..., "asyncio.Future[Any]"]

IN_HANDLER: Final[ContextVar[bool]] = ContextVar("rabbitray_in_handler", default=False)
"""True in the tasks that call the handler, and so in all that these start."""


class ChildExitError(RabbitrayError):
    """A task that the handler started was left by SystemExit or KeyboardInterrupt, its `__cause__`."""


class ExitGuard:
    """The task factory of a loop while a handler is called on it; around the factory that was there before."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._before: Factory | None = None

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on; may be called again."""
        if self._loop is None:
            self._loop, self._before = loop, loop.get_task_factory()
            loop.set_task_factory(self._task)

    def remove(self) -> None:
        """Gives the loop its own factory back."""
        if self._loop is not None and self._loop.get_task_factory() == self._task:
            self._loop.set_task_factory(self._before)
        self._loop = None

    def _task(self, loop: asyncio.AbstractEventLoop, coro: Any, /, **options: Any) -> asyncio.Future[Any]:
        if IN_HANDLER.get():
            coro = _Contained(coro)
        if self._before is not None:
            return self._before(loop, coro, **options)
        return asyncio.Task(coro, loop=loop, **options)


class _Contained(Coroutine[Any, Any, Any]):
    """A coroutine whose SystemExit is an exception like others; its attributes are the ones of what it runs."""

    __slots__ = ("_coro",)

    def __init__(self, coro: Coro) -> None:
        self._coro = coro

    def send(self, value: Any) -> Any:
        try:
            return self._coro.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise _contained(error) from error

    def throw(self, *error: Any) -> Any:
        try:
            return self._coro.throw(*error)
        except (SystemExit, KeyboardInterrupt) as exit_error:
            raise _contained(exit_error) from exit_error

    def close(self) -> None:
        self._coro.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coro.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coro, name)


def _contained(error: BaseException) -> ChildExitError:
    name = type(error).__name__
    return ChildExitError(f"a task that the handler started ended by {name}({text_of(error)})")
