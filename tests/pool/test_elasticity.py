"""The pool and its window under changing load, on real parts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rabbitray.actors.message.job import Job
from rabbitray.actors.router.report import RouterReport
from tests.kit.eventually import eventually
from tests.kit.pool_settings import HANDLE_ASYNC, settings_for
from tests.kit.running_pool import RunningPool, pool_of

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster"), pytest.mark.timeout("240")]

COUNTS = "SELECT count(*) AS rows, count(DISTINCT key) AS keys, max(attempts) AS runs FROM results"
BRISK: dict[str, object] = {
    "min_size": 1,
    "initial_size": 1,
    "drain_target_s": 2,
    "downscale_delay_s": 1,
    "look_back_period_s": 3,
    "queue_concurrency": 8,
}


def slow_jobs(first: int, count: int, s: float = 0.05) -> list[Job]:
    return [Job(id=f"job-{n}", payload={"do": "slow", "s": s}) for n in range(first, first + count)]


async def ready_workers(pool: RunningPool) -> int:
    return sum(worker.state == "ready" for worker in (await pool.report()).workers)


async def test_a_square_wave_loses_nothing_and_kills_no_busy_worker(amqp_url: str, tmp_path: Path, rounds: int) -> None:
    """Cycles of burst and lull: every job runs once, the pool grows and goes back each time, and says why."""
    published = 0
    async with pool_of(settings_for(amqp_url, tmp_path, max_size=3, **BRISK), HANDLE_ASYNC) as pool:
        for _ in range(2 if rounds == 1 else 3):
            published = await _burst_until_grown(pool, published)
            await pool.acked(published)
            await eventually(lambda: _size_is(pool, 1), within_s=30, message="did not shrink")
        report = await pool.report()
        assert (report.counts.retried, report.counts.dead, report.counts.duplicates, report.replaced) == (0, 0, 0, 0)
        await pool.stop()
        assert pool.rows(COUNTS) == [{"rows": published, "keys": published, "runs": 1}]
        decided = pool.rows("SELECT wanted, reason FROM decisions")
        assert max(row["wanted"] for row in decided) == 3
        assert all(row["reason"] for row in decided)


async def _burst_until_grown(pool: RunningPool, published: int) -> int:
    """Work for two workers waits until there are three, however long the machine takes to start their processes."""

    async def grown() -> bool:
        nonlocal published
        if published - (await pool.report()).counts.acked < 600:
            await pool.publish(slow_jobs(published, 600))
            published += 600
        return await _size_is(pool, 3)

    await eventually(grown, within_s=90, message="did not grow")
    return published


async def _size_is(pool: RunningPool, size: int) -> bool:
    return await ready_workers(pool) == size


async def test_to_zero_and_back(amqp_url: str, tmp_path: Path) -> None:
    own = BRISK | {"min_size": 0, "initial_size": 1, "downscale_to_zero_delay_s": 1}
    async with pool_of(settings_for(amqp_url, tmp_path, max_size=2, **own), HANDLE_ASYNC) as pool:
        await pool.publish(slow_jobs(0, 20))
        await pool.acked(20)
        await eventually(lambda: _size_is(pool, 0), within_s=40, message="did not go to zero")
        await pool.publish(slow_jobs(20, 20))
        await pool.acked(40)
        await _jobs_that_end_more_than_themselves(pool)
        await pool.stop()
        assert pool.rows(f"{COUNTS} WHERE key NOT LIKE 'odd %'") == [{"rows": 40, "keys": 40, "runs": 1}]
        assert pool.rows(f"{COUNTS} WHERE key LIKE 'odd %'") == [{"rows": 2, "keys": 2, "runs": 2}]


async def _jobs_that_end_more_than_themselves(pool: RunningPool) -> None:
    """The event loop is Ray's own here; each has its outcome at once, and the worker goes on."""
    hows = ("cancels its task", "exits in a task")
    await pool.publish([Job(id=f"odd {how}", payload={"do": "odd", "how": how}) for how in hows])
    report = await pool.acked(40 + 2 * len(hows))
    assert (report.counts.done, report.counts.retried, report.replaced) == (42, 2, 0)


@pytest.mark.long  # the policy says it, in tests/unit/policy
async def test_no_more_is_asked_for_than_the_cluster_can_place(amqp_url: str, tmp_path: Path) -> None:
    """The session's Ray has 16 CPUs: one worker of 10 fits, six are wanted."""
    own = BRISK | {"worker_num_cpus": 10, "drain_target_s": 1}
    async with pool_of(settings_for(amqp_url, tmp_path, max_size=8, **own), HANDLE_ASYNC) as pool:
        await pool.publish(slow_jobs(0, 1_000))
        await pool.acked(1_000, within_s=90)
        assert await ready_workers(pool) == 1
        await pool.stop()
        assert pool.rows(COUNTS) == [{"rows": 1_000, "keys": 1_000, "runs": 1}]
        asked = pool.rows("SELECT max(wanted) AS most FROM decisions")
        assert asked == [{"most": 1}]


@pytest.mark.long  # likewise
async def test_where_nodes_may_come_a_few_workers_wait_for_them(amqp_url: str, tmp_path: Path) -> None:
    """As above on a cluster that says it can grow: Ray's autoscaler would see four pending workers, and no more."""
    own = BRISK | {"worker_num_cpus": 10, "drain_target_s": 1, "can_grow_nodes": True}
    async with pool_of(settings_for(amqp_url, tmp_path, max_size=8, **own), HANDLE_ASYNC) as pool:
        autoscaler = pool.service.autoscaler.actor
        assert autoscaler is not None
        await pool.publish(slow_jobs(0, 1_000))
        await eventually(lambda: _pending_is(pool, 4), within_s=60, message="asked for no nodes")
        status = await autoscaler.status.remote()
        assert (status.can_grow_nodes, status.placeable, status.workers) == (True, 0, 1)
        report = await pool.acked(1_000, within_s=90)
        assert (report.replaced, report.start_error) == (0, None)
        await pool.stop()
        assert pool.rows(COUNTS) == [{"rows": 1_000, "keys": 1_000, "runs": 1}]
        assert pool.rows("SELECT max(wanted) AS most FROM decisions") == [{"most": 5}]


async def _pending_is(pool: RunningPool, size: int) -> bool:
    return sum(worker.state == "starting" for worker in (await pool.report()).workers) == size


@pytest.mark.long  # the run-book of test_live.py pauses, too
async def test_pause_and_fixed_size_are_there_again_before_anything_is_consumed(amqp_url: str, tmp_path: Path) -> None:
    """A second run of the same pool on the same results file."""
    loaded = settings_for(amqp_url, tmp_path, min_size=1, initial_size=1)
    async with pool_of(loaded) as pool:
        assert pool.service.router.actor is not None
        assert pool.service.autoscaler.actor is not None
        await pool.service.router.actor.pause.remote("maintenance")
        assert await pool.service.autoscaler.actor.fix.remote(3) == 3
        await pool.publish([Job(id=f"job-{n}") for n in range(50)])
    async with pool_of(loaded) as pool:
        report = await pool.report()
        assert (report.holds, report.pool.target) == ({"paused": "maintenance"}, 3)
        await eventually(lambda: _size_is(pool, 3), within_s=90, message="not at its fixed size")
        report = await pool.report()
        assert (report.received, report.pool.held, report.pool.target) == (0, 0, 3)
        assert await _ready(pool) == 50, "a paused pool takes nothing"
        assert pool.service.router.actor is not None
        await pool.service.router.actor.resume.remote()
        await pool.acked(50)
        assert (await pool.report()).pool.target == 3


async def test_workers_that_cannot_start_are_tried_with_back_off(amqp_url: str, tmp_path: Path) -> None:
    loaded = settings_for(amqp_url, tmp_path, min_size=1, initial_size=1, max_size=1)
    async with pool_of(loaded, "tests.kit.steered_handler:NeverReady") as pool:
        await pool.publish([Job(id=f"job-{n}") for n in range(10)])
        report = await eventually(lambda: _start_error(pool), within_s=30)
        assert "the model is missing" in report.start_error
        assert len(report.workers) <= 1
        assert report.counts.done == 0
    assert await _ready(pool) == 10, "the queue is intact"


async def _start_error(pool: RunningPool) -> RouterReport | None:
    report = await pool.report()
    return report if report.start_error else None


async def _ready(pool: RunningPool) -> int | None:
    from rabbitray.actors.rabbitmq.depth import DepthProbe

    settings = pool.loaded.settings
    probe = DepthProbe(settings.rabbitmq_url.reveal(), settings.queue)
    try:
        return await eventually(probe.ready, within_s=10)
    finally:
        await probe.close()


@pytest.mark.parametrize("kind", [pytest.param("classic", marks=pytest.mark.long), "quorum"])
async def test_the_window_changes_every_second_without_loss_or_duplicate(
    amqp_url: str, tmp_path: Path, kind: str
) -> None:
    """A backlog that outlasts the flips, at 800 jobs a second; old and new consumer hold no more than two windows.

    A message worked twice leaves one row, as the store knows its key: the router's counts tell.
    """
    count = 10_000
    loaded = settings_for(amqp_url, tmp_path, queue_type=kind, batch_size=20, queue_concurrency=8)
    async with pool_of(loaded, HANDLE_ASYNC) as pool:
        await pool.service.autoscaler.stop()
        router = pool.service.router.actor
        assert router is not None
        await pool.publish(slow_jobs(0, count, 0.02))
        before = (await pool.report()).pool.window
        for window in (5, 500) * 3:
            await eventually(lambda: _older_hold_nothing(pool), message="the last but one holds messages")
            waiting = await _ready(pool)
            await router.widen.remote(window, 20, backlog=False)
            held = await _held_for(pool, 1.0)
            assert waiting, "the window was changed while messages waited for it"
            assert 0 < max(held) <= before + window
            before = window
        report = await pool.acked(count)
        assert (report.received, report.given_back, report.counts.duplicates) == (count, 0, 0), "none came twice"
        await pool.stop()
        assert pool.rows(COUNTS) == [{"rows": count, "keys": count, "runs": 1}]


async def _older_hold_nothing(pool: RunningPool) -> bool:
    """A few messages held in all may be those of an older consumer: the current one would then fill its window, too."""
    return not (await pool.report()).pool.old_window_held


async def _held_for(pool: RunningPool, seconds: float) -> list[int]:
    """The unacknowledged messages, looked at some times in so many seconds."""
    held = []
    for _ in range(5):
        held.append((await pool.report()).pool.held)
        await asyncio.wait({asyncio.create_task(asyncio.Event().wait())}, timeout=seconds / 5)
    return held


@pytest.mark.long  # the bound is asserted above, while messages are acked
async def test_slow_handlers_hold_no_more_than_the_old_and_the_new_window(amqp_url: str, tmp_path: Path) -> None:
    """Handlers of 60 s, so nothing is acked: whatever the window does, unacked stays within two windows."""
    loaded = settings_for(amqp_url, tmp_path, drain_deadline_s=0, **BRISK)
    async with pool_of(loaded, HANDLE_ASYNC) as pool:
        await pool.publish(slow_jobs(0, 2_000, 60.0))
        windows, held = [1], []
        for _ in range(20):
            report = await pool.report()
            windows.append(report.pool.window)
            held.append(report.pool.held)
            await asyncio.wait({asyncio.create_task(asyncio.Event().wait())}, timeout=0.5)
        assert max(held) > 0
        assert max(held) <= sum(sorted(set(windows))[-2:])
