"""MetricsBuffer: measurements of one process, sent every few seconds; Latency: a bounded histogram. Pure."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

_STEP = math.log(1.05)

T = TypeVar("T")
SAMPLED_MOST = 16
log = logging.getLogger(__name__)
Labels = Mapping[str, str]
NO_LABELS: Final[Labels] = {}
OVERFLOW: Final[Labels] = {"overflow": "true"}
Series = tuple[str, tuple[tuple[str, str], ...]]
DURATION_BUCKETS_S: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0),
)
"""Histogram bounds in seconds, from the OpenTelemetry messaging conventions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """The 50th, 95th and 99th percentile of durations in ms; None where nothing was counted."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class Latency:
    """Counts durations in milliseconds in buckets that grow by 5 %; memory is bounded by the range, not the count."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0

    def add(self, milliseconds: float) -> None:
        """Counts one duration; anything below 0.1 ms counts as 0.1 ms, above a day as a day."""
        bounded = min(max(milliseconds, 0.1), 86_400_000.0)
        self._buckets[round(math.log(bounded) / _STEP)] += 1
        self.count += 1

    def summary(self) -> Percentiles:
        """The percentiles of all that was counted."""
        return Percentiles(p50=self.percentile(0.5), p95=self.percentile(0.95), p99=self.percentile(0.99))

    def percentile(self, share: float) -> float | None:
        """The duration in ms below which `share` (0..1) of the counted ones lie; None when nothing was counted."""
        rank = share * self.count
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                return round(math.exp(bucket * _STEP), 1)
        return None


def sample(values: Sequence[T], most: int = SAMPLED_MOST) -> Sequence[T]:
    """At most `most` of the values, evenly spread."""
    return values if len(values) <= most else [values[i * len(values) // most] for i in range(most)]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    """How measurements are recorded: METRICS_ENABLED, METRICS_BATCH_ENABLED, _BATCH_SIZE, _FLUSH_INTERVAL."""

    enabled: bool = True
    batched: bool = True
    batch_size: int = 50
    flush_interval_ms: int = 100
    max_series: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """All values that one series got since the last flush, in order; units are in the name of the metric."""

    name: str
    labels: tuple[tuple[str, str], ...]
    values: tuple[float, ...]

    @property
    def count(self) -> int:
        """How many events were recorded."""
        return len(self.values)

    @property
    def total(self) -> float:
        """Their sum: what a counter adds."""
        return sum(self.values)

    @property
    def last(self) -> float:
        """The newest: what a gauge shows."""
        return self.values[-1]


class Sink(Protocol):
    """Where flushed measurements go: Ray's metrics, OTLP, or totals in memory."""

    def emit(self, points: Sequence[Point]) -> None:
        """Takes the points of one flush; called by one thread at a time."""


class Recorder(Protocol):
    """What whoever measures something needs."""

    def record(self, name: str, value: float = 1.0, labels: Labels = NO_LABELS) -> None:
        """Notes one event; `labels` must not be changed afterwards."""

    def flush(self) -> None:
        """Hands everything noted so far to the sink."""

    async def run(self, stopped: asyncio.Event) -> None:
        """Flushes at the configured interval until `stopped`, and once more then."""


class MetricsBuffer:
    """Recorder that batches. Thread-safe; label sets beyond `max_series` are counted as `overflow=true`."""

    def __init__(self, sink: Sink, config: MetricsConfig | None = None) -> None:
        config = config or MetricsConfig()
        self._sink = sink
        self._size = config.batch_size if config.batched else 1
        self._interval_s = config.flush_interval_ms / 1000
        self._max_series = config.max_series
        self._loop: asyncio.AbstractEventLoop | None = None  # while `run` runs
        self._due = False  # a flush is on its way
        self._events: deque[tuple[str, float, Labels]] = deque()
        self._series: set[Series] = set()
        self._flushing = threading.Lock()
        self.sink_failures = 0

    def record(self, name: str, value: float = 1.0, labels: Labels = NO_LABELS) -> None:
        """Notes one event; the event that fills the batch pays for its flush, unless one is under way."""
        self._events.append((name, value, labels))
        if not self._due and (loop := self._loop) is not None:
            self._due = True  # two threads may both set it: a flush too many, which finds nothing
            loop.call_soon_threadsafe(loop.call_later, self._interval_s, self._flush_due)
        if len(self._events) >= self._size and self._flushing.acquire(blocking=False):
            try:
                self._emit()
            finally:
                self._flushing.release()

    def flush(self) -> None:
        """Adds up what was noted and hands it to the sink; a failing sink is logged once and counted."""
        with self._flushing:
            self._emit()

    async def run(self, stopped: asyncio.Event) -> None:
        """Until `stopped`, flushes `flush_interval_ms` after the first event that was noted since; once more then.

        A timer, and none while nothing is noted: a task that sleeps and wakes costs several times as much, which is
        seen where each process does it ten times a second.
        """
        self.start()
        try:
            await stopped.wait()
        finally:
            self.stop()

    def start(self) -> None:
        """Flushes by a timer of the running event loop from now on, also what was noted before."""
        self._loop = asyncio.get_running_loop()
        self._flush_due()

    def stop(self) -> None:
        """Ends the timer, and flushes once more."""
        self._loop = None
        self.flush()

    def _flush_due(self) -> None:
        self._due = False  # first: what is noted from here on gets a flush of its own
        self.flush()

    def _emit(self) -> None:
        points = self._gather()
        if not points:
            return
        try:
            self._sink.emit(points)
        except Exception as error:
            self.sink_failures += 1
            if self.sink_failures == 1:
                log.exception("Metrics are lost, the sink failed: %s", type(error).__name__)

    def _gather(self) -> list[Point]:
        unlabelled: dict[str, list[float]] = {}  # most events: their series is their name
        labelled: dict[Series, list[float]] = {}
        for _ in range(len(self._events)):
            name, value, labels = self._events.popleft()
            if labels:
                labelled.setdefault(self._bounded(name, labels), []).append(value)
            elif (values := unlabelled.get(name)) is not None:
                values.append(value)
            else:
                unlabelled[name] = [value]
        for name, values in unlabelled.items():
            labelled.setdefault(self._bounded(name, NO_LABELS), []).extend(values)
        return [Point(name=name, labels=labels, values=tuple(v)) for (name, labels), v in labelled.items()]

    def _bounded(self, name: str, labels: Labels) -> Series:
        series = (name, tuple(sorted(labels.items())))
        if series in self._series:
            return series
        if len(self._series) >= self._max_series:
            return (name, tuple(OVERFLOW.items()))
        self._series.add(series)
        return series


class _NoMetrics:
    """Recorder of METRICS_ENABLED=false: does nothing."""

    __slots__ = ()

    def record(self, name: str, value: float = 1.0, labels: Labels = NO_LABELS) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    async def run(self, stopped: asyncio.Event) -> None:
        """Waits for `stopped`."""
        await stopped.wait()


NO_METRICS: Final[Recorder] = _NoMetrics()
"""The shared recorder that records nothing."""


def recorder(config: MetricsConfig, sink: Sink) -> Recorder:
    """The recorder that `config` asks for: batched, one by one, or none."""
    return MetricsBuffer(sink, config) if config.enabled else NO_METRICS


class Totals:
    """Sink in memory for `status`, the summary and tests: count, sum and last value of each series."""

    def __init__(self) -> None:
        self._seen: dict[Series, tuple[int, float, float]] = {}

    def emit(self, points: Sequence[Point]) -> None:
        """Adds the points."""
        for point in points:
            series = (point.name, point.labels)
            count, total, _ = self._seen.get(series, (0, 0.0, 0.0))
            self._seen[series] = (count + point.count, total + point.total, point.last)

    def count(self, name: str, labels: Labels | None = None) -> int:
        """Events of `name`; all label sets unless `labels` are given."""
        return sum(count for count, _, _ in self._matching(name, labels))

    def total(self, name: str, labels: Labels | None = None) -> float:
        """Sum of the values of `name`; all label sets unless `labels` are given."""
        return sum(total for _, total, _ in self._matching(name, labels))

    def last(self, name: str, labels: Labels = NO_LABELS) -> float | None:
        """The newest value of one series; None before the first."""
        seen = self._seen.get((name, tuple(sorted(labels.items()))))
        return None if seen is None else seen[2]

    def _matching(self, name: str, labels: Labels | None) -> Iterable[tuple[int, float, float]]:
        wanted = None if labels is None else tuple(sorted(labels.items()))
        return [seen for (known, own), seen in self._seen.items() if known == name and wanted in (None, own)]
