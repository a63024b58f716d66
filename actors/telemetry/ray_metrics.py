"""Measurements of a Ray process -> Ray's Prometheus endpoint, and OTLP where it is configured.

The only user of `ray.util.metrics`. Labels are bounded: pool, queue and, for what a worker measures, worker. Ray adds
its own (SessionName, NodeAddress, WorkerId) and the prefix `ray_`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ray.util.metrics import Counter, Gauge, Histogram

from rabbitray.actors.telemetry.kpi import TABLE, Kpi
from rabbitray.actors.telemetry.metrics import MetricsConfig, Point, Recorder, Sink, recorder
from rabbitray.actors.telemetry.otel_metrics import OtelMetrics

Instrument = Counter | Gauge | Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class Metering:
    """What a process of a pool measures and under which labels. `otlp`: its provider exports metrics, too."""

    pool: str = ""
    queue: str = ""
    config: MetricsConfig = field(default_factory=lambda: MetricsConfig(enabled=False))
    otlp: bool = False

    def recorder(self, worker: str = "") -> Recorder:
        """The recorder of this process, inside Ray; the one that does nothing when METRICS_ENABLED=false."""
        labels = {"pool": self.pool, "queue": self.queue, "worker": worker}
        ray_metrics = RayMetrics(labels)
        return recorder(self.config, Both(ray_metrics, OtelMetrics(labels)) if self.otlp else ray_metrics)


class RayMetrics:
    """Sink into `ray.util.metrics`. An instrument is made at its first value; `labels` stand on every series."""

    def __init__(self, labels: dict[str, str]) -> None:
        self._labels = labels
        self._instruments: dict[str, Instrument] = {}

    def emit(self, points: Sequence[Point]) -> None:
        """Adds counters up, shows the last value of gauges, observes each value of histograms."""
        for point in points:
            instrument = self._instruments.get(point.name) or self._make(point.name)
            match instrument:
                case Counter():
                    if point.total > 0:  # Ray refuses a counter that does not grow
                        instrument.inc(point.total)
                case Gauge():
                    instrument.set(point.last)
                case Histogram():
                    for value in point.values:
                        instrument.observe(value)

    def _make(self, name: str) -> Instrument:
        kpi = TABLE[name]
        made = instrument_of(kpi)
        made.set_default_tags({label: self._labels[label] for label in kpi.labels})
        self._instruments[name] = made
        return made


def instrument_of(kpi: Kpi) -> Instrument:
    """The instrument of one measurement."""
    match kpi.kind:
        case "counter":
            return Counter(kpi.ray, description=kpi.help, tag_keys=kpi.labels)
        case "gauge":
            return Gauge(kpi.ray, description=kpi.help, tag_keys=kpi.labels)
        case "histogram":
            return Histogram(kpi.ray, description=kpi.help, boundaries=list(kpi.buckets), tag_keys=kpi.labels)


class Both:
    """Two sinks as one; the second one gets its points even if the first one fails."""

    def __init__(self, first: Sink, second: Sink) -> None:
        self._first = first
        self._second = second

    def emit(self, points: Sequence[Point]) -> None:
        """Passes the points on to both."""
        try:
            self._first.emit(points)
        finally:
            self._second.emit(points)
