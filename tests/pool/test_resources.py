"""Workers that ask for more than CPUs: GPUs (invented ones, which are a number for Ray) and environments."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from rabbitray.actors.message.job import Job
from rabbitray.actors.rabbitmq.depth import DepthProbe
from rabbitray.actors.router.report import RouterReport
from rabbitray.cluster.settings import Loaded
from tests.kit.eventually import eventually
from tests.kit.pool_settings import settings_for
from tests.kit.running_pool import RunningPool, pool_of
from tests.kit.second_node import SESSION_GPUS

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster"), pytest.mark.timeout("240")]

EAGER: dict[str, object] = {"min_size": 1, "initial_size": 1, "max_size": 20, "drain_target_s": 1, "batch_size": 4}
COUNTS = "SELECT count(*) AS rows, count(DISTINCT key) AS keys FROM results"


async def test_a_pool_is_as_large_as_the_gpus_are_and_says_so(amqp_url: str, tmp_path: Path) -> None:
    """Workers of a third of a GPU: three on each of two devices, and never one more."""
    await work_on_gpus(amqp_url, tmp_path, parts=3, count=240, poison=0)


@pytest.mark.long
async def test_eight_workers_of_a_quarter_share_two_gpus_and_find_poison_there(amqp_url: str, tmp_path: Path) -> None:
    """The worker that runs a suspect alone needs a quarter, too: the pool lends it one, and has its place again."""
    await work_on_gpus(amqp_url, tmp_path, parts=4, count=600, poison=1)


async def work_on_gpus(amqp_url: str, tmp_path: Path, *, parts: int, count: int, poison: int) -> None:
    """A backlog for more workers than the GPUs have room for."""
    loaded = settings_for(amqp_url, tmp_path, **EAGER, worker_num_cpus=0, worker_resources=f"gpu=1/{parts}")
    most = SESSION_GPUS * parts
    async with pool_of(loaded) as pool:
        await pool.publish(Job(id=f"job-{n}", payload={"do": "slow", "s": 0.2}) for n in range(count))
        await eventually(lambda: all_ready(pool, most), within_s=120, message="the GPUs are not full")
        await pool.publish(Job(id=f"poison-{n}", payload={"do": "die"}) for n in range(poison))
        await eventually(lambda: worked_off(pool, count, poison), within_s=120, message="not worked off")
        await pool.stop()
    assert pool.rows(COUNTS) == [{"rows": count, "keys": count}]
    dead = [{"key": f"poison-{n}", "reason": "worker_crashed"} for n in range(poison)]
    assert pool.rows("SELECT key, reason FROM dead_letters") == dead
    assert pool.rows("SELECT max(wanted) AS most FROM decisions") == [{"most": most}]
    said = [row["reason"] for row in pool.rows("SELECT reason FROM decisions")]
    assert [reason for reason in said if f"cluster fits {most} (short of gpu)" in reason]


async def all_ready(pool: RunningPool, most: int) -> bool:
    """Whether so many are ready; more must never be there."""
    workers = (await pool.report()).workers
    assert len(workers) <= most
    return sum(worker.state == "ready" for worker in workers) == most


async def worked_off(pool: RunningPool, count: int, poison: int) -> bool:
    """Whether all innocents are done, and the poison is parked."""
    report = await pool.report()
    return (report.counts.done, report.counts.dead, report.pool.held) == (count, poison, 0)


async def test_workers_have_their_environment_and_the_example_falls_back_to_the_cpu(
    amqp_url: str, tmp_path: Path
) -> None:
    """On a node whose GPUs Ray believes in, without CuPy."""
    own = {"worker_resources": "gpu=0.5", "worker_num_cpus": 0.5, "min_size": 1, "initial_size": 1, "max_size": 1}
    environ = {"RABBITRAY_WORKER_RUNTIME_ENV": '{"env_vars": {"OMP_NUM_THREADS": "1"}}'}
    loaded = settings_for(amqp_url, tmp_path, environ, **own)
    async with pool_of(loaded, "docs.examples.gpu_embedding:Embed") as pool:
        await pool.publish([Job(id=f"job-{n}", payload={"text": f"number {n}"}) for n in range(30)])
        report = await pool.acked(30)
        assert (report.counts.done, report.start_error) == (30, None)
        await pool.stop()
    assert pool.rows("SELECT DISTINCT json_array_length(result) AS width FROM results") == [{"width": 64}]


@pytest.mark.long  # tests/unit/router/dispatch/test_worker_starts.py has the rule
async def test_a_gpu_whose_memory_is_not_free_yet_is_no_failed_start(amqp_url: str, tmp_path: Path) -> None:
    """The replacement of a worker that was killed comes before its memory is free: in new processes, uncounted."""
    notes = tmp_path / "starts"
    env = json.dumps({"env_vars": {"GPU_NOTES": str(notes)}})
    own = {"worker_resources": "gpu=1", "min_size": 1, "initial_size": 1, "max_size": 1}
    loaded = settings_for(amqp_url, tmp_path, {"RABBITRAY_WORKER_RUNTIME_ENV": env}, **own)
    async with pool_of(loaded, "tests.kit.steered_handler:GpuFreedLate") as pool:
        first = (await eventually(lambda: ready_pids(pool), within_s=60))[0]
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: other_than(pool, first), within_s=60, message="no worker came again")
        starts = notes.read_text().split()
        assert (len(starts), len(set(starts))) == (4, 4)


async def ready_pids(pool: RunningPool) -> list[int]:
    """Of the workers that are ready; no start may have counted as failed."""
    report = await pool.report()
    assert (report.failed_starts, report.start_error) == (0, None)
    return pool.worker_pids(report)


async def other_than(pool: RunningPool, pid: int) -> bool:
    """Whether one is ready, and it is another one."""
    return bool(pids := await ready_pids(pool)) and pids != [pid]


@pytest.mark.long  # likewise
async def test_an_environment_that_cannot_be_built_costs_no_message(amqp_url: str, tmp_path: Path) -> None:
    """Its error is told, and it is not tried again at once."""
    environ = {
        "RABBITRAY_WORKER_RUNTIME_ENV": '{"pip": ["no-such-package @ file:///nowhere/at_all-1-py3-none-any.whl"]}'
    }
    loaded = settings_for(amqp_url, tmp_path, environ, min_size=1, initial_size=1, max_size=1)
    async with pool_of(loaded) as pool:
        await pool.publish([Job(id=f"job-{n}") for n in range(10)])
        report = await eventually(lambda: start_error(pool), within_s=120, message="no error is told")
        assert report.start_error.startswith("environment_failed: ")
        assert "/nowhere/at_all-1" in report.start_error
        assert report.failed_starts == 1
        assert (report.counts.acked, report.counts.dead, report.workers) == (0, 0, ())
    assert await waiting(loaded) == 10


async def start_error(pool: RunningPool) -> RouterReport | None:
    """The report once a start has failed."""
    report = await pool.report()
    return report if report.start_error else None


async def waiting(loaded: Loaded) -> int | None:
    """Messages ready in the queue."""
    probe = DepthProbe(loaded.settings.rabbitmq_url.reveal(), loaded.settings.queue)
    try:
        return await eventually(probe.ready, within_s=10)
    finally:
        await probe.close()
