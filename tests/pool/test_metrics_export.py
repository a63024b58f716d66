"""A running pool shows every measurement on Ray's Prometheus endpoint: right names, labels and totals."""

from __future__ import annotations

import time
from pathlib import Path

import aio_pika
import pytest

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.wire import encode
from rabbitray.actors.telemetry import kpi
from rabbitray.cluster.driver import compose
from rabbitray.cluster.settings import Loaded
from tests.kit.eventually import eventually
from tests.kit.pool_settings import settings_for
from tests.kit.prometheus_text import Sample, scrape
from tests.kit.running_pool import RunningPool, pool_of

SCRAPE_WITHIN_S = 45.0  # Ray gathers every 3 s here, see tests/conftest.py

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def total(samples: list[Sample], name: str) -> float:
    return sum(one.value for one in samples if one.name == name)


def names_of(one: kpi.Kpi) -> set[str]:
    """The series that a measurement has on the endpoint."""
    return (
        {one.prometheus + end for end in ("_bucket", "_sum", "_count")} if one.kind == "histogram" else {one.prometheus}
    )


RUNS_OK, RETRIES, REJECTED = 510, 10, 5
AGAIN = 2  # one with another payload, one that is the same and is skipped
NEEDS_A_FAULT = {kpi.NEAR_LIMIT, kpi.LATE, kpi.UNASKED}
"""A message near its queue's limit or held too long, a silent store: recorded in unit tests."""


def jobs() -> list[Job]:
    fine = [Job(id=f"job-{n}", payload={"n": n}) for n in range(RUNS_OK - RETRIES)]
    twice = [Job(id=f"twice-{n}", payload={"do": "raise", "times": 1}) for n in range(RETRIES)]
    return [*fine, *twice, *(Job(id=f"bad-{n}", payload={"do": "reject"}) for n in range(REJECTED))]


async def shown(pool: str, wanted: set[str]) -> list[Sample]:
    """The samples of a pool once all wanted series are there, and the look that counted the last message."""
    missing = wanted

    async def complete() -> list[Sample]:
        nonlocal missing
        samples = await scrape(pool)
        missing = wanted - {one.name for one in samples}
        if total(samples, kpi.DONE.prometheus) < RUNS_OK + 2:  # the router counts at each look, others at once
            missing = missing | {kpi.DONE.prometheus}
        return [] if missing else samples

    try:
        return await eventually(complete, within_s=SCRAPE_WITHIN_S)
    except AssertionError as late:
        raise AssertionError(f"not exported: {sorted(missing)}") from late


async def test_every_measurement_of_the_table_is_exported_where_it_is_switched_on(
    amqp_url: str, tmp_path: Path
) -> None:
    """A second pool measures nothing; once Ray has gathered the first one's, those of the second would be there."""
    loaded = settings_for(amqp_url, tmp_path, skip_done="always")
    (tmp_path / "off").mkdir()
    off = settings_for(amqp_url, tmp_path / "off", metrics_enabled=False, initial_size=1, min_size=1)
    async with pool_of(loaded) as pool, pool_of(off) as silent:
        await silent.publish([Job(id=f"job-{n}") for n in range(20)])
        await silent.acked(20)
        await pool.publish(jobs())
        await pool.acked(RUNS_OK + RETRIES + REJECTED)
        await pool.publish([Job(id="job-0"), Job(id="job-1", payload={"n": 1})])
        await pool.acked(RUNS_OK + RETRIES + REJECTED + AGAIN)
        await one_too_early_and_one_gone_astray(amqp_url, loaded)
        await eventually(lambda: strayed(pool), within_s=30)
        await without_rungs(amqp_url, loaded)
        await pool.publish([Job(id="no-way-back", payload={"do": "raise", "times": 1})])
        await eventually(lambda: came_back(pool), within_s=60)
        table = set(kpi.TABLE.values()) - NEEDS_A_FAULT
        samples = await shown(loaded.settings.pool, {series for one in table for series in names_of(one)})
        check_totals(samples)
        check_labels(samples, loaded.settings.pool, loaded.settings.queue)
        assert await scrape(off.settings.pool) == []


def check_totals(samples: list[Sample]) -> None:
    postponed = total(samples, kpi.POSTPONED.prometheus)
    assert postponed >= 1
    assert total(samples, kpi.STRAYS.prometheus) == 1
    assert total(samples, kpi.DONE.prometheus) == RUNS_OK + 2
    assert total(samples, kpi.DUPLICATES.prometheus) == AGAIN
    assert total(samples, kpi.SKIPPED.prometheus) == 1
    assert total(samples, kpi.CONFLICTS.prometheus) == 1
    assert total(samples, kpi.RETRIED.prometheus) == RETRIES + 1
    assert total(samples, kpi.DECLARED_AGAIN.prometheus) >= 1
    assert total(samples, kpi.DEAD.prometheus) == REJECTED
    assert total(samples, kpi.CONSUMED.prometheus) == RUNS_OK + RETRIES + REJECTED + AGAIN + 4 + postponed
    assert 2 <= total(samples, kpi.COMMIT_ROWS.prometheus + "_count") <= RUNS_OK + 3
    assert total(samples, kpi.WRITE_DURATION.prometheus + "_count") == RETRIES + 1 + REJECTED + postponed
    assert total(samples, kpi.PUBLISH_ERRORS.prometheus) >= 1
    assert total(samples, kpi.CONNECTED.prometheus) == 1
    assert total(samples, kpi.HOLD.prometheus) == 0
    memory = [one.value for one in samples if one.name == kpi.WORKER_MEMORY.prometheus]
    assert memory
    assert all(10 * kpi.MB < value < 2_000 * kpi.MB for value in memory)


async def one_too_early_and_one_gone_astray(amqp_url: str, loaded: Loaded) -> None:
    """A message that is due in two seconds, and one that another queue was meant for."""
    names = compose.topology(loaded.settings)
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        body, content_type = encode(Job(id="later"))
        early = aio_pika.Message(body, content_type=content_type, headers={h.DUE: int(time.time() * 1000) + 2_000})
        await channel.default_exchange.publish(early, names.queue)
        await (await channel.get_queue(names.queue)).bind(names.exchange, routing_key="another.dead")
        await (await channel.get_exchange(names.exchange)).publish(aio_pika.Message(b"{}"), "another.dead")


async def came_back(pool: RunningPool) -> bool:
    """Whether the retry went through its rung, which was gone and is declared again."""
    return (await pool.report()).counts.done == RUNS_OK + 2


async def strayed(pool: RunningPool) -> bool:
    """Whether both have come to their end."""
    counts = (await pool.report()).counts
    return (counts.strays, counts.done) == (1, RUNS_OK + 1)


async def without_rungs(amqp_url: str, loaded: Loaded) -> None:
    """Deletes the retry queues: from now on a copy is unroutable, and its message stays."""
    topology = compose.topology(loaded.settings)
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        for delay in topology.rung_delays_ms:
            await channel.queue_delete(topology.rung(delay))


def check_labels(samples: list[Sample], pool: str, queue: str) -> None:
    """Bounded labels: pool, queue, and a worker where the table says so; nothing about a message."""
    for one in kpi.TABLE.values():
        for sample in (found for found in samples if found.name in names_of(one)):
            own = {label: value for label, value in sample.labels.items() if label in kpi.WORKER}
            assert set(own) == set(one.labels), sample
            assert (own["pool"], own["queue"]) == (pool, queue)
            assert own.get("worker", f"{pool}-worker-").startswith(f"{pool}-worker-")
            assert not any("job-" in value or "bad-" in value for value in sample.labels.values())
