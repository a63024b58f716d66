"""The table of measurements: the report's figures as they stand there, and the meters that fill it."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rabbitray.actors.publisher import PublishBatch
from rabbitray.actors.router.endings import LastEndings
from rabbitray.actors.router.meter import PoolMeter, PublishMeter
from rabbitray.actors.router.status import Counts
from rabbitray.actors.telemetry import kpi
from rabbitray.actors.telemetry.metrics import SAMPLED_MOST, MetricsBuffer, Totals, sample
from rabbitray.actors.worker.meter import WorkerMeter
from rabbitray.autoscale.queue_meter import BELOW_MOST, QueueMeter
from tests.kit.pool_status import QUIET, seen

REPORT_TARGETS = {
    "queue.write.duration": "<10ms, p95 <15ms",
    "queue.read.duration": "<5ms, p95 <8ms",
    "message.processing.duration": "<500ms, p95 <1000ms",
    "queue.messages.published": ">100/s",
    "queue.messages.consumed": ">200/s",
    "worker.throughput": ">20 msg/s per worker",
    "queue.depth": "<1000, alert >5000",
    "worker.cpu.utilization": "60-80%",
    "worker.memory.usage": "<200MB, alert >500MB",
    "queue.error.rate": "<1%",
    "message.retry.rate": "<5%",
    "message.dlq.rate": "<0.1%",
}


def recording() -> tuple[MetricsBuffer, Totals]:
    totals = Totals()
    return MetricsBuffer(totals), totals


def test_the_reports_names_and_targets_are_kept() -> None:
    assert {one.name: one.target.text for one in kpi.REPORT if one.target} == REPORT_TARGETS


def test_names_are_unique_and_follow_prometheus_and_ray() -> None:
    names = [one.prometheus for one in kpi.TABLE.values()]
    assert len(names) == len(set(names)) == len(kpi.REPORT) + len(kpi.OURS)
    for one in kpi.TABLE.values():
        assert re.fullmatch(r"rabbitray_[a-z_]+", one.ray), one.ray
        assert set(one.labels) <= {"pool", "queue", "worker"}
        assert one.help.endswith(".")
        assert bool(one.buckets) == (one.kind == "histogram")


@pytest.mark.parametrize(
    ("one", "value", "verdict"),
    [
        (kpi.QUEUE_DEPTH, 45, "good"),
        (kpi.QUEUE_DEPTH, 1_200, "missed"),
        (kpi.QUEUE_DEPTH, 5_001, "alert"),
        (kpi.WORKER_CPU, 70, "good"),
        (kpi.WORKER_CPU, 40, "missed"),
        (kpi.WORKER_CPU, 95, "missed"),
        (kpi.DLQ_RATE, 0.05, "good"),
        (kpi.DLQ_RATE, 0.2, "missed"),
        (kpi.CONSUMED, 238, "good"),
    ],
)
def test_a_figure_is_judged_against_its_target(one: kpi.Kpi, value: float, verdict: str) -> None:
    assert one.target is not None
    assert one.target.verdict(value) == verdict


def test_the_rates_are_those_of_the_last_minute() -> None:
    buffer, totals = recording()
    meter = PoolMeter(buffer)
    meter.look(QUIET, Counts(done=900, dead=100, acked=1_000), LastEndings(), connected=True, lag_s=0.002)
    buffer.flush()
    assert totals.last(kpi.DLQ_RATE.name) == 10.0
    for second in range(1, 62):
        counts = Counts(done=900 + second * 99, retried=second, dead=100, near_limit=second // 20, late=second // 30)
        meter.look(replace(QUIET, at=float(second)), counts, LastEndings(), connected=False, lag_s=0.0)
    buffer.flush()
    assert totals.last(kpi.DLQ_RATE.name) == 0.0
    assert totals.last(kpi.RETRY_RATE.name) == pytest.approx(1.0)
    assert totals.last(kpi.ERROR_RATE.name) == pytest.approx(1.0)
    assert totals.total(kpi.DONE.name) == 900 + 61 * 99
    assert totals.total(kpi.NEAR_LIMIT.name) == 3
    assert totals.total(kpi.LATE.name) == 2
    assert totals.last(kpi.CONNECTED.name) == 0.0


def test_holds_and_sizes_are_gauges() -> None:
    buffer, totals = recording()
    busy = seen(1.0, paused=True, workers=2, target=5, window=77).pool
    dying = LastEndings(jobs=40, dead=30, in_a_row=3)
    PoolMeter(buffer).look(busy, Counts(), dying, connected=True, lag_s=1, vanished=2, declared_again=3)
    buffer.flush()
    gauges = (kpi.HOLD, kpi.WORKERS_READY, kpi.WORKERS_WANTED, kpi.WINDOW, kpi.TOO_MANY_DEAD)
    assert [totals.last(one.name) for one in gauges] == [1.0, 2.0, 5.0, 77.0, 1.0]
    assert totals.last(kpi.LOOP_LAG.name) == 1_000.0
    assert (totals.last(kpi.QUEUES_VANISHED.name), totals.total(kpi.DECLARED_AGAIN.name)) == (2.0, 3)


def test_a_worker_is_measured_for_each_part_not_for_each_job() -> None:
    buffer, totals = recording()
    meter = WorkerMeter(buffer)
    meter.look(10.0, cpu_percent=0.0, rss_bytes=1)
    meter.jobs([SimpleNamespace(started_us=0, finished_us=5_000)] * 5_000)
    meter.unasked(3)
    meter.look(15.0, cpu_percent=71.5, rss_bytes=123 * kpi.MB)
    buffer.flush()
    assert totals.count(kpi.PROCESSING_DURATION.name) == SAMPLED_MOST
    assert totals.total(kpi.UNASKED.name) == 3
    assert totals.total(kpi.PROCESSING_DURATION.name) == SAMPLED_MOST * 5.0
    assert totals.last(kpi.WORKER_THROUGHPUT.name) == 1_000.0
    assert totals.last(kpi.WORKER_CPU.name) == 71.5


def test_publishing_is_measured_for_each_batch() -> None:
    buffer, totals = recording()
    PublishMeter(buffer).add(PublishBatch(durations_s=(0.004, 0.006), failures={"unroutable": 3}))
    buffer.flush()
    assert totals.total(kpi.WRITE_DURATION.name) == 10.0
    assert totals.total(kpi.PUBLISH_ERRORS.name) == 3


def test_a_sample_is_spread_evenly() -> None:
    assert sample(range(100), 4) == [0, 25, 50, 75]
    assert sample(range(3), 4) == range(3)


def test_arrivals_are_counted_once_whoever_published() -> None:
    buffer, totals = recording()
    meter = QueueMeter(buffer)
    for ready, received in ((10, 0), (110, 50), (60, 98), (0, 160), (None, 160), (5, 160)):
        meter.look(seen(ready=ready, received=received))
    buffer.flush()
    assert totals.total(kpi.PUBLISHED.name) == 155
    assert totals.last(kpi.QUEUE_DEPTH.name) == 5


def test_a_purged_queue_and_a_new_router_start_afresh() -> None:
    buffer, totals = recording()
    meter = QueueMeter(buffer)
    looks = [(1_000, 1), *[(0, 1)] * (BELOW_MOST + 2), (7, 1), (500, 2), (503, 2)]
    for ready, epoch in looks:
        meter.look(seen(ready=ready, epoch=epoch))
    buffer.flush()
    assert totals.total(kpi.PUBLISHED.name) == 7 + 3
