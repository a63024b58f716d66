"""HandlerThread: the one thread in which sync handlers run; a decoder of the user's has one of its own.

Not one of concurrent.futures: a process that `multiprocessing` forks there joins at its end the thread that it runs in,
and exits with code 1.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

A = TypeVar("A")
T = TypeVar("T")
Call = tuple["asyncio.Future[Any]", Callable[[], Any]]  # Any: what the call returns


class HandlerThread:
    """Calls follow one another; the thread begins with the first one, and keeps no process from ending."""

    def __init__(self, name: str = "handler") -> None:
        self._name = name
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def call(self, function: Callable[[A], T], argument: A) -> T:
        """What the function returns, which must raise nothing; it runs in the context of the caller.

        Whoever stops waiting drops a call that has not begun, and leaves one that has.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        within = contextvars.copy_context()
        self._calls.put((answer, lambda: within.run(function, argument)))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        return await answer

    @property
    def ident(self) -> int | None:
        """As `threading.get_ident` has it; None before the first call."""
        return self._thread.ident if self._thread is not None else None

    def close(self) -> None:
        """Ends the thread after the call that runs now; what has not begun is cancelled."""
        with suppress(Empty):
            while (call := self._calls.get_nowait()) is not None:
                call[0].cancel()
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            answer, work = call
            if answer.cancelled():
                continue
            settle, found = answer.set_result, None
            try:
                found = work()
            except BaseException as error:  # noqa: BLE001 # a fault of ours: whoever waits gets it
                settle, found = answer.set_exception, error
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                answer.get_loop().call_soon_threadsafe(_unless_dropped, answer, settle, found)
            del call, answer, work, settle, found  # a job's objects do not wait here for the next one


def _unless_dropped(answer: asyncio.Future[Any], settle: Callable[[Any], None], found: Any) -> None:
    if not answer.done():
        settle(found)
