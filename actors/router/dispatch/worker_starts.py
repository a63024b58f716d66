"""WorkerStarts: asks for the workers that a pool lacks, and hands each over once it is ready.

A start that fails is tried again with growing pauses, one worker at a time, until one succeeds. One that found no
memory on its GPU, soon after another worker's end, is tried again before it counts: Ray gives a GPU on before the
process that had it has freed its memory.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, Generic, TypeVar

from rabbitray.actors.background import BackgroundTasks
from rabbitray.actors.backoff import Backoff
from rabbitray.actors.message.reply import WorkerInfo
from rabbitray.actors.router.dispatch.member import (
    ENVIRONMENT_FAILED,
    NO_GPU_MEMORY,
    Factory,
    LastEnd,
    Member,
    WorkerLostError,
)

log = logging.getLogger(__name__)

START_AGAIN = Backoff(first_s=0.5, most_s=30.0)

ENVIRONMENT_AGAIN = Backoff(first_s=60.0, most_s=600.0)
"""An environment that could not be built: each try may install for minutes, on every node."""

GPU_FREED_WITHIN_S: Final = 30.0
"""So long after its end was asked for a worker may still hold memory of its GPU: ten seconds to stop, and some."""

GPU_AGAIN_S: Final = 2.0
GPU_TRIES: Final = 5

P = TypeVar("P")


def gpu_may_be_freed(reason: str, *, after_end_s: float, tries: int) -> bool:
    """Whether a start that failed so is tried again without being counted. Pure.

    `after_end_s`: how long after another worker's end it was asked for; `tries`: those in a row that were not counted.
    """
    return reason == NO_GPU_MEMORY and after_end_s <= GPU_FREED_WITHIN_S and tries < GPU_TRIES


class WorkerStarts(Generic[P]):
    """The workers that were asked for and are not ready yet.

    `names`: one for each worker. `timeout_s`: from the asking until it must be ready. `missing`: how many more
    workers the pool wants, the pending ones counted as there. `on_ready` takes a worker over. `ends`: of any worker.
    """

    def __init__(
        self,
        factory: Factory[P],
        *,
        names: Iterator[str],
        timeout_s: float,
        missing: Callable[[], int],
        on_ready: Callable[[Member[P]], None],
        ends: LastEnd | None = None,
    ) -> None:
        self._factory = factory
        self._names = names
        self._timeout_s = timeout_s
        self._missing = missing
        self._on_ready = on_ready
        self._ends = ends or LastEnd()
        self._pending: dict[str, Member[P]] = {}
        self._tasks = BackgroundTasks(log, "A start of a worker failed")
        self._failures = 0  # in a row; workers that were asked for together count once
        self._failed_at = 0.0
        self._not_before = 0.0
        self._gpu_tries = 0  # in a row, counted as failures are
        self._gpu_failed_at = 0.0
        self._refill: asyncio.TimerHandle | None = None
        self.took_s: float | None = None  # from the asking until ready, or of a built environment's process; smoothed
        self.environment_s: float | None = None  # until the last one's environment and place were there
        self.error: str | None = None  # why the last start failed, until one succeeds

    @property
    def pending(self) -> list[Member[P]]:
        """The workers that start now, oldest first."""
        return list(self._pending.values())

    @property
    def failures(self) -> int:
        """Starts that failed in a row; workers that were asked for together count once."""
        return self._failures

    @property
    def again_in_s(self) -> float:
        """Seconds until the next start is allowed after failures; 0 when it is now."""
        return max(0.0, self._not_before - time.monotonic())

    def fill(self) -> None:
        """Asks for what is missing; after a failure for one worker, when the pause is over and none is pending."""
        missing = self._missing()
        if missing <= 0 or (self._failures and self._pending):
            return
        if self.again_in_s:
            self._fill_later()
            return
        for _ in range(1 if self._failures else missing):
            if not self.again_in_s:  # a start that fails at once ends this round
                self._ask(next(self._names))

    def withdraw(self, member: Member[P]) -> None:
        """This pending worker is not wanted any more; that is no failed start."""
        if self._pending.pop(member.name, None) is not None:
            member.handle.kill()

    def cancel(self) -> list[asyncio.Task[None]]:
        """Withdraws all that are pending, at once: none of them is handed over any more, not even one that is ready by
        now. Returns what then still ends. `missing` is to be 0 from now on. May be called twice.
        """
        if self._refill is not None:
            self._refill.cancel()
        starting = self._tasks.cancel()
        for member in self.pending:
            self.withdraw(member)
        return starting

    async def stop(self) -> None:
        """As `cancel`, and waits until all has ended."""
        await asyncio.gather(*self.cancel(), return_exceptions=True)

    def _fill_later(self) -> None:
        if self._refill is None:
            self._refill = asyncio.get_running_loop().call_later(self.again_in_s + 0.01, self._fill_after_pause)

    def _fill_after_pause(self) -> None:
        self._refill = None
        self.fill()

    def _ask(self, name: str) -> None:
        """Asks for one worker."""
        try:
            handle = self._factory.spawn(name)
        except Exception as error:
            log.exception("Worker %s could not be asked for", name)
            self._back_off(name, time.monotonic(), error)
            return
        self._pending[name] = member = Member(name=name, handle=handle, asked_at=time.monotonic())
        self._tasks.spawn(self._start(member))

    async def _start(self, member: Member[P]) -> None:
        """Waits until the worker is ready; what happens to one that was withdrawn meanwhile does not matter."""
        try:
            async with asyncio.timeout(self._timeout_s):
                info = await member.handle.ready()
        except Exception as error:  # noqa: BLE001 # whatever it is, this worker does not start; logged below
            if self._pending.pop(member.name, None) is not None:
                member.handle.kill()
                self._failed(member, error)
        else:
            if self._pending.pop(member.name, None) is not None:
                self._hand_over(member, info)

    def _hand_over(self, member: Member[P], info: WorkerInfo) -> None:
        now = time.monotonic()
        whole_s = now - member.asked_at
        took_s = whole_s if info.start_s is None else min(info.start_s, whole_s)
        self.environment_s = None if info.start_s is None else whole_s - took_s
        self.took_s = took_s if self.took_s is None else 0.7 * self.took_s + 0.3 * took_s
        self._failures, self._gpu_tries, self._not_before, self.error = 0, 0, 0.0, None
        member.info, member.usage, member.used_at, member.state = info, info.usage, now, "ready"
        built = f", after {self.environment_s:.1f} s for its place and environment" if self.environment_s else ""
        log.info("Worker %s is ready after %.1f s (pid %d)%s", member.name, took_s, info.pid, built)
        self._on_ready(member)
        self.fill()

    def _failed(self, member: Member[P], error: Exception) -> None:
        """A start has failed: it counts, unless the memory of its GPU may be free in a moment."""
        reason = error.reason if isinstance(error, WorkerLostError) else ""
        if not gpu_may_be_freed(reason, after_end_s=member.asked_at - self._ends.at, tries=self._gpu_tries):
            self._back_off(member.name, member.asked_at, error)
            return
        if member.asked_at >= self._gpu_failed_at:
            self._gpu_tries += 1
            self._gpu_failed_at = time.monotonic()
        self._not_before = max(self._not_before, time.monotonic() + GPU_AGAIN_S)
        log.warning(
            "Worker %s found no memory on its GPU, which another may just have had: tried again in %.0f s (%s)",
            member.name, GPU_AGAIN_S, error,
        )  # fmt: skip
        self.fill()

    def _back_off(self, name: str, asked_at: float, error: Exception) -> None:
        if asked_at >= self._failed_at:
            self._failures += 1
            self._failed_at = time.monotonic()
        no_environment = isinstance(error, WorkerLostError) and error.reason == ENVIRONMENT_FAILED
        backoff = ENVIRONMENT_AGAIN if no_environment else START_AGAIN
        delay_s = replace(backoff, failures=self._failures - 1).delay_s()
        self._not_before = time.monotonic() + delay_s
        self.error = str(error) or f"not ready within {self._timeout_s:g} s"
        log.error("Worker %s could not start: %s; next try in %.1f s", name, self.error, delay_s)
        self.fill()
