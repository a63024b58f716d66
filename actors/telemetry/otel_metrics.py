"""Measurements -> the OpenTelemetry meter of this process, under the names of the messaging conventions 1.44."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry.metrics import Counter, Histogram, Meter, MeterProvider, get_meter
from opentelemetry.metrics import _Gauge as Gauge  # the API's public type has no other name

from rabbitray.actors.telemetry.kpi import PROCESSING_DURATION, TABLE, WRITE_DURATION, Kpi
from rabbitray.actors.telemetry.metrics import DURATION_BUCKETS_S, Point

Instrument = Counter | Gauge | Histogram

UNITS: Final[Mapping[str, str]] = {
    "ms": "s",
    "bytes": "By",
    "percent": "%",
    "messages": "{message}",
    "rows": "{row}",
    "workers": "{worker}",
    "queues": "{queue}",
    "per_s": "{message}/s",
    "flag": "1",
}
OPERATIONS: Final = {WRITE_DURATION.name: "publish", PROCESSING_DURATION.name: "process"}


class OtelMetrics:
    """Sink into OpenTelemetry instruments; durations leave in seconds. Without a provider it does nothing."""

    def __init__(self, labels: Mapping[str, str], provider: MeterProvider | None = None) -> None:
        self._labels = labels
        self._meter: Meter = get_meter("rabbitray", meter_provider=provider)
        self._instruments: dict[str, Instrument] = {}

    def emit(self, points: Sequence[Point]) -> None:
        """Adds counters up, shows the last value of gauges, records each value of histograms."""
        for point in points:
            kpi = TABLE[point.name]
            instrument = self._instruments.get(point.name) or self._make(kpi)
            attributes = self._attributes(kpi)
            scale = 0.001 if kpi.unit == "ms" else 1.0
            match instrument:
                case Histogram():
                    for value in point.values:
                        instrument.record(value * scale, attributes)
                case Counter():
                    instrument.add(point.total, attributes)
                case _:
                    instrument.set(point.last * scale, attributes)

    def _make(self, kpi: Kpi) -> Instrument:
        made = _instrument(self._meter, kpi)
        self._instruments[kpi.name] = made
        return made

    def _attributes(self, kpi: Kpi) -> dict[str, str]:
        found = {
            "messaging.system": "rabbitmq",
            "messaging.destination.name": self._labels["queue"],
            "rabbitray.pool": self._labels["pool"],
        }
        if "worker" in kpi.labels:
            found["rabbitray.worker"] = self._labels["worker"]
        if kpi.name in OPERATIONS:
            found["messaging.operation.name"] = OPERATIONS[kpi.name]
        return found


def _instrument(meter: Meter, kpi: Kpi) -> Instrument:
    unit = UNITS[kpi.unit]
    match kpi.kind:
        case "counter":
            return meter.create_counter(kpi.otel, unit, kpi.help)
        case "gauge":
            return meter.create_gauge(kpi.otel, unit, kpi.help)
        case "histogram":
            bounds = DURATION_BUCKETS_S if kpi.convention else _bounds(kpi)
            return meter.create_histogram(kpi.otel, unit, kpi.help, explicit_bucket_boundaries_advisory=bounds)


def _bounds(kpi: Kpi) -> Sequence[float]:
    return [bound / 1000 for bound in kpi.buckets] if kpi.unit == "ms" else list(kpi.buckets)
