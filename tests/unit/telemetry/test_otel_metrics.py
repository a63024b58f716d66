"""Metrics leave over OTLP where OTEL_METRICS_EXPORTER asks, under the names of the conventions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.telemetry import kpi
from rabbitray.actors.telemetry.metrics import MetricsBuffer
from rabbitray.actors.telemetry.otel_metrics import OtelMetrics
from rabbitray.cluster.telemetry import TelemetryConfig
from rabbitray.cluster.telemetry.meters import Meters, build
from tests.kit.otlp_receiver import OtlpReceiver

LABELS = {"pool": "orders", "queue": "jobs", "worker": "orders-worker-0001"}


class MetricsReceiver(OtlpReceiver):
    """A collector that takes metrics."""

    def __init__(self, **own: Any) -> None:
        super().__init__(**own)
        self.metrics: dict[str, Metric] = {}
        self.resource: dict[str, str] = {}

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        if path != "/v1/metrics" or self.behaviour != "accept":
            return super().take(path, headers, body)
        self.requests.append(headers)
        for one in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            self.resource = {pair.key: pair.value.string_value for pair in one.resource.attributes}
            self.metrics |= {metric.name: metric for scope in one.scope_metrics for metric in scope.metrics}
        return 200


@pytest.fixture
def receiver() -> Iterator[MetricsReceiver]:
    with MetricsReceiver() as running:
        yield running


def from_environ(**environ: str) -> TelemetryConfig:
    return TelemetryConfig.from_environ(environ)


def meters_to(receiver: OtlpReceiver, **environ: str) -> Meters:
    asked = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
    return build(from_environ(**(asked | environ)), "router", {"ray.actor_id": "a1"})


def recorded(meters: Meters) -> None:
    buffer = MetricsBuffer(OtelMetrics(LABELS, meters.provider))
    for one in kpi.TABLE.values():
        buffer.record(one.name, 12.0)
    buffer.record(kpi.PROCESSING_DURATION.name, 40.0)
    buffer.flush()


def attributes(metric: Metric) -> dict[str, str]:
    (point,) = getattr(metric, str(metric.WhichOneof("data"))).data_points
    return {pair.key: pair.value.string_value for pair in point.attributes}


def test_every_measurement_arrives_under_its_name(receiver: MetricsReceiver) -> None:
    meters = meters_to(receiver)
    recorded(meters)
    assert meters.shutdown()
    assert set(receiver.metrics) == {one.otel for one in kpi.TABLE.values()}
    assert receiver.resource["rabbitray.role"] == "router"
    assert receiver.resource["ray.actor_id"] == "a1"


def test_durations_follow_the_messaging_conventions(receiver: MetricsReceiver) -> None:
    meters = meters_to(receiver)
    recorded(meters)
    meters.shutdown()
    metric = receiver.metrics["messaging.process.duration"]
    (point,) = metric.histogram.data_points
    assert (metric.unit, point.count, round(point.sum, 6)) == ("s", 2, 0.052)
    assert list(point.explicit_bounds)[:3] == [0.005, 0.01, 0.025]
    assert attributes(metric) == {
        "messaging.system": "rabbitmq",
        "messaging.destination.name": "jobs",
        "messaging.operation.name": "process",
        "rabbitray.pool": "orders",
    }
    assert attributes(receiver.metrics["rabbitray.worker.memory.usage"])["rabbitray.worker"] == "orders-worker-0001"


def test_metrics_go_out_only_where_they_are_asked_for() -> None:
    assert from_environ(OTEL_EXPORTER_OTLP_ENDPOINT="http://collector:4318").metrics.exporters == ()
    asked = from_environ(
        OTEL_METRICS_EXPORTER="otlp",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://collector:4318",
        OTEL_EXPORTER_OTLP_METRICS_HEADERS="authorization=Bearer canary",
        OTEL_METRIC_EXPORT_INTERVAL="5000",
    )
    assert asked.metrics.collector.endpoint.reveal() == "http://collector:4318/v1/metrics"
    assert (asked.metrics.exporters, asked.metrics.interval_ms) == (("otlp",), 5_000)
    assert "canary" not in repr(asked)
    assert from_environ(OTEL_METRICS_EXPORTER="otlp", OTEL_SDK_DISABLED="true").metrics.exporters == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_METRICS_EXPORTER", "prometheus"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "soon"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "both"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "collector:4318"),
    ],
)
def test_a_mistake_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        from_environ(**{name: value})


def test_a_black_hole_ends_in_time_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with MetricsReceiver(behaviour="black_hole") as receiver:
        meters = meters_to(receiver, OTEL_EXPORTER_OTLP_TIMEOUT="0.5")
        recorded(meters)
        began = time.monotonic()
        assert not meters.shutdown(1.0)
        assert time.monotonic() - began < 10
        receiver.released.set()
        meters.shutdown(5.0)


def test_a_collector_that_refuses_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with MetricsReceiver(behaviour="refuse") as receiver:
        meters = meters_to(receiver)
        recorded(meters)
        meters.provider.force_flush()
        assert not meters.shutdown()
    said = [record for record in caplog.records if record.name == "rabbitray.cluster.telemetry.meters"]
    assert len(said) == 1
