"""The OpenTelemetry metrics of one process: provider, periodic export, bounded shutdown."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from opentelemetry import metrics
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics._internal import _ProxyMeterProvider  # the API has no public name for "not set"
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ConsoleMetricExporter,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)

from rabbitray.actors.telemetry.rate_limit import LogThrottle
from rabbitray.cluster.telemetry.config import MetricsExport, TelemetryConfig
from rabbitray.cluster.telemetry.shutdown import Shutdown
from rabbitray.cluster.telemetry.traces import otlp, resource

log = logging.getLogger(__name__)

_TEMPORALITY: Final[dict[str, dict[type, AggregationTemporality]]] = {
    "cumulative": {},
    "delta": {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA},
    "lowmemory": {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA},
}


class SayingExporter(MetricExporter):
    """Passes metrics on; says at most once a minute that they do not arrive."""

    def __init__(self, exporter: MetricExporter) -> None:
        super().__init__(
            preferred_temporality=exporter._preferred_temporality,
            preferred_aggregation=exporter._preferred_aggregation,
        )
        self._exporter = exporter
        self._seldom = LogThrottle()
        self.failed = 0

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object) -> MetricExportResult:
        """Sends one collection; an exporter that raises counts as a failed one."""
        try:
            result = self._exporter.export(metrics_data, timeout_millis)
        except Exception as error:
            log.debug("Exporting metrics failed: %s", type(error).__name__, exc_info=True)
            result = MetricExportResult.FAILURE
        if result is not MetricExportResult.SUCCESS:
            self._log()
        return result

    def _log(self) -> None:
        self.failed += 1
        if self._seldom.due():
            log.warning("The metrics collector takes nothing: %d exports lost so far; work goes on", self.failed)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing is held here."""
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        """Ends the exporter."""
        self._exporter.shutdown(timeout_millis)


class Meters:
    """The provider of a process and its end."""

    dropped = 0

    def __init__(self, provider: MeterProvider, exporters: list[SayingExporter]) -> None:
        self.provider = provider
        self._exporters = exporters
        self._end = Shutdown(provider.shutdown, "metrics-shutdown")

    def shutdown(self, deadline_s: float = 5.0) -> bool:
        """Exports once more in a thread of its own and waits for it until the deadline; never longer. Repeatable."""
        return self._end.within(deadline_s) and not any(exporter.failed for exporter in self._exporters)


def install(config: TelemetryConfig, role: str, attributes: Mapping[str, str]) -> Meters | None:
    """Makes the provider and sets it; None when this process has one already."""
    if not isinstance(metrics.get_meter_provider(), _ProxyMeterProvider):
        return None
    meters = build(config, role, attributes)
    for name in ("opentelemetry.exporter.otlp", "opentelemetry.sdk.metrics"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # SayingExporter says it once a minute instead
    metrics.set_meter_provider(meters.provider)
    return meters


def build(config: TelemetryConfig, role: str, attributes: Mapping[str, str]) -> Meters:
    """Makes a provider with a reader for each exporter, without setting it."""
    wanted = config.metrics
    exporters = [
        SayingExporter(ConsoleMetricExporter() if name == "console" else _otlp(wanted)) for name in wanted.exporters
    ]
    readers = [
        PeriodicExportingMetricReader(
            exporter, export_interval_millis=wanted.interval_ms, export_timeout_millis=wanted.collector.timeout_s * 1000
        )
        for exporter in exporters
    ]
    provider = MeterProvider(readers, resource=resource(config, role, attributes), shutdown_on_exit=False)
    return Meters(provider, exporters)


def _otlp(config: MetricsExport) -> OTLPMetricExporter:
    return OTLPMetricExporter(**otlp(config.collector), preferred_temporality=_TEMPORALITY[config.temporality])
