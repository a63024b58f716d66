"""Executor: calls the user's handler for the jobs of a batch, in the handler's own style.

An exception is the outcome of one job, whatever it is; it never leaves this module.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from rabbitray.actors.secret import NO_SECRETS, Redactor
from rabbitray.actors.worker.batch_run import CALLED, BatchRun, Unit
from rabbitray.actors.worker.fork_guard import ForkGuard
from rabbitray.actors.worker.handlers import Handler


class HandlerTimeoutError(TimeoutError):
    """An async call did not end within `handler_timeout_s` and was cancelled; no time-out of the handler's own."""


class Executor:
    """Runs batches through one handler: sync ones in one thread, async ones in up to `slots` tasks at once.

    An async job is cancelled after `timeout_s`. A sync job cannot be: the router ends its worker.
    """

    def __init__(self, handler: Handler, *, slots: int, timeout_s: float, redact: Redactor = NO_SECRETS) -> None:
        self._handler = handler
        self._timeout_s = timeout_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="handler")
        self._slots = asyncio.Semaphore(slots)
        self.slots = slots if handler.style == "async" else 1
        self.busy = BusyClock()
        self.thread: int | None = None  # in which a synchronous handler runs, once it has
        self._guard = ForkGuard(redact)

    async def run(self, run: BatchRun) -> None:
        """Runs every job of the batch; what came of each is on its unit."""
        match self._handler.style:
            case "async":
                width = min(self.slots, len(run.waiting))
                await asyncio.gather(*(self._async_jobs(run) for _ in range(width)))
            case "async_batch":
                await self._async_batch(run)
            case "batch":
                await self._in_thread(self._sync_batch, run)
            case "sync":
                await self._in_thread(self._sync_jobs, run)

    async def close(self) -> None:
        """Ends the handler (its `close`, if it has one)."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        closing = self._guard.call(self._handler.close)
        if inspect.isawaitable(closing):
            await self._guard.wait(lambda _: closing, None)

    async def _in_thread(self, style: Callable[[BatchRun], None], run: BatchRun) -> None:
        """With the context of the batch: log lines and spans of a handler in a thread belong to its trace too."""
        within = contextvars.copy_context()
        await asyncio.get_running_loop().run_in_executor(self._thread, within.run, self._called, style, run)

    def _called(self, style: Callable[[BatchRun], None], run: BatchRun) -> None:
        self.thread = threading.get_ident()
        style(run)

    def _sync_jobs(self, run: BatchRun) -> None:
        call, leave = self._handler.call, self._guard.leave
        while (unit := run.next()) is not None:
            with self.busy:
                unit.started_us = _now_us()
                CALLED.set(unit)
                try:
                    unit.result = call(unit.job)
                except BaseException as error:  # noqa: BLE001 # an outcome, whatever the user's code raises
                    unit.error = error
                leave(unit.error)
                unit.finished_us = _now_us()
            run.finish(unit)

    async def _async_jobs(self, run: BatchRun) -> None:
        """One slot's share of a batch: jobs one after another, in a task (so a context) of its own."""
        while True:
            async with self._slots:
                unit = run.next()
                if unit is None:
                    return
                limit = asyncio.timeout(self._timeout_s)
                with self.busy:
                    unit.started_us = _now_us()
                    CALLED.set(unit)
                    try:
                        async with limit:
                            unit.result = await self._guard.wait(self._handler.call, unit.job)
                    except BaseException as error:  # noqa: BLE001 # an outcome, whatever the user's code raises
                        _unless_closing(error)
                        unit.error = self._as_timeout(error, limit, "the job was cancelled")
                    unit.finished_us = _now_us()
                run.finish(unit)

    def _sync_batch(self, run: BatchRun) -> None:
        """One call for all; when it raised it says nothing about its items, and each runs again alone."""
        with self.busy:
            units = _take_all(run)
            error = self._call_sync(units) if units else None
            if error is not None and len(units) == 1:
                units[0].error = error
            for unit in units:
                if error is not None and len(units) > 1 and (alone := self._call_sync([unit])) is not None:
                    unit.error = alone
                unit.finished_us = _now_us()
                run.finish(unit)

    def _call_sync(self, units: list[Unit]) -> BaseException | None:
        try:
            self._share_out(units, self._guard.call(self._handler.call, [unit.job for unit in units]))
        except BaseException as error:  # noqa: BLE001 # an outcome, whatever the user's code raises
            return error
        return None

    async def _async_batch(self, run: BatchRun) -> None:
        """As `_sync_batch`."""
        with self.busy:
            units = _take_all(run)
            error = await self._call_async(units) if units else None
            if error is not None and len(units) == 1:
                units[0].error = error
            for unit in units:
                if error is not None and len(units) > 1 and (alone := await self._call_async([unit])) is not None:
                    unit.error = alone
                unit.finished_us = _now_us()
                run.finish(unit)

    async def _call_async(self, units: list[Unit]) -> BaseException | None:
        limit = asyncio.timeout(self._timeout_s)
        try:
            async with limit:
                self._share_out(units, await self._guard.wait(self._handler.call, [unit.job for unit in units]))
        except BaseException as error:  # noqa: BLE001 # an outcome, whatever the user's code raises
            _unless_closing(error)
            return self._as_timeout(error, limit, f"the call for {len(units)} jobs was cancelled")
        return None

    def _as_timeout(self, error: BaseException, limit: asyncio.Timeout, what: str) -> BaseException:
        """The error of a call, in our words where it was our time-out that ended it."""
        if not isinstance(error, TimeoutError) or not limit.expired():
            return error
        text = f"no result within handler_timeout_s={self._timeout_s:g} s: {what}"
        told = HandlerTimeoutError(f"{text}; raise the setting, or give the handler's own calls a shorter time-out")
        stood = error.__cause__ or error  # it was cancelled there
        return told.with_traceback(stood.__traceback__)

    def _share_out(self, units: list[Unit], answers: object) -> None:
        """Gives each job its item of what a batch handler returned."""
        if not isinstance(answers, list | tuple) or len(answers) != len(units):
            got = f"{len(answers)} items" if isinstance(answers, list | tuple) else type(answers).__name__
            raise TypeError(f"batch handler {self._handler.name} returned {got} for {len(units)} jobs")
        for unit, answer in zip(units, answers, strict=True):
            if isinstance(answer, BaseException):
                unit.error = answer
            else:
                unit.result = answer


def _take_all(run: BatchRun) -> list[Unit]:
    units: list[Unit] = []
    while (unit := run.next()) is not None:
        unit.started_us = _now_us()
        units.append(unit)
    return units


def _now_us() -> int:
    return time.time_ns() // 1_000


def _unless_closing(error: BaseException) -> None:
    """Cancelling the worker's own task is no outcome of a job: the batch is abandoned."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error


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
