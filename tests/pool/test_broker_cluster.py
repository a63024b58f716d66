"""A RabbitMQ cluster of three nodes under a pool: what becomes of 3,000 jobs while nodes are killed, stopped, frozen,
cut off or short of memory or disk. Each tenth job takes the way through a rung. How long it stalls is told, and not
asserted.

Each runs ROUNDS / 10 times, at least once, and writes a row of a table.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rabbitray.actors.message.job import Job
from rabbitray.actors.publisher import Publisher
from rabbitray.cluster.driver import compose
from rabbitray.cluster.settings import Loaded
from tests.kit.broker_cluster import BrokerCluster, broker_cluster
from tests.kit.broker_faults import FAULTS, Fault, Roles
from tests.kit.eventually import eventually
from tests.kit.noted_runs import Tally, keys_run, tally
from tests.kit.pool_audit import finished
from tests.kit.pool_settings import settings_for
from tests.kit.running_pool import RunningPool, pool_of
from tests.kit.topology_of import declare_at

pytestmark = [
    pytest.mark.ray,
    pytest.mark.faults,
    pytest.mark.long,
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.timeout("1200"),
]

COUNT = 3_000
CHUNK = 30
PAUSE_S = 0.1  # 300 jobs a second: there is something to do before, during and after a fault
BEFORE = 500  # jobs that have run when it begins
AFTER = 300  # and how many more have when it goes on
DELAY_MS = 2_000


class Load:
    """Publishes all jobs, chunk by chunk, each until it is confirmed."""

    def __init__(self, loaded: Loaded, runs: Path) -> None:
        self._config = compose.publisher(loaded.settings)
        self._jobs = [
            Job(id=f"job-{n}", payload={"do": "note", "file": str(runs), "times": int(n % 10 == 0)})
            for n in range(COUNT)
        ]
        self.keys = [job.id for job in self._jobs]
        self.confirmed = 0
        self.sent_again = 0

    async def run(self) -> None:
        async with Publisher(self._config) as publisher:
            for start in range(0, COUNT, CHUNK):
                await self._confirm(publisher, self._jobs[start : start + CHUNK])
                await asyncio.sleep(PAUSE_S)

    async def _confirm(self, publisher: Publisher, jobs: list[Job]) -> None:
        while jobs:
            report = await publisher.publish_many(jobs)
            jobs = [failed.job for failed in report.failed]
            self.confirmed += len(report.confirmed)
            self.sent_again += len(jobs)


@pytest.fixture(scope="module")
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Writes a row of the table at once, so that a run that is ended early has told what it knew."""
    plugins = request.config.pluginmanager
    reporter, capture = plugins.getplugin("terminalreporter"), plugins.getplugin("capturemanager")

    def write(row: str) -> None:
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(f"| {row} |", flush=True)

    write("RabbitMQ | fault | lost | doubled | early | run again | published again | stalls s | retry late s")
    return write


@pytest.fixture(scope="module")
def started() -> Iterator[BrokerCluster]:
    with broker_cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(started: BrokerCluster) -> BrokerCluster:
    """Whole at the start of each test."""
    started.whole()
    return started


@pytest.mark.parametrize("name", FAULTS)
async def test_no_job_is_lost_doubled_or_early(
    cluster: BrokerCluster, tmp_path: Path, name: str, rounds: int, tell: Callable[[str], None]
) -> None:
    for number in range(max(1, rounds // 10)):
        folder = tmp_path / str(number)
        folder.mkdir()
        load, found = await _under(FAULTS[name], cluster, folder)
        tell(
            f"{cluster.version} | {name} | {found.lost} | {found.doubled} | {found.early} | {found.again} | "
            f"{load.sent_again} | {found.stall_s:.1f} | {found.late_s:.1f}"
        )
        assert (found.lost, found.doubled, found.early, found.dead) == (0, 0, 0, 0), found
        assert found.retried == COUNT // 10


async def _under(fault: Fault, cluster: BrokerCluster, folder: Path) -> tuple[Load, Tally]:
    connected, other, leader = cluster.nodes
    vhost, runs = f"test-{uuid.uuid4().hex[:12]}", folder / "runs.csv"
    cluster.add_vhost(vhost)
    loaded = settings_for(
        cluster.urls(vhost, [connected, other, leader]),
        folder,
        retry_delay_ms=DELAY_MS,
        retry_max_delay_ms=DELAY_MS,
        prefetch_count=100,
    )
    await declare_at(cluster.urls(vhost, [leader]), loaded.settings)
    assert cluster.leader(vhost, loaded.settings.queue) is leader
    async with pool_of(loaded) as pool:
        load = Load(loaded, runs)
        publishing = asyncio.create_task(load.run())
        await eventually(lambda: len(keys_run(runs)) >= BEFORE, within_s=90, message="nothing runs")
        since = time.time()
        roles = Roles(cluster=cluster, connected=connected, leader=leader)
        await _through(fault, roles, load, runs)
        await asyncio.to_thread(cluster.whole)
        await asyncio.wait_for(publishing, 300)
        await eventually(lambda: finished(pool, COUNT), within_s=400, message="the pool did not come to rest")
        await _no_retry_out(pool)
        await pool.stop()
        return load, tally(runs, loaded.settings.results, load.keys, delay_s=DELAY_MS / 1000, since=since)


async def _through(fault: Fault, roles: Roles, load: Load, runs: Path) -> None:
    try:
        await asyncio.to_thread(fault.begin, roles)
        before, confirmed = len(keys_run(runs)), load.confirmed + CHUNK  # what was on its way may still be confirmed
        if fault.lasts_s is None:
            await eventually(lambda: len(keys_run(runs)) >= before + AFTER, within_s=200, message="it does not go on")
        else:
            await asyncio.sleep(fault.lasts_s)
        assert not fault.blocks or load.confirmed <= confirmed, "publishers are to wait while there is an alarm"
    finally:
        await asyncio.to_thread(fault.end, roles)


async def _no_retry_out(pool: RunningPool) -> None:
    async def none() -> bool:
        return (await pool.report()).retries_out == 0

    await eventually(none, within_s=400, message="a retry is out")
