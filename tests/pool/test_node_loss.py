"""A node that dies with rows that the store has not fetched: their messages run again elsewhere, at no charge."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
import ray

from rabbitray.actors.errors import PayloadLostError
from rabbitray.actors.message.job import Job
from rabbitray.actors.store.client import StoreClient
from tests.kit.eventually import eventually
from tests.kit.opened_by import opened_by
from tests.kit.pool_audit import finished, lost_and_duplicated
from tests.kit.pool_settings import settings_for
from tests.kit.running_pool import RunningPool, pool_of
from tests.kit.second_node import SecondNode, occupied, on, second_node
from tests.kit.stopping import stop
from tests.kit.store_rows import rows_of

pytestmark = [
    pytest.mark.ray,
    pytest.mark.faults,
    pytest.mark.timeout("300"),
]

COUNT = 120
BULK = 30_000  # bytes of each result: rows of a batch are too large to travel in the reply
WORKED = 30
GIVE_UP_S = 10.0


class Rows:
    """Makes rows on its node, as a PoolWorker does."""

    @ray.method(num_returns=2)
    def run(self) -> tuple[int, pa.Table]:
        """The number of rows, and rows of 1 MB by reference."""
        rows = rows_of([f"{n}-{'x' * 1_000}" for n in range(1_000)])
        return rows.num_rows, rows


async def worked(pool: RunningPool) -> list[int]:
    """The processes of the workers, once they have finished enough jobs."""
    report = await pool.report()
    enough = sum(worker.jobs for worker in report.workers) >= WORKED
    return pool.worker_pids(report) if enough else []


def runs_on(node: SecondNode, pid: int) -> bool:
    """Whether this process is below the node's own."""
    return node.pid in {parent.pid for parent in psutil.Process(pid).parents()}


async def test_a_node_that_dies_with_unfetched_rows(amqp_url: str, ray_cluster: str, tmp_path: Path) -> None:
    """The store is stopped while rows gather on the second node, whose processes are then all killed at once."""
    home = ray.get_runtime_context().get_node_id()
    loaded = settings_for(amqp_url, tmp_path, batch_size=10, prefetch_count=60, initial_size=2, max_size=2)
    jobs = [Job(id=f"job-{n}", payload={"do": "bulk", "bytes": BULK}) for n in range(COUNT)]
    with second_node(ray_cluster, cpus=3) as node, occupied(home) as place:
        async with pool_of(loaded) as pool:
            maker = ray.remote(Rows).options(num_cpus=1, scheduling_strategy=on(node.id)).remote()
            count, rows = maker.run.remote()
            assert await count
            store = opened_by(loaded.settings.results)
            stop(store)
            try:
                await pool.publish(jobs)
                pids = await eventually(lambda: worked(pool), within_s=90, message="the workers did not work")
                assert all(runs_on(node, pid) for pid in pids)
                assert (await pool.report()).counts.acked == 0
                node.kill()
            finally:
                os.kill(store, signal.SIGCONT)
            ray.kill(place)
            await eventually(lambda: finished(pool, COUNT), within_s=120, message="the pool did not come to rest")
            report = await pool.report()
            assert (report.counts.dead, report.counts.retried) == (0, 0)
            assert report.given_back >= WORKED, "messages whose rows were lost run again"
            await the_client_says_so(pool, rows)
            assert await lost_and_duplicated(pool, COUNT) == (0, 0)
            assert pool.rows("SELECT max(attempts) AS runs FROM results") == [{"runs": 1}]


async def test_a_node_that_stands_still_is_shown_and_what_it_has_runs_elsewhere(
    amqp_url: str, ray_cluster: str, tmp_path: Path
) -> None:
    """Ray takes up to a minute to call it dead: its messages run elsewhere after the setting, and none is charged."""
    home = ray.get_runtime_context().get_node_id()
    loaded = settings_for(amqp_url, tmp_path, batch_size=5, initial_size=2, max_size=2, silent_node_timeout_s=GIVE_UP_S)
    jobs = [Job(id=f"job-{n}", payload={"do": "slow", "s": 0.1}) for n in range(COUNT)]
    with second_node(ray_cluster, cpus=2) as node, occupied(home) as place:
        async with pool_of(loaded) as pool:
            await pool.publish(jobs)
            await eventually(lambda: worked(pool), within_s=90, message="the workers did not work")
            host = {worker.host for worker in (await pool.report()).workers}
            assert host == {socket.gethostname()}
            node.freeze()
            try:
                silent = await eventually(lambda: fates(pool, 1), within_s=20, message="it is not shown as silent")
                assert silent == ["silent"]
                report = await pool.report()
                assert all(worker.silent_s is not None for worker in report.workers if worker.state == "ready")
                assert report.pool.silent == (node.id,)
                ray.kill(place)
                given_up = await eventually(lambda: fates(pool, 2), within_s=30, message="it is not given up")
                assert given_up == ["silent", "given up"]
                await eventually(lambda: finished(pool, COUNT), within_s=60, message="the pool did not come to rest")
            finally:
                node.thaw()
            report = await pool.report()
            assert (report.counts.dead, report.counts.retried, report.quarantined) == (0, 0, 0)
            assert await lost_and_duplicated(pool, COUNT) == (0, 0)


async def fates(pool: RunningPool, count: int) -> list[str]:
    """What happened to nodes, once so much has."""
    events = (await pool.report()).node_events
    return [event.fate for event in events] if len(events) >= count else []


async def the_client_says_so(pool: RunningPool, rows: Any) -> None:
    """Not that the store is unavailable, which would be asked for ever."""
    settings = pool.loaded.settings
    client = StoreClient(f"{settings.pool}-store", settings.ray_namespace, settings.queue)
    with pytest.raises(PayloadLostError) as caught:
        await client.write(rows, (), None)
    assert "\n" not in str(caught.value)
