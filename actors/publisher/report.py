"""What became of published jobs: totals and durations while it runs, the report at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
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
from rabbitray.actors.printable import printable
from rabbitray.actors.telemetry.metrics import MetricsBuffer, MetricsConfig, Point

CONFIRMED = "confirmed"
LONGEST_ERROR = 200
LONGEST_ID = 80
_OUTCOMES: dict[type[Exception], str] = {
    UnroutableError: "unroutable",
    RefusedError: "refused",
    PublishTimeoutError: "timed_out",
    UncertainError: "uncertain",
}

_KINDS = _OUTCOMES | {EncodeError: "unwritable", PublisherClosedError: "refused"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishBatch:
    """Publishes that ended since the last batch.

    `durations_s`: seconds from call to confirm, one for each that was confirmed. `failures`: how many were not, by
    kind: `unroutable`, `refused`, `timed_out`, `uncertain`, `other`.
    """

    durations_s: tuple[float, ...]
    failures: dict[str, int]


class MeterSink(Protocol):
    """Gets what became of publishes, e.g. to record it in OpenTelemetry; for `Publisher(sink=...)`."""

    def add(self, batch: PublishBatch) -> None:
        """Take a batch. Called on the publisher's event loop: it must not block and must not raise."""


@dataclass(slots=True)
class PublishTotals:
    """Adds up what became of a publisher's messages; `Publisher.totals`.

    `confirmed`: how many; `seconds`: from call to confirm, of all of them together; `slowest_s`: of the slowest;
    `failures`: how many were not confirmed, by kind as in PublishBatch.
    """

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


class _Batches:
    """A metrics sink that hands on what was recorded in one flush as a PublishBatch."""

    def __init__(self, sink: MeterSink) -> None:
        self._sink = sink

    def emit(self, points: Sequence[Point]) -> None:
        durations = next((point.values for point in points if point.name == CONFIRMED), ())
        failures = {point.name: point.count for point in points if point.name != CONFIRMED}
        self._sink.add(PublishBatch(durations_s=durations, failures=failures))


class Meter:
    """What became of each publish, handed to a sink in batches of `size`, or `interval_s` after the first of one.

    Source: the report, 1.2. Between `start` and `stop` it flushes by a timer of the event loop.
    """

    def __init__(self, sink: MeterSink, *, size: int = 50, interval_s: float = 0.1) -> None:
        config = MetricsConfig(batch_size=size, flush_interval_ms=round(interval_s * 1000))
        self._buffer = MetricsBuffer(_Batches(sink), config)

    def start(self) -> None:
        """Flush by the clock from now on, in the running event loop."""
        self._buffer.start()

    def stop(self) -> None:
        """Hand everything recorded so far to the sink; no timer any more."""
        self._buffer.stop()

    def confirmed(self, seconds: float) -> None:
        """Record one confirmed publish."""
        self._buffer.record(CONFIRMED, seconds)

    def failed(self, error: Exception) -> None:
        """Record one publish that ended with `error`."""
        self._buffer.record(_OUTCOMES.get(type(error), "other"))


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedJob:
    """A job that was not confirmed, and why; the class of `error` says whether it may be in a queue."""

    job: Job
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishReport:
    """How each of many jobs ended; every job is in exactly one of the six.

    - `confirmed`: in a queue.
    - `unroutable`, `refused`, `unwritable`: in no queue (UnroutableError; RefusedError or PublisherClosedError;
      EncodeError).
    - `timed_out`, `uncertain`: may be in a queue, or still arrive (PublishTimeoutError, UncertainError). Publish them
      again under the same id; the pool recognises a duplicate by it.
    """

    confirmed: tuple[Job, ...] = ()
    unroutable: tuple[FailedJob, ...] = ()
    refused: tuple[FailedJob, ...] = ()
    timed_out: tuple[FailedJob, ...] = ()
    uncertain: tuple[FailedJob, ...] = ()
    unwritable: tuple[FailedJob, ...] = ()

    @property
    def failed(self) -> tuple[FailedJob, ...]:
        """All jobs that were not confirmed, of every kind."""
        return self.unroutable + self.refused + self.timed_out + self.uncertain + self.unwritable

    @property
    def ok(self) -> bool:
        """Whether every job was confirmed."""
        return not self.failed

    def __str__(self) -> str:
        """One line: how many ended how, and the first failure: `9,998 confirmed, 2 refused (first: job 'o-7': ...)`."""
        ends = {kind: len(getattr(self, kind)) for kind in (CONFIRMED, *dict.fromkeys(_KINDS.values()))}
        text = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in ends.items() if count)
        if not self.failed:
            return text or "nothing published"
        first = self.failed[0]
        why = printable(str(first.error))[:LONGEST_ERROR]
        return f"{text} (first: job {printable(str(first.job.id))[:LONGEST_ID]!r}: {why})"


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseReport:
    """What was unconfirmed when a publisher closed. `open`: the `message_id` of each; empty when all is confirmed."""

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
