"""BackgroundTasks: tasks that nobody awaits, and the wait for all of them at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine

log = logging.getLogger(__name__)


class BackgroundTasks:
    """Steps that run beside the others. A failure of one is logged, never swallowed."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, step: Coroutine[object, object, None]) -> None:
        """Runs a step beside the others."""
        task = asyncio.create_task(step)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    @property
    def running(self) -> list[asyncio.Task[None]]:
        """Those that have not ended, without the one that asks."""
        return [task for task in self._tasks if task is not asyncio.current_task()]

    async def finish(self, within_s: float) -> bool:
        """Waits for all of them, also for those that they spawn, and cancels what is left after `within_s`.

        Returns True when all ended in time.
        """
        now = asyncio.get_running_loop().time
        deadline = now() + within_s
        while (tasks := self.running) and (left_s := deadline - now()) > 0:
            await asyncio.wait(tasks, timeout=left_s)
        unfinished = self.running
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        return not unfinished

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("A step of the router failed", exc_info=error)
