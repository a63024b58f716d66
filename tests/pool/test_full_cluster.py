"""A cluster without a free place: a message that ends workers is found there, too, and idle workers are watched."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import ray

from rabbitray.actors.message.job import Job
from tests.kit.eventually import eventually
from tests.kit.pool_settings import settings_for
from tests.kit.running_pool import RunningPool, pool_of
from tests.kit.second_node import SESSION_CPUS, occupied

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster"), pytest.mark.timeout("180")]

COUNT = 40
PLACES = 2


async def test_poison_is_isolated_in_a_cluster_that_the_pool_fills(amqp_url: str, tmp_path: Path) -> None:
    home = ray.get_runtime_context().get_node_id()
    loaded = settings_for(amqp_url, tmp_path, batch_size=4, initial_size=PLACES, min_size=PLACES, max_size=PLACES)
    jobs = [Job(id=f"job-{n}", payload={"n": n}) for n in range(COUNT)]
    jobs.insert(COUNT // 2, Job(id="poison", payload={"do": "die", "file": str(tmp_path / "ran")}))
    with occupied(home, SESSION_CPUS - PLACES - 0.5):
        async with pool_of(loaded) as pool:
            idle = await eventually(lambda: ready(pool), within_s=60, message="the workers did not come")
            os.kill(idle[0], signal.SIGKILL)
            await eventually(lambda: replaced(pool, idle[0]), within_s=30, message="a dead worker stayed ready")
            await pool.publish(jobs)
            lent = await eventually(lambda: lending(pool), within_s=60, message="the pool lent no place")
            assert lent == 1
            await eventually(lambda: worked_off(pool), within_s=90, message="not worked off")
            assert await eventually(lambda: ready(pool), within_s=60), "the pool has its place back"
            assert (await pool.report()).pool.lent == 0
            await pool.stop()
    assert pool.rows("SELECT key, reason, attempts FROM dead_letters") == [
        {"key": "poison", "reason": "worker_crashed", "attempts": 1}
    ]
    assert len((tmp_path / "ran").read_text().split()) == 3, "once among others, and max_crashes times alone"


async def ready(pool: RunningPool) -> list[int]:
    """The processes of the pool's workers, once all are ready."""
    report = await pool.report()
    return pool.worker_pids(report) if report.pool.workers == PLACES else []


async def replaced(pool: RunningPool, pid: int) -> bool:
    """Whether this one is gone and all are there again."""
    pids = await ready(pool)
    return bool(pids) and pid not in pids


async def lending(pool: RunningPool) -> int:
    """How many places are lent."""
    return (await pool.report()).pool.lent


async def worked_off(pool: RunningPool) -> bool:
    """Whether all innocents are done, and the poison is parked."""
    report = await pool.report()
    return (report.counts.done, report.counts.dead, report.pool.held) == (COUNT, 1, 0)
