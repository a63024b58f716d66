"""BackgroundTasks: tasks that nobody awaits, and their owner: it ends them, logs failures, keeps up what must go on.

Every task and thread of the house has an owner: this one, or who awaits it. tests/project/test_background_owners.py
goes over all of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Final

AGAIN_S: Final = 1.0
"""Seconds until work that failed is begun again: a fault that stays costs a log line each second."""


class BackgroundTasks:
    """The tasks that run beside one owner, on one event loop.

    asyncio keeps only weak references to tasks, and an exception that nobody awaits is seen when the task is
    collected as garbage, if at all. Here a task lives until it ends, and what it raises is logged once, to `log` with
    the fixed text `failed`. A task that was cancelled has not failed; one that ended since a future that it awaited was
    cancelled has (aiormq does that when it gives a connection up).
    """

    def __init__(self, log: logging.Logger, failed: str) -> None:
        self._log = log
        self._failed = failed
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, step: Coroutine[object, object, None], *, name: str | None = None) -> asyncio.Task[None]:
        """Runs a step beside the others; its task may be awaited or cancelled, and need not be."""
        task = asyncio.create_task(step, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def keep(
        self, work: Callable[[], Coroutine[object, object, None]], *, name: str | None = None
    ) -> asyncio.Task[None]:
        """As `spawn`, for work that goes on until it returns: whatever it raises is logged, and it begins again, unless
        its task was cancelled: a future that it awaits may be cancelled by anybody.
        """
        return self.spawn(self._kept(work), name=name)

    async def _kept(self, work: Callable[[], Coroutine[object, object, None]]) -> None:
        while True:
            try:
                return await work()
            except (Exception, asyncio.CancelledError) as error:  # whatever it is: what must go on does
                if asked_to_end():  # whoever cancelled it waits for its end, also where its clean-up fails
                    raise
                self._log.error("%s; it begins again in %g s", self._failed, AGAIN_S, exc_info=error)
            await asyncio.sleep(AGAIN_S)

    @property
    def running(self) -> list[asyncio.Task[None]]:
        """Those that have not ended, without the one that asks."""
        return [task for task in self._tasks if not task.done() and task is not _current()]

    def cancel(self) -> list[asyncio.Task[None]]:
        """Asks all that run to end, without the one that asks; returns them. What they still do is for `gather`."""
        running = self.running
        for task in running:
            task.cancel()
        return running

    async def close(self) -> None:
        """Cancels all and waits until they have ended. May be called twice."""
        await asyncio.gather(*self.cancel(), return_exceptions=True)

    async def finish(self, within_s: float) -> bool:
        """Waits for all of them, also for those that they spawn, and cancels what is left after `within_s` seconds.

        Returns True when all ended in time.
        """
        now = asyncio.get_running_loop().time
        deadline = now() + within_s
        while (tasks := self.running) and (left_s := deadline - now()) > 0:
            await asyncio.wait(tasks, timeout=left_s)
        unfinished = self.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        return not unfinished

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if (error := _failure(task)) is not None:
            self._log.error(self._failed, exc_info=error)


def _failure(task: asyncio.Task[None]) -> BaseException | None:
    if not task.cancelled():
        return task.exception()
    return None if task.cancelling() else asyncio.CancelledError("a future that it awaited was cancelled")


def asked_to_end() -> bool:
    """Whether somebody has cancelled the task that asks, also where a call below has swallowed it."""
    task = _current()
    return task is not None and task.cancelling() > 0


def _current() -> asyncio.Task[object] | None:
    """None outside of a task, e.g. in a callback of the loop."""
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs here
        return None
