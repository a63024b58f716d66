"""Calls: one call of the handler at a time, in a context of its own; what comes of it is on its units afterwards.

An exception is the outcome of one job, whatever it is; it never leaves this module. `owner`: the task that runs the
batch; while it is being cancelled the batch is abandoned, and nothing that is cancelled then is an outcome.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Sequence
from contextvars import copy_context
from types import AsyncGeneratorType, CoroutineType, GeneratorType, NoneType
from typing import Any, Final

from rabbitray.actors.errors import HandlerLoadError
from rabbitray.actors.message.job import Job
from rabbitray.actors.worker.batch.unit import CALLED, Unit
from rabbitray.actors.worker.fork_guard import ForkGuard
from rabbitray.actors.worker.handler.arguments import of_units
from rabbitray.actors.worker.handler.loading import Handler
from rabbitray.actors.worker.handler.shape import GENERATOR_HINT, Function
from rabbitray.actors.worker.outcome.outcomes import HandlerTimeoutError, Outcomes

Task = asyncio.Task[Any]  # Any: whatever it returns
Late = Awaitable[object]
"""What a plain function returned, where that is still to be awaited."""

_FINISHED: Final = frozenset((NoneType, bool, int, float, str, bytes, dict, list, tuple, set))
"""Types of results that leave nothing to await: nearly all; the others are asked."""


class Calls:
    """Calls one handler: `sync...` in its thread, `wait...` on the event loop, for at most `timeout_s`, from the start
    or from what the job last told of its progress, and at most `max_run_s` in all.
    """

    def __init__(
        self, handler: Handler, outcomes: Outcomes, guard: ForkGuard, timeout_s: float, max_run_s: float
    ) -> None:
        self._name = handler.name
        self._job_alone = handler.asks.job_alone
        self._call = handler.call if self._job_alone else of_units(handler, outcomes.raised)
        self._returned = outcomes.returned
        self._raised = outcomes.raised
        self._breaks = outcomes.breaks
        self._guard = guard
        self._timeout_s = timeout_s
        self._max_run_s = max_run_s

    def sync(self, unit: Unit) -> Late | None:
        """A job; returned is what is still to be awaited, by `wait`."""
        CALLED.set(unit)
        error = None
        try:
            returned = copy_context().run(self._call, unit.job if self._job_alone else unit)
            if type(returned) not in _FINISHED and (late := self._late(returned)) is not None:
                return late
            self._returned(unit, returned)
        except BaseException as raised:  # noqa: BLE001 # an outcome, whatever the user's code raises
            error = raised
            self._raised(unit, error)
        finally:
            self._guard.leave(error)
        return None

    async def wait(self, unit: Unit, owner: Task, late: Late | None = None) -> None:
        """A job; or what is left of it."""
        call: Function = self._call if late is None else lambda _: late
        limit = unit.limit = asyncio.timeout(self._timeout_s)
        CALLED.set(unit)
        try:
            async with limit:
                returned = await self._guard.wait(call, unit.job if self._job_alone else unit)
                if type(returned) not in _FINISHED:
                    returned = await self._to_its_end(returned)
            self._returned(unit, returned)
            self._guard.leave(None)
            unit.limit = None  # with its timer: they do not wait for the end of the batch
        except BaseException as error:  # noqa: BLE001 # an outcome, whatever the user's code raises
            _unless_abandoned(error, owner)
            self._raised(unit, self._as_timeout(error, limit, "the job was cancelled", told=unit.told is not None))

    def sync_batch(self, units: list[Unit]) -> Late | bool:
        """All these jobs; False where those of them that have no outcome are to run alone; or what is still to be
        awaited, by `wait_batch`.
        """
        try:
            answers = self._guard.call(self._call, self._given(units))
            if (late := self._late(answers)) is not None:
                return late
            self._guard.call(self._share_out, units, answers)
        except BaseException as error:  # noqa: BLE001 # an outcome, whatever the user's code raises
            return self._batch_failed(units, error)
        return True

    async def wait_batch(self, units: list[Unit], owner: Task, late: Late | None = None) -> bool:
        """All these jobs, or what is left of their call; as `sync_batch`."""
        call: Function = self._call if late is None else lambda _: late
        limit = asyncio.timeout(self._timeout_s)
        for unit in units:
            unit.limit = limit
        try:
            async with limit:
                answers = await self._guard.wait(call, self._given(units))
                answers = await self._to_its_end(answers)
            self._guard.call(self._share_out, units, answers)
        except BaseException as error:  # noqa: BLE001 # an outcome, whatever the user's code raises
            _unless_abandoned(error, owner)
            what = f"the call for {len(units)} jobs was cancelled"
            told = any(unit.told is not None for unit in units)
            return self._batch_failed(units, self._as_timeout(error, limit, what, told=told))
        return True

    def _given(self, units: list[Unit]) -> list[Job] | list[Unit]:
        return [unit.job for unit in units] if self._job_alone else units

    def _called(self, units: list[Unit]) -> list[Unit]:
        """Those of a batch that the handler was called with: a payload that it could not be is an outcome already."""
        return units if self._job_alone else [unit for unit in units if unit.failed is None]

    def _batch_failed(self, units: list[Unit], error: BaseException) -> bool:
        """The call for a single job is that job's outcome; another one says nothing about its items, unless it says
        that the worker is broken.
        """
        called = self._called(units)
        if len(called) == 1 or self._breaks(error):
            for unit in called:
                self._raised(unit, error)
            return len(called) > 1
        return False

    def _share_out(self, units: list[Unit], answers: object) -> None:
        """Gives each job its item of what a batch handler returned."""
        units = self._called(units)
        if not isinstance(answers, list | tuple) or len(answers) != len(units):
            got = f"{len(answers)} items" if isinstance(answers, list | tuple) else type(answers).__name__
            raise TypeError(f"batch handler {self._name} returned {got} for {len(units)} jobs")
        self._require_finished(answers)
        for unit, answer in zip(units, answers, strict=True):
            if isinstance(answer, BaseException):
                self._raised(unit, answer)
            else:
                self._returned(unit, answer)

    def _require_finished(self, answers: Sequence[object]) -> None:
        late = [answer for answer in answers if type(answer) not in _FINISHED and self._late(answer) is not None]
        for coroutine in late:
            if isinstance(coroutine, CoroutineType):
                coroutine.close()  # nobody will await it
        if late:
            raise HandlerLoadError(
                f"batch handler {self._name!r} returned a {type(late[0]).__name__} for a job: await it first, "
                "e.g. `return await asyncio.gather(*...)`"
            )

    async def _to_its_end(self, returned: object) -> object:
        """What an awaitable gives that a coroutine function returned, instead of awaiting it."""
        while (late := self._late(returned)) is not None:
            returned = await self._guard.wait(_itself, late)
        return returned

    def _late(self, returned: object) -> Late | None:
        """What was returned, if it is to be awaited. Raises HandlerLoadError for a generator: none of it has run."""
        try:
            if inspect.isawaitable(returned):
                return returned
            generator = isinstance(returned, GeneratorType | AsyncGeneratorType)
        except BaseException:  # noqa: BLE001 # a proxy, say, of which not even the class can be read
            return None
        if generator:
            kind = type(returned).__name__
            raise HandlerLoadError(f"handler {self._name} returned a {kind}, which has not run: {GENERATOR_HINT}")
        return None

    def _as_timeout(self, error: BaseException, limit: asyncio.Timeout, what: str, *, told: bool) -> BaseException:
        """The error of a call, in our words where it was our time-out that ended it; `told`: it has told progress."""
        if not isinstance(error, TimeoutError) or not limit.expired():
            return error
        text = f"no result within handler_timeout_s={self._timeout_s:g} s: {what}"
        if told:
            limits = f"handler_timeout_s={self._timeout_s:g} s, and no result within max_run_s={self._max_run_s:g} s"
            text = f"no progress within {limits}, whichever came first: {what}"
        ours = HandlerTimeoutError(f"{text}; raise the setting, or give the handler's own calls a shorter time-out")
        stood = error.__cause__ or error  # it was cancelled there
        return ours.with_traceback(stood.__traceback__)


def _itself(late: Late) -> Late:
    return late


def _unless_abandoned(error: BaseException, owner: Task) -> None:
    if isinstance(error, asyncio.CancelledError) and owner.cancelling():
        raise error


async def forget_cancels(task: Task, owner: Task) -> None:
    """A job may have cancelled the task that it runs in: that was its outcome, and is not to hit the next job."""
    while task.cancelling():
        try:
            await asyncio.sleep(0)  # meets one that is still to come
        except asyncio.CancelledError as error:
            _unless_abandoned(error, owner)
        task.uncancel()
