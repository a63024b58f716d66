"""Executor: runs the jobs of a batch through the user's handler, in the handler's own style."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

from rabbitray.actors.secret import NO_SECRETS, Redactor
from rabbitray.actors.worker.batch.running import BatchRun
from rabbitray.actors.worker.batch.unit import Unit
from rabbitray.actors.worker.exit_guard import IN_HANDLER, ExitGuard
from rabbitray.actors.worker.fork_guard import ForkGuard
from rabbitray.actors.worker.handler.call import Calls, Late, Task, forget_cancels
from rabbitray.actors.worker.handler.loading import Handler
from rabbitray.actors.worker.handler.thread import HandlerThread
from rabbitray.actors.worker.outcome.outcomes import Outcomes

Step = Callable[[Unit, Task], Awaitable[None]]


class Executor:
    """Runs batches through one handler: sync ones in one thread, async ones in up to `slots` tasks at once.

    An async job is cancelled after `timeout_s` without a sign of progress, and after `max_run_s`. A sync job cannot be:
    the router ends its worker. Each call has a copy of the batch's context, so that what one job sets is not seen by
    the next.

    A plain function may return an awaitable, through a decorator or a lambda. From the first such job on its calls are
    still made in the thread, for they may block, and what they return is awaited in the slots.
    """

    def __init__(
        self,
        handler: Handler,
        outcomes: Outcomes,
        *,
        slots: int,
        timeout_s: float,
        max_run_s: float,
        redact: Redactor = NO_SECRETS,
    ) -> None:
        self._handler = handler
        self._guard = ForkGuard(redact)
        self._calls = Calls(handler, outcomes, self._guard, timeout_s, max_run_s)
        self._thread = HandlerThread()
        self._slots = asyncio.Semaphore(slots)
        self._width = slots
        self.slots = slots if handler.style == "async" else 1
        self.busy = BusyClock()
        self._exits = ExitGuard()
        self._returns_awaitables = False

    @property
    def thread(self) -> int | None:
        """The thread in which a synchronous handler runs, once it has."""
        return self._thread.ident

    async def run(self, run: BatchRun) -> None:
        """Runs every job of the batch; what came of each is on its unit."""
        match self._handler.style:
            case "async":
                await self._in_slots(run, self._calls.wait)
            case "batch" | "async_batch":
                self._exits.install(asyncio.get_running_loop())
                await asyncio.gather(self._batch(run, _current()))  # a task of its own: the handler may cancel it
            case "sync" if self._returns_awaitables:
                await self._in_slots(run, self._call_and_wait)
            case "sync":
                begun = await self._thread.call(self._sync_jobs, run)
                if begun is not None:
                    await self._in_slots(run, self._call_and_wait, begun)

    async def close(self) -> None:
        """Ends the handler (its `close`, if it has one)."""
        self._thread.close()
        self._exits.remove()
        closing = self._guard.call(self._handler.close)
        if inspect.isawaitable(closing):
            await self._guard.wait(lambda _: closing, None)

    def _sync_jobs(self, run: BatchRun) -> tuple[Unit, Late] | None:
        """All jobs in a row; ends with the first one whose call returned an awaitable."""
        call = self._calls.sync
        while (unit := run.next()) is not None:
            with self.busy:
                unit.started_us = _now_us()
                if (late := call(unit)) is not None:
                    self._returns_awaitables = True
                    return unit, late
                unit.finished_us = _now_us()
            run.finish(unit)
        return None

    async def _in_slots(self, run: BatchRun, step: Step, begun: tuple[Unit, Late] | None = None) -> None:
        """The jobs of a batch, as many at once as there are slots; `begun` has been called already."""
        self._exits.install(asyncio.get_running_loop())
        owner = _current()
        shares = [self._share(run, step, owner) for _ in range(min(self._width, len(run.waiting)))]
        if begun is not None:
            shares.append(self._begun(run, owner, *begun))
        await asyncio.gather(*shares)

    async def _share(self, run: BatchRun, step: Step, owner: Task) -> None:
        """One slot's share of a batch: jobs one after another."""
        IN_HANDLER.set(True)
        task = _current()
        while True:
            async with self._slots:
                unit = run.next()
                if unit is None:
                    return
                with self.busy:
                    unit.started_us = _now_us()
                    await step(unit, owner)
                    unit.finished_us = _now_us()
                run.finish(unit)
                if task.cancelling():
                    await forget_cancels(task, owner)

    async def _begun(self, run: BatchRun, owner: Task, unit: Unit, late: Late) -> None:
        IN_HANDLER.set(True)
        with self.busy:
            await self._calls.wait(unit, owner, late)
            unit.finished_us = _now_us()
        run.finish(unit)

    async def _call_and_wait(self, unit: Unit, owner: Task) -> None:
        late = await self._thread.call(self._calls.sync, unit)
        if late is not None:
            await self._calls.wait(unit, owner, late)

    async def _batch(self, run: BatchRun, owner: Task) -> None:
        """One call for all; when it failed it says nothing about its items, and each runs again alone."""
        IN_HANDLER.set(True)
        with self.busy:
            units = _take_all(run)
            whole = not units or await self._batch_call(units, owner)
            for unit in units:
                if not whole and unit.failed is None:
                    await self._batch_call([unit], owner)
                unit.finished_us = _now_us()
                run.finish(unit)

    async def _batch_call(self, units: list[Unit], owner: Task) -> bool:
        late: Late | None = None
        if self._handler.style == "batch":
            ended = await self._thread.call(self._calls.sync_batch, units)
            if isinstance(ended, bool):
                return ended
            late = ended
        done = await self._calls.wait_batch(units, owner, late)
        if (task := _current()).cancelling():
            await forget_cancels(task, owner)
        return done


def _take_all(run: BatchRun) -> list[Unit]:
    units: list[Unit] = []
    while (unit := run.next()) is not None:
        unit.started_us = _now_us()
        units.append(unit)
    return units


def _now_us() -> int:
    return time.time_ns() // 1_000


def _current() -> Task:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a batch is run within a task")
    return task


class BusyClock:
    """Seconds in which a worker had something to do, inside `with` blocks of any number of jobs.

    A reading from another thread may be one job late.
    """

    def __init__(self) -> None:
        self._inside = 0
        self._since = 0.0
        self._total = 0.0

    def __enter__(self) -> None:
        if not self._inside:
            self._since = time.perf_counter()
        self._inside += 1

    def __exit__(self, *raised: object) -> None:
        self._inside -= 1
        if not self._inside:
            self._total += time.perf_counter() - self._since

    def add(self, seconds: float) -> None:
        """Work around the handler: decoding and writing up count as busy too."""
        self._total += seconds

    def take(self) -> float:
        """Busy seconds since the last call."""
        total, since = self._total, self._since
        if self._inside:
            now = time.perf_counter()
            total, self._since = total + now - since, now
        self._total = 0.0
        return total
