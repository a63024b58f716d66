"""Jobs that last, workers that are replaced in time or broken, and handlers that use Ray themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from rabbitray.actors.message.job import Job
from rabbitray.actors.router.report import JobProgress
from rabbitray.cluster.broker import PrivateBroker
from rabbitray.cluster.settings import Loaded
from tests.kit.eventually import eventually
from tests.kit.pool_audit import assert_adds_up, finished, lost_and_duplicated
from tests.kit.pool_settings import settings_for
from tests.kit.running_pool import RunningPool, pool_of
from tests.kit.second_node import SESSION_CPUS, occupied

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster"), pytest.mark.timeout("240")]

LEAVES_S = 18
"""So long the broker leaves a message unsettled, looked at every 200 ms; the job runs for more than half of it."""


@pytest.fixture
def impatient(broker: PrivateBroker) -> Iterator[None]:
    def tell(timeout_ms: int, look_ms: int) -> None:
        pairs = f"{{consumer_timeout,{timeout_ms}}},{{channel_tick_interval,{look_ms}}}"
        broker.ctl("eval", f"[application:set_env(rabbit, K, V) || {{K,V}} <- [{pairs}]].")

    tell(LEAVES_S * 1000, 200)
    yield
    tell(1_800_000, 60_000)


def with_timeout(loaded: Loaded, timeout_s: float) -> Loaded:
    """A setting below its range: no test lasts for minutes."""
    return replace(loaded, settings=loaded.settings.model_copy(update={"consumer_timeout_s": timeout_s}))


async def told(pool: RunningPool) -> list[JobProgress]:
    return [one for worker in (await pool.report()).workers for one in worker.progress]


@pytest.mark.long
@pytest.mark.usefixtures("impatient")
async def test_a_job_outlasts_its_hang_clock_and_half_of_what_the_broker_leaves(amqp_url: str, tmp_path: Path) -> None:
    """Forty minutes at a broker that leaves fifty, 170 times as fast."""
    loaded = settings_for(
        amqp_url, tmp_path, initial_size=1, min_size=1, max_size=1, handler_timeout_s=2, max_run_s=10, max_hold_s=1
    )
    async with pool_of(with_timeout(loaded, LEAVES_S), "tests.kit.life_handlers:lasts") as pool:
        await pool.publish([Job(id="job-0", payload={"s": 9.5}), Job(id="job-1", payload={"s": 0})])
        seen = await eventually(lambda: told(pool), within_s=30)
        assert seen[0].key == "job-0"
        assert "of 10" in seen[0].text
        await eventually(lambda: finished(pool, 2), within_s=60)
        report = await pool.report()
        assert (report.counts.late, report.replaced, report.counts.retried) == (0, 0, 0)
        assert await lost_and_duplicated(pool, 2) == (0, 0)


@pytest.mark.long
async def test_workers_are_recycled_under_load_and_nothing_is_lost(amqp_url: str, tmp_path: Path) -> None:
    count = 600
    loaded = settings_for(amqp_url, tmp_path, max_jobs_per_worker=100, batch_size=10, max_size=2)
    async with pool_of(loaded) as pool:
        await pool.publish([Job(id=f"job-{n}", payload={"do": "slow", "s": 0.02}) for n in range(count)])
        first = set(pool.worker_pids(await pool.report()))
        fewest = 2

        async def done() -> bool:
            nonlocal fewest
            report = await pool.report()
            fewest = min(fewest, report.pool.workers)
            return report.recycled >= 2 and await finished(pool, count)

        await eventually(done, within_s=120)
        report = await pool.report()
        assert fewest == 2, "the other came before one went"
        assert (report.replaced, report.counts.again, report.given_back) == (0, 0, 0)
        assert not first & set(pool.worker_pids(report))
        assert_adds_up(report)
        assert await lost_and_duplicated(pool, count) == (0, 0)


@pytest.mark.long
async def test_a_broken_worker_is_replaced_and_its_job_runs_elsewhere(amqp_url: str, tmp_path: Path) -> None:
    file = tmp_path / "runs"
    loaded = settings_for(amqp_url, tmp_path, initial_size=1, min_size=1, max_size=1, batch_size=2, max_retries=0)
    async with pool_of(loaded, "tests.kit.life_handlers:breaks") as pool:
        payloads = [{"file": str(file), "times": times} for times in (0, 2, 0, 99)]
        await pool.publish([Job(id=f"job-{n}", payload=payload) for n, payload in enumerate(payloads)])
        await eventually(lambda: finished(pool, 3), within_s=90)
        report = await pool.report()
        assert (report.counts.done, report.counts.dead, report.counts.retried) == (3, 1, 0)
        assert report.replaced == 2 + 3
        await pool.stop()
    rows = {row["key"]: row["attempts"] for row in pool.rows("SELECT key, attempts FROM results")}
    assert rows == {"job-0": 1, "job-1": 1, "job-2": 1}, "no attempt is charged"
    (dead,) = pool.rows("SELECT key, reason, error, attempts FROM dead_letters")
    assert (dead["key"], dead["error"], dead["attempts"]) == ("job-3", "no CUDA", 1)
    runs = [line.split() for line in file.read_text().splitlines()]
    assert len({pid for key, _, pid in runs if key == "job-1"}) == 3, "each time elsewhere"


@pytest.mark.long
async def test_a_handler_that_blocks_its_event_loop_is_told_apart(amqp_url: str, tmp_path: Path) -> None:
    loaded = settings_for(
        amqp_url, tmp_path, initial_size=1, min_size=1, max_size=1, handler_timeout_s=1, max_crashes=1
    )
    async with pool_of(loaded, "tests.kit.life_handlers:blocks") as pool:
        await pool.publish([Job(id="job-0", payload={"s": 60})])
        await eventually(lambda: dead(pool), within_s=90)
        await pool.stop()
    (row,) = pool.rows("SELECT reason, error, traceback FROM dead_letters")
    assert row["reason"] == "handler_timeout"
    assert row["error"].startswith("the handler held up the event loop of its worker for 1 s")
    assert "in blocks" in row["traceback"]


async def dead(pool: RunningPool) -> int:
    return (await pool.report()).counts.dead


@pytest.mark.parametrize("handler", [pytest.param("asks_ray", marks=pytest.mark.long), "awaits_ray"])
async def test_handlers_use_ray_in_a_cluster_that_the_pool_would_fill(
    amqp_url: str, tmp_path: Path, handler: str
) -> None:
    """Three CPUs are left for the pool: it would take all, and each job would wait for a task without a place."""
    home = ray.get_runtime_context().get_node_id()
    count = 60
    loaded: Any = settings_for(
        amqp_url,
        tmp_path,
        initial_size=1,
        min_size=1,
        max_size=3,
        backlog_per_worker=5,
        cpus_for_tasks=SESSION_CPUS - 2,  # of the session's: what is occupied below, and one
        handler_timeout_s=60,
    )
    with occupied(home, SESSION_CPUS - 3):
        async with pool_of(loaded, f"tests.kit.life_handlers:{handler}") as pool:
            await pool.publish([Job(id=f"job-{n}", payload={"n": n}) for n in range(count)])
            await eventually(lambda: finished(pool, count), within_s=120)
            report = await pool.report()
            assert report.pool.target <= 2
            assert report.replaced == 0
            assert await lost_and_duplicated(pool, count) == (0, 0)
