"""Measurements of the router's process: counts and rates of the pool, durations up to the confirm."""

from __future__ import annotations

from collections import deque

from rabbitray.actors.publisher import PublishBatch
from rabbitray.actors.router.endings import LastEndings
from rabbitray.actors.router.status import Counts, PoolStatus
from rabbitray.actors.telemetry import kpi
from rabbitray.actors.telemetry.metrics import Latency, Recorder, sample

RATE_SPAN_S = 60.0


class PoolMeter:
    """Records the state of the pool at each look: gauges, what was added to the counters, the rates of a minute."""

    def __init__(self, metrics: Recorder, span_s: float = RATE_SPAN_S) -> None:
        self._metrics = metrics
        self._span_s = span_s
        self._declared_again = 0
        self._looks: deque[tuple[float, Counts]] = deque([(0.0, Counts())])

    def look(
        self,
        status: PoolStatus,
        counts: Counts,
        endings: LastEndings,
        *,
        connected: bool,
        lag_s: float,
        vanished: int = 0,
        declared_again: int = 0,
    ) -> None:
        """One look; counts only grow, and so does `declared_again`. `vanished`: queues, until that is confirmed."""
        self._metrics.record(kpi.QUEUES_VANISHED.name, vanished)
        self._metrics.record(kpi.DECLARED_AGAIN.name, declared_again - self._declared_again)
        self._declared_again = declared_again
        self._metrics.record(kpi.TOO_MANY_DEAD.name, float(endings.too_many_dead))
        self._gauges(status, connected=connected, lag_s=lag_s)
        self._counters(counts.since(self._looks[-1][1]))
        self._looks.append((status.at, counts))
        while len(self._looks) > 2 and self._looks[1][0] <= status.at - self._span_s:
            self._looks.popleft()
        self._rates(counts.since(self._looks[0][1]))

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

    def _counters(self, added: Counts) -> None:
        record = self._metrics.record
        record(kpi.DONE.name, added.done)
        record(kpi.DUPLICATES.name, added.duplicates)
        record(kpi.SKIPPED.name, added.skipped)
        record(kpi.RETRIED.name, added.retried)
        record(kpi.DEAD.name, added.dead)
        record(kpi.CONSUMED.name, added.acked)
        record(kpi.POSTPONED.name, added.postponed + added.spared)
        record(kpi.STRAYS.name, added.strays)
        record(kpi.NEAR_LIMIT.name, added.near_limit)
        record(kpi.LATE.name, added.late)

    def _rates(self, added: Counts) -> None:
        runs, retried, dead = added.runs, added.retried, added.dead
        for one, failed in ((kpi.ERROR_RATE, retried + dead), (kpi.RETRY_RATE, retried), (kpi.DLQ_RATE, dead)):
            self._metrics.record(one.name, 100 * failed / runs if runs else 0.0)


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
