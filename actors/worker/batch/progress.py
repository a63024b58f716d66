"""RunningUnits: what the jobs that run in a worker tell of themselves, and when each of them is ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from rabbitray.actors.message.job import Job
from rabbitray.actors.message.reply import Progress
from rabbitray.actors.message.running import RUNNING
from rabbitray.actors.secret import NO_SECRETS, Redactor
from rabbitray.actors.worker.batch.running import BatchRun
from rabbitray.actors.worker.batch.unit import CALLED, Unit

TEXT_MOST: Final = 200

TOLD_WITHIN_S: Final = 1.0
"""What jobs tell is gathered for so long."""


class RunningUnits:
    """RunningJobs of one worker, from its start until `close`. Nothing is kept for a job that tells nothing.

    `runs`: its batches, which its event loop changes; `timeout_s`: a job that says nothing is ended after that;
    `max_run_s`: any job is. `redact`: what the texts must not hold.
    """

    def __init__(
        self, runs: Mapping[str, BatchRun], *, timeout_s: float, max_run_s: float, redact: Redactor = NO_SECRETS
    ) -> None:
        self._runs = runs
        self._redact = redact
        self._timeout_s = timeout_s
        self._max_run_s = max(max_run_s, timeout_s)
        RUNNING.append(self)

    def close(self) -> None:
        """Nothing runs here any more. May be called twice."""
        if self in RUNNING:
            RUNNING.remove(self)

    def progress(self, job: Job, fraction: float, text: str) -> bool:
        """Notes it for the next part, and lets the time of an async call begin again."""
        found = self._find(job)
        if found is None:
            return False
        run, unit = found
        told = Progress(
            position=unit.position,
            record=unit.record,
            key=unit.key or unit.parcel.message_id,
            fraction=fraction,
            text=self._redact.cut(" ".join(text.split()), TEXT_MOST),
            started_at=unit.started_us / 1_000_000,
            told_at=time.time(),
        )
        run.tell(unit, told, min(TOLD_WITHIN_S, self._timeout_s / 4))
        if unit.limit is not None:
            run.loop.call_soon_threadsafe(self._extend, unit)
        return True

    def deadline(self, job: Job) -> datetime | None:
        """The end of its time by this machine's clock."""
        found = self._find(job)
        return None if found is None else datetime.fromtimestamp(self._ends_at(found[1]), UTC)

    def _ends_at(self, unit: Unit) -> float:
        """Unix seconds."""
        started_at = unit.started_us / 1_000_000
        since = started_at if unit.told is None else unit.told.told_at
        return min(since + self._timeout_s, started_at + self._max_run_s)

    def _extend(self, unit: Unit) -> None:
        """On the event loop."""
        limit = unit.limit
        if limit is None or unit.finished_us or limit.expired():
            return
        left_s = self._ends_at(unit) - time.time()
        try:
            limit.reschedule(asyncio.get_running_loop().time() + left_s)
        except RuntimeError:  # its call has ended, or ends now
            return

    def _find(self, job: Job) -> tuple[BatchRun, Unit] | None:
        """The run of a job: the one that is called in this context, else that of the same job, else of an equal one: a
        handler with a typed payload gets a copy.
        """
        called, pairs = CALLED.get(), list(self._executing())
        ways: tuple[Callable[[Unit], bool], ...] = (
            lambda unit: unit is called and _equal(unit.job, job),
            lambda unit: unit.job is job,
            lambda unit: job.id is not None and _equal(unit.job, job),
        )
        return next(((run, unit) for same in ways for run, unit in pairs if same(unit)), None)

    def _executing(self) -> Iterator[tuple[BatchRun, Unit]]:
        for run in list(self._runs.values()):
            for unit in run.now_executing():
                yield run, unit


def _equal(ours: Job, theirs: Job) -> bool:
    return (ours.id, ours.key, ours.attempt) == (theirs.id, theirs.key, theirs.attempt)
