"""What became of published jobs: totals and durations while it runs, the report at the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from rabbitray.actors.errors import (
    EncodeError,
    PublisherClosedError,
    PublishTimeoutError,
    RefusedError,
    UncertainError,
    UnroutableError,
)
from rabbitray.actors.message.job import Job

CONFIRMED = "confirmed"
_OUTCOMES: dict[type[Exception], str] = {
    UnroutableError: "unroutable",
    RefusedError: "refused",
    PublishTimeoutError: "timed_out",
    UncertainError: "uncertain",
}

_KINDS: dict[type[Exception], str] = {
    UnroutableError: "unroutable",
    RefusedError: "refused",
    PublishTimeoutError: "timed_out",
    UncertainError: "uncertain",
    EncodeError: "unwritable",
    PublisherClosedError: "refused",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishBatch:
    """Publishes that ended: `durations_s` from call to confirm of the confirmed, the others by kind."""

    durations_s: tuple[float, ...]
    failures: dict[str, int]


class MeterSink(Protocol):
    """Where recorded publishes go, e.g. into OpenTelemetry instruments."""

    def add(self, batch: PublishBatch) -> None:
        """Take a batch; called on the publisher's loop, so it must be quick and must not raise."""


@dataclass(slots=True)
class PublishTotals:
    """A sink that adds up: how many were confirmed, how long they took together, and the others by kind."""

    confirmed: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, batch: PublishBatch) -> None:
        """Add one batch."""
        self.confirmed += len(batch.durations_s)
        self.seconds += sum(batch.durations_s)
        self.slowest_s = max(self.slowest_s, *batch.durations_s, 0.0)
        self.failures.update(batch.failures)


class Meter:
    """A buffer in front of a sink: flushed at `size` events, and `interval_s` after the first (report, 1.2)."""

    __slots__ = ("_durations", "_failures", "_interval_s", "_sink", "_size", "_timer")

    def __init__(self, sink: MeterSink, *, size: int = 50, interval_s: float = 0.1) -> None:
        self._sink = sink
        self._size = size
        self._interval_s = interval_s
        self._durations: list[float] = []
        self._failures: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def confirmed(self, seconds: float) -> None:
        """Record one confirmed publish."""
        durations = self._durations
        durations.append(seconds)
        if len(durations) >= self._size:
            self.flush()
        elif self._timer is None:
            self._start_timer()

    def failed(self, error: Exception) -> None:
        """Record one publish that ended with `error`."""
        self._failures[_OUTCOMES.get(type(error), "other")] += 1
        if self._failures.total() >= self._size:
            self.flush()
        elif self._timer is None:
            self._start_timer()

    def flush(self) -> None:
        """Hand everything recorded so far to the sink."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._durations or self._failures:
            batch = PublishBatch(durations_s=tuple(self._durations), failures=dict(self._failures))
            self._durations.clear()
            self._failures.clear()
            self._sink.add(batch)

    def _start_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self.flush)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedJob:
    """A job that was not confirmed, and why; the class of `error` says how certain that is."""

    job: Job
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishReport:
    """How each of many jobs ended; every job is in exactly one of the six.

    Certain: `confirmed` jobs are in a queue; `unroutable`, `refused` and `unwritable` ones are in none.
    Ambiguous: `timed_out` and `uncertain` ones may still arrive; publish them again under the same id.
    """

    confirmed: tuple[Job, ...] = ()
    unroutable: tuple[FailedJob, ...] = ()
    refused: tuple[FailedJob, ...] = ()
    timed_out: tuple[FailedJob, ...] = ()
    uncertain: tuple[FailedJob, ...] = ()
    unwritable: tuple[FailedJob, ...] = ()

    @property
    def failed(self) -> tuple[FailedJob, ...]:
        """All jobs that were not confirmed."""
        return self.unroutable + self.refused + self.timed_out + self.uncertain + self.unwritable

    @property
    def ok(self) -> bool:
        """True when every job was confirmed."""
        return not self.failed


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseReport:
    """What stayed open when a publisher closed: ids of messages whose confirm had not come. Empty is good."""

    open: tuple[str, ...] = ()


def report(ends: Iterable[tuple[Job, Exception | None]]) -> PublishReport:
    """Return the report of jobs and what each ended with (None: confirmed); unknown errors are uncertain."""
    confirmed: list[Job] = []
    failed: dict[str, list[FailedJob]] = {kind: [] for kind in _KINDS.values()}
    for job, error in ends:
        if error is None:
            confirmed.append(job)
        else:
            failed[_KINDS.get(type(error), "uncertain")].append(FailedJob(job=job, error=error))
    return PublishReport(confirmed=tuple(confirmed), **{kind: tuple(some) for kind, some in failed.items()})
