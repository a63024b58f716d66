"""BackgroundTasks: tasks that nobody awaits, with an owner that ends them and logs what failed in them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine


class BackgroundTasks:
    """The tasks that run beside one owner, on one event loop.

    asyncio keeps only weak references to tasks, and an exception that nobody awaits is seen when the task is
    collected as garbage, if at all. Here a task lives until it ends, and what it raises is logged once, to `log` with
    the fixed text `failed`. A cancelled task has not failed.
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
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error(self._failed, exc_info=error)


def _current() -> asyncio.Task[object] | None:
    """None outside of a task, e.g. in a callback of the loop."""
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs here
        return None
