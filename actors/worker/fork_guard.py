"""ForkGuard: a process that the user's code forked ends where it would come back into our code.

`os.fork()` gives the child a copy of the worker, its event loop and Ray's connections included: were it to go on, it
would run the rest of the batch once more and answer over the parent's sockets. `os._exit` runs no clean-up, which is
the parent's, and closes nothing of what both hold.
"""

from __future__ import annotations

import os
import types
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

from rabbitray.actors.printable import printable
from rabbitray.actors.secret import NO_SECRETS, Redactor
from rabbitray.actors.worker.outcome.error_text import describe

T = TypeVar("T")

_STDERR = 2


class ForkGuard:
    """Made in the process in which the user's code is called; costs one `os.getpid` for each call."""

    __slots__ = ("_pid", "_redact")

    def __init__(self, redact: Redactor = NO_SECRETS) -> None:
        self._pid = os.getpid()
        self._redact = redact

    def call(self, function: Callable[..., T], *arguments: object) -> T:
        """What the function returns or raises; in another process than this one it does neither."""
        try:
            returned = function(*arguments)
        except BaseException as error:
            self.leave(error)
            raise
        self.leave(None)
        return returned

    @types.coroutine
    def wait(self, function: Callable[[Any], Awaitable[T]], argument: object) -> Generator[Any, Any, T]:
        """As `call`, for a coroutine function, whose coroutine runs in a copy of the context, its own. One that waits
        would give a child to the copy of the loop, and all its tasks would go on there.
        """
        try:
            made = function(argument)
        except BaseException as error:
            self.leave(error)
            raise
        self.leave(None)
        within = copy_context().run
        work = made if type(made) is types.CoroutineType else _awaited(made)
        step: Callable[[Any], Any] = work.send  # Any: what the loop and the coroutine tell each other
        value: Any = None
        try:
            while True:
                waits_for = within(step, value)
                self.leave(None, "waited")
                try:
                    step, value = work.send, (yield waits_for)
                except GeneratorExit:
                    work.close()
                    raise
                except BaseException as error:  # noqa: BLE001 # the coroutine's to handle
                    step, value = work.throw, error
        except StopIteration as end:
            self.leave(None)
            return end.value  # type: ignore[no-any-return] # what the coroutine returned
        except BaseException as error:
            self.leave(error)
            raise

    def leave(self, error: BaseException | None, how: str = "returned") -> None:
        """The user's code is left now: ends this process if it is a child of the one that entered it."""
        if os.getpid() != self._pid:
            _end(self._pid, error, how, self._redact)


async def _awaited(work: Awaitable[T]) -> T:
    return await work


def _end(parent: int, error: BaseException | None, how: str, redact: Redactor) -> None:
    code = 1
    try:
        code = exit_code(error)
        _tell(parent, how if error is None else _raised(error, redact), code)
    finally:  # whatever the text of the user's exception raises
        os._exit(code)


def _raised(error: BaseException, redact: Redactor) -> str:
    name, text = describe(error, redact)
    return f"raised {name}: {' '.join(text.split())}"


def _tell(parent: int, how: str, code: int) -> None:
    line = (
        f"process {os.getpid()}, forked by the handler's code in process {parent}, {how}: it ends here with code {code}"
    )
    with suppress(OSError):  # directly: a logger's lock or buffer may be a copy of one that the parent uses
        os.write(_STDERR, f"{printable(line)}; let a forked child end with os._exit\n".encode())


def exit_code(error: BaseException | None) -> int:
    """With what the interpreter would end: 0 for a return, the code of `sys.exit`, 1 for every other exception."""
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        return 1
    if error.code is None:
        return 0
    return error.code & 0xFF if isinstance(error.code, int) else 1
