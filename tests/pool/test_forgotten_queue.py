"""A node of a RabbitMQ cluster that was frozen comes back apart from the others, as before Khepri, takes new queues and
confirms what comes into them, and forgets both when it is started again. What the pool says that worked such a queue,
and what its user does then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from rabbitray.actors.message.job import Job
from rabbitray.actors.router.holds.vanished import VANISHED, VanishedQueue
from rabbitray.actors.telemetry import kpi
from tests.kit.broker_cluster import BrokerCluster, broker_cluster
from tests.kit.eventually import eventually, eventually_sync
from tests.kit.live_commands import DEGRADED, LiveCommands, live_commands
from tests.kit.pool_settings import settings_for
from tests.kit.prometheus_text import scrape
from tests.kit.running_pool import RunningPool, pool_of

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.long, pytest.mark.timeout("600")]

COUNT = 600
WINDOW = 40
VHOST = "forgotten"


@pytest.fixture
def cluster() -> Iterator[BrokerCluster]:
    """Its first node was frozen until the others had given it up, and runs again."""
    with broker_cluster("ignore") as cluster:  # RabbitMQ's default; a minority that stops itself may do so at any time
        cluster.add_vhost(VHOST)
        frozen = cluster.nodes[0]
        cluster.freeze(frozen)
        eventually_sync(lambda: cluster.given_up(frozen), within_s=60, message="the others do not give it up")
        apart = cluster.wake(frozen)
        if not apart:
            pytest.skip(f"on RabbitMQ {cluster.version} it finds back by itself")
        yield cluster


@pytest.fixture
def live(ray_cluster: str, cluster: BrokerCluster) -> Iterator[LiveCommands]:
    with live_commands({"RABBITMQ_URL": cluster.urls(VHOST), "RAY_ADDRESS": ray_cluster}) as live:
        yield live


def slow_jobs() -> list[Job]:
    """Of which a pool of two works 20 a second."""
    return [Job(id=f"job-{n}", payload={"do": "slow", "s": 0.1}) for n in range(COUNT)]


async def done(pool: RunningPool) -> set[str]:
    """Jobs that have a row."""
    assert pool.service.store.actor is not None
    table = await pool.service.store.actor.query.remote("SELECT key FROM results", COUNT + 1, 5.0)
    keys = [row["key"] for row in table.to_pylist()]
    assert len(keys) == len(set(keys)), "two rows of one job"
    return set(keys)


async def worked(pool: RunningPool, count: int) -> bool:
    return await pool.acked_so_far() >= count


async def told(pool: RunningPool) -> VanishedQueue | None:
    """That the main queue vanished."""
    events = (await pool.report()).vanished
    return next((event for event in events if event.queue == pool.loaded.settings.queue), None)


async def waits(pool: RunningPool) -> bool:
    """Whether it consumes nothing, and has finished what it held."""
    report = await pool.report()
    return VANISHED in report.holds and report.connected and not report.pool.held


async def exported(pool: str) -> bool:
    """Whether the metric of the alert is above 0."""
    return any(one.value > 0 for one in await scrape(pool) if one.name == kpi.QUEUES_VANISHED.prometheus)


async def all_done(pool: RunningPool) -> bool:
    return len(await done(pool)) == COUNT


async def test_a_queue_that_a_node_forgot_is_told_and_waited_for(
    cluster: BrokerCluster, live: LiveCommands, tmp_path: Path
) -> None:
    loaded = settings_for(cluster.urls(VHOST), tmp_path, prefetch_count=WINDOW, max_size=2)
    name = loaded.settings.queue
    async with pool_of(loaded) as pool:
        await pool.publish(slow_jobs())
        await eventually(lambda: worked(pool, 150), within_s=60, message="nothing runs")  # and its depths are looked at
        await asyncio.to_thread(cluster.nodes[0].restart)
        event = await eventually(lambda: told(pool), within_s=60, message="nobody tells that it vanished")
        await eventually(lambda: waits(pool), message="what it held is not finished")
        kept = await done(pool)
        assert event.state == "missing"
        assert WINDOW < COUNT - len(kept) <= event.messages < COUNT, "the last look tells what is lost"
        assert not cluster.has_queue(VHOST, name), "it is not made anew before somebody has looked"
        status = await asyncio.to_thread(live.run, "status", "--queue", name, "--pool", name)
        assert status.code == DEGRADED
        assert f"{event}; the pool waits for it" in " ".join(status.out.split())
        await eventually(lambda: exported(name), within_s=45, message="no metric says so")
        said = await asyncio.to_thread(live.run, "resume", "--vanished", "--queue", name, "--pool", name)
        assert said.code == 0
        assert f"confirmed: {event}" in said.out.splitlines()
        await pool.publish(job for job in slow_jobs() if job.id not in kept)
        await eventually(lambda: all_done(pool), within_s=90, message="it does not go on")
        assert (await pool.report()).vanished == ()
