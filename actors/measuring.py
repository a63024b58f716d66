"""What the stations measure, in few steps: once a second for the pool, once for each part or batch elsewhere. Pure.

Nothing here costs anything for each message. Names and units come from `kpi.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from actors import kpi
from actors.latency import Latency
from actors.metrics import Recorder
from actors.publisher import PublishBatch
from actors.status import PoolStatus

T = TypeVar("T")

SAMPLED_MOST = 16
RATE_SPAN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the router has counted since its start. `at`: monotonic seconds."""

    at: float
    done: int = 0
    duplicates: int = 0
    retried: int = 0
    dead: int = 0
    acked: int = 0

    @property
    def runs(self) -> int:
        """Runs of jobs that came to an end."""
        return self.done + self.duplicates + self.retried + self.dead


class PoolMeter:
    """Records the state of the pool at each look: gauges, what was added to the counters, the rates of a minute."""

    def __init__(self, metrics: Recorder, span_s: float = RATE_SPAN_S) -> None:
        self._metrics = metrics
        self._span_s = span_s
        self._looks: deque[Counts] = deque([Counts(at=0.0)])

    def look(self, status: PoolStatus, counts: Counts, *, connected: bool, lag_s: float) -> None:
        """One look; counts only grow."""
        self._gauges(status, connected=connected, lag_s=lag_s)
        self._counters(self._looks[-1], counts)
        self._looks.append(counts)
        while len(self._looks) > 2 and self._looks[1].at <= counts.at - self._span_s:
            self._looks.popleft()
        self._rates(self._looks[0], counts)

    def _gauges(self, status: PoolStatus, *, connected: bool, lag_s: float) -> None:
        record = self._metrics.record
        record(kpi.HELD.name, status.held)
        record(kpi.IN_FLIGHT.name, status.in_flight)
        record(kpi.WINDOW.name, status.window)
        record(kpi.WORKERS_WANTED.name, status.target)
        record(kpi.WORKERS_READY.name, status.workers)
        record(kpi.WORKERS_STARTING.name, status.starting)
        record(kpi.HOLD.name, float(status.paused or status.hold is not None))
        record(kpi.CONNECTED.name, float(connected))
        record(kpi.LOOP_LAG.name, lag_s * 1000)

    def _counters(self, before: Counts, now: Counts) -> None:
        record = self._metrics.record
        record(kpi.DONE.name, now.done - before.done)
        record(kpi.DUPLICATES.name, now.duplicates - before.duplicates)
        record(kpi.RETRIED.name, now.retried - before.retried)
        record(kpi.DEAD.name, now.dead - before.dead)
        record(kpi.CONSUMED.name, now.acked - before.acked)

    def _rates(self, before: Counts, now: Counts) -> None:
        runs = now.runs - before.runs
        retried, dead = now.retried - before.retried, now.dead - before.dead
        for one, failed in ((kpi.ERROR_RATE, retried + dead), (kpi.RETRY_RATE, retried), (kpi.DLQ_RATE, dead)):
            self._metrics.record(one.name, 100 * failed / runs if runs else 0.0)


class Timed(Protocol):
    """A job that ran: from when to when, in microseconds."""

    started_us: int
    finished_us: int


class WorkerMeter:
    """Records what one worker does: a sample of its jobs' durations at each part, its process at each look."""

    def __init__(self, metrics: Recorder) -> None:
        self._metrics = metrics
        self._jobs = 0
        self._at: float | None = None

    def jobs(self, done: Sequence[Timed]) -> None:
        """The jobs of one part."""
        self._jobs += len(done)
        for job in sample(done):
            self._metrics.record(kpi.PROCESSING_DURATION.name, max(0, job.finished_us - job.started_us) / 1000)

    def look(self, now: float, *, cpu_percent: float, rss_bytes: int) -> None:
        """One look at the process; `now` in monotonic seconds."""
        if self._at is not None and now > self._at:
            self._metrics.record(kpi.WORKER_THROUGHPUT.name, self._jobs / (now - self._at))
        self._jobs, self._at = 0, now
        self._metrics.record(kpi.WORKER_CPU.name, cpu_percent)
        self._metrics.record(kpi.WORKER_MEMORY.name, rss_bytes)


class PublishMeter:
    """Sink of a publisher's meter: a sample of the durations up to the confirm, and the errors.

    `latency` counts the sample too, for those who look without a metrics system.
    """

    def __init__(self, metrics: Recorder) -> None:
        self._metrics = metrics
        self.latency = Latency()

    def add(self, batch: PublishBatch) -> None:
        """Takes one batch."""
        for seconds in sample(batch.durations_s):
            self._metrics.record(kpi.WRITE_DURATION.name, seconds * 1000)
            self.latency.add(seconds * 1000)
        self._metrics.record(kpi.PUBLISH_ERRORS.name, sum(batch.failures.values()))


def sample(values: Sequence[T], most: int = SAMPLED_MOST) -> Sequence[T]:
    """At most `most` of the values, evenly spread."""
    return values if len(values) <= most else [values[i * len(values) // most] for i in range(most)]
