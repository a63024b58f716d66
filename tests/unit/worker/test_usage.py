"""What a worker's process uses: carried by its parts once for each reading, shown as long as it says something."""

from __future__ import annotations

from dataclasses import asdict

import msgspec

from rabbitray.actors.message.reply import Part, Usage, decode_part, encode_part
from rabbitray.actors.message.rows import to_stream
from rabbitray.actors.publisher import PublishBatch
from rabbitray.actors.router.meter import PublishMeter
from rabbitray.actors.router.report import USAGE_FRESH_S, worker_row
from rabbitray.actors.telemetry.metrics import NO_METRICS, SAMPLED_MOST, Percentiles
from rabbitray.actors.worker.usage import ProcessUsage
from rabbitray.actors.worker.worker import SIGN_OF_LIFE_MOST_S
from tests.kit.pool_harness import Harness
from tests.kit.result_rows import rows_of

READING = Usage(cpu_percent=71.5, rss_bytes=45_000_000)


class FakeProcess:
    """A process that uses always the same."""

    rss = READING.rss_bytes

    def cpu_percent(self, interval: float | None = None) -> float:
        return READING.cpu_percent or 0.0

    def memory_info(self) -> FakeProcess:
        return self


def test_a_reading_is_carried_by_one_part_only() -> None:
    usage = ProcessUsage(FakeProcess())
    usage.read()
    first, second = (decode_part(usage.encoded(Part(jobs=1), to_stream(rows_of([])))) for _ in range(2))
    assert (first.usage, second.usage) == (READING, None)


def test_a_part_tells_the_bytes_of_its_rows() -> None:
    usage, rows = ProcessUsage(FakeProcess()), to_stream(rows_of(["x" * 1_000]))
    assert 1_000 < decode_part(usage.encoded(Part(rows=1), rows)).row_bytes == len(rows)
    assert decode_part(usage.encoded(Part(), to_stream(rows_of([])))).row_bytes == 0


def test_a_part_of_a_worker_that_tells_no_bytes_is_read() -> None:
    *told, _ = msgspec.msgpack.decode(encode_part(Part(rows=1, jobs=1, usage=READING)))
    part = decode_part(msgspec.msgpack.encode(told))
    assert (part.rows, part.usage, part.row_bytes) == (1, READING, 0)


async def test_the_last_that_a_worker_told_is_in_its_row_as_long_as_it_is_fresh() -> None:
    pool = Harness()
    await pool.ready(1)
    for usage in (READING, None):
        batch, task = pool.send()
        await pool.arrived(batch)
        pool.at(batch).answer(batch.id, Part(finished=[0], jobs=1, usage=usage))
        await task
    (member,) = pool.pool.members
    row = worker_row(member, member.used_at + SIGN_OF_LIFE_MOST_S)
    assert (row.cpu_percent, row.rss_bytes, row.jobs) == (71.5, 45_000_000, 2)
    old = worker_row(member, member.used_at + USAGE_FRESH_S + 0.001)  # a float sum may round down
    assert (old.cpu_percent, old.rss_bytes) == (None, 45_000_000)


async def test_a_worker_that_is_starting_uses_nothing_yet() -> None:
    pool = Harness(auto=False)
    pool.pool.resize(1)
    row = worker_row(pool.pool.members[0], 0.0)
    assert (row.state, row.cpu_percent, row.rss_bytes) == ("starting", None, None)


def test_the_latency_of_publishes_is_kept_without_a_metrics_system() -> None:
    meter = PublishMeter(NO_METRICS)
    assert meter.latency.summary() == Percentiles(p50=None, p95=None, p99=None)
    meter.add(PublishBatch(durations_s=(0.004,) * 1_000, failures={}))
    assert meter.latency.count == SAMPLED_MOST  # a sample of each batch, so that it costs nothing
    summary = asdict(meter.latency.summary())
    assert list(summary) == ["p50", "p95", "p99"]
    assert all(value is not None and 3.8 <= value <= 4.2 for value in summary.values())
