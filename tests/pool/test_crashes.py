"""Crash windows and broker faults on real parts: counted by key, lost 0, duplicated rows 0.

Each series runs ROUNDS times: once in `make test`, 20 times in `make faults`.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from rabbitray.actors.message.job import Job
from rabbitray.actors.router.report import WorkerRow
from rabbitray.cluster.broker import PrivateBroker
from tests.kit.eventually import eventually
from tests.kit.opened_by import opened_by
from tests.kit.pool_audit import finished, lost_and_duplicated
from tests.kit.pool_settings import settings_for
from tests.kit.running_pool import RunningPool, pool_of
from tests.kit.stopping import stop

pytestmark = [
    pytest.mark.ray,
    pytest.mark.faults,
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.timeout("1200"),
]

COUNT = 240
PASSES = {"before_commit": (20, 36), "after_commit": (20, 36), "after_publish": (40, 70)}
"""Between which numbers of passes a failpoint kills: there are about 100 commits and 120 copies."""


def mixed_jobs(count: int) -> list[Job]:
    """Every fourth job fails once, so that rungs and confirms are on the path too."""
    steps = [{"do": "raise", "times": 1} if n % 4 == 0 else {"do": "slow", "s": 0.002} for n in range(count)]
    return [Job(id=f"job-{n}", payload=step) for n, step in enumerate(steps)]


async def is_true(check: Callable[[], Any]) -> None:
    await eventually(check, within_s=240, message="the pool did not come to rest")


@pytest.mark.parametrize(
    "place",  # before a commit nothing is done yet, as at most of the random moments below
    [
        pytest.param("before_commit", marks=pytest.mark.long),
        "after_commit",
        pytest.param("after_publish", marks=pytest.mark.long),
    ],
)
async def test_router_killed_in_a_crash_window(amqp_url: str, tmp_path: Path, place: str, rounds: int) -> None:
    """Killed again and again at the same place, some random number of passes apart.

    The number is large enough for each life to get somewhere: the pauses between lives double.
    """
    count = 2 * COUNT
    for number in range(rounds):
        hits = random.Random(f"{place}-{number}").randint(*PASSES[place])
        folder = tmp_path / f"{place}-{number}"
        folder.mkdir()
        loaded = settings_for(amqp_url, folder, failpoint=f"{place}:kill@{hits}", batch_size=10, prefetch_count=60)
        async with pool_of(loaded) as pool:
            await pool.publish(mixed_jobs(count))
            await is_true(lambda pool=pool: finished(pool, count))
            assert pool.service.router.restarts > 0, "the failpoint was never reached"
            if place == "after_commit":
                counts = (await pool.report()).counts
                assert counts.skipped > 0, "what was committed and not acked came again, and was not run"
            assert await lost_and_duplicated(pool, count) == (0, 0)


@pytest.mark.parametrize("victim", ["router", pytest.param("store", marks=pytest.mark.long)])  # killed more often below
async def test_an_actor_killed_at_a_random_moment(amqp_url: str, tmp_path: Path, victim: str, rounds: int) -> None:
    for number in range(rounds):
        folder = tmp_path / f"{victim}-{number}"
        folder.mkdir()
        async with pool_of(settings_for(amqp_url, folder, batch_size=10, prefetch_count=60)) as pool:
            await pool.publish(mixed_jobs(COUNT))
            moment = random.Random(f"{victim}-{number}").randint(1, COUNT // 2)
            await eventually(lambda pool=pool, moment=moment: _some_acked(pool, moment), within_s=90)
            supervised = getattr(pool.service, victim)
            ray.kill(supervised.actor, no_restart=True)
            await eventually(lambda supervised=supervised: supervised.restarts == 1, within_s=60)
            await is_true(lambda pool=pool: finished(pool, COUNT))
            assert supervised.restarts == 1
            assert await lost_and_duplicated(pool, COUNT) == (0, 0)


async def test_the_store_is_killed_again_and_again(amqp_url: str, tmp_path: Path, rounds: int) -> None:
    """kill -9 of the store's process three times while messages flow: each one opens the same file again."""
    for number in range(max(1, rounds // 3)):
        folder = tmp_path / f"stores-{number}"
        folder.mkdir()
        loaded = settings_for(amqp_url, folder, batch_size=10, prefetch_count=60)
        async with pool_of(loaded) as pool:
            jobs = mixed_jobs(2 * COUNT)
            chance, killed = random.Random(f"stores-{number}"), set[int]()
            for turn in range(3):
                await pool.publish(jobs[turn::3])
                acked = (await pool.report()).counts.acked + chance.randint(1, COUNT // 3)
                await eventually(lambda acked=acked: _some_acked(pool, acked), within_s=60)
                killed.add(pid := opened_by(loaded.settings.results))
                os.kill(pid, signal.SIGKILL)
                await eventually(lambda turn=turn: pool.service.store.restarts > turn, within_s=90)
            await is_true(lambda: finished(pool, 2 * COUNT))
            assert len(killed) == 3
            assert (pool.service.store.restarts, pool.service.router.restarts) == (3, 0)
            assert await lost_and_duplicated(pool, 2 * COUNT) == (0, 0)


async def _some_acked(pool: RunningPool, count: int) -> bool:
    return await pool.acked_so_far() >= count


async def test_the_broker_is_killed_while_rungs_are_full(
    own_broker: PrivateBroker, own_url: str, tmp_path: Path, rounds: int
) -> None:
    """kill -9 of the node with hundreds of messages in quorum rungs; it starts again on the same files."""
    jobs = [Job(id=f"job-{n}", payload={"do": "raise", "times": 1}) for n in range(COUNT)]
    for number in range(rounds):
        folder = tmp_path / f"broker-{number}"
        folder.mkdir()
        loaded = settings_for(own_url, folder, retry_delay_ms=4_000, retry_max_delay_ms=8_000, outage_hold=False)
        async with pool_of(loaded) as pool:
            await pool.publish(jobs)
            await eventually(lambda pool=pool: _retried(pool, COUNT), within_s=90)
            await asyncio.to_thread(own_broker.kill)
            await asyncio.to_thread(own_broker.start)
            await is_true(lambda pool=pool: finished(pool, COUNT))
            assert (await pool.report()).reconnects >= 1
            assert await lost_and_duplicated(pool, COUNT) == (0, 0)


async def _retried(pool: RunningPool, count: int) -> bool:
    return bool((await pool.report()).counts.retried >= count)


@pytest.mark.long  # a broker that is killed closes them, too
async def test_connections_closed_by_the_broker(own_broker: PrivateBroker, own_url: str, tmp_path: Path) -> None:
    loaded = settings_for(own_url, tmp_path, batch_size=10, prefetch_count=60)
    async with pool_of(loaded) as pool:
        await pool.publish(mixed_jobs(COUNT))
        for _ in range(3):
            acked = await pool.acked_so_far()
            await eventually(lambda acked=acked: _some_acked(pool, min(acked + 20, COUNT)), within_s=90)
            await asyncio.to_thread(own_broker.ctl, "close_all_connections", "test")
        await is_true(lambda: finished(pool, COUNT))
        assert await lost_and_duplicated(pool, COUNT) == (0, 0)


@pytest.mark.long  # test_poison.py has one that stops in C
async def test_a_stopped_worker_is_replaced(amqp_url: str, tmp_path: Path) -> None:
    """SIGSTOP: no reply within the handler's time-out, so it is killed and its batch runs elsewhere."""
    loaded = settings_for(amqp_url, tmp_path, handler_timeout_s=2, batch_size=5)
    async with pool_of(loaded) as pool:
        await pool.publish(mixed_jobs(40))
        await is_true(lambda: finished(pool, 40))
        workers = await eventually(lambda: _ready_workers(pool, 2), within_s=90)
        victim = workers[0]
        stop(victim.pid)
        await pool.publish([Job(id=f"more-{n}", payload={}) for n in range(40)])
        await is_true(lambda: finished(pool, 80))
        assert victim.name not in {worker.name for worker in (await pool.report()).workers}


async def _ready_workers(pool: RunningPool, count: int) -> list[WorkerRow]:
    workers = [worker for worker in (await pool.report()).workers if worker.state == "ready"]
    return workers if len(workers) == count else []


async def test_an_outage_holds_the_queue_and_charges_no_further_attempts(amqp_url: str, tmp_path: Path) -> None:
    """While every job fails with one transient error, messages stay in the broker; then all of them are worked.

    The outage lasts for three probes: time enough for a ladder of 100 to 800 ms to use up all its retries.
    """
    switch = tmp_path / "service-is-down"
    switch.touch()
    loaded = settings_for(amqp_url, tmp_path, batch_size=10, prefetch_count=50)
    async with pool_of(loaded) as pool:
        await pool.publish([Job(id=f"job-{n}", payload={"do": "needs", "file": str(switch)}) for n in range(300)])
        await eventually(lambda: _held(pool), within_s=90, message="no hold")
        await eventually(lambda: _in_hand(pool, 0), within_s=30, message="what was in flight did not end")
        before = await pool.report()
        await eventually(lambda: _received(pool, before.received + 3), within_s=30, message="no probes")
        await eventually(lambda: _in_hand(pool, 0), within_s=30)
        during = await pool.report()
        assert (during.counts.retried, during.counts.dead) == (before.counts.retried, 0)
        assert during.counts.acked > before.counts.acked, "a probe that failed leaves its place for the next"
        assert "probes failed since (ConnectionError 100%)" in during.holds["outage"]
        switch.unlink()
        await is_true(lambda: finished(pool, 300))
        assert not (await pool.report()).holds
        assert await lost_and_duplicated(pool, 300) == (0, 0)
        charged = pool.rows("SELECT sum(attempts - 1) AS charged FROM results")
        assert charged == [{"charged": before.counts.retried}], "only what failed before the hold was charged"


@pytest.mark.long  # a minute of pauses between probes
async def test_good_messages_behind_a_dead_tenant_s_are_found(amqp_url: str, tmp_path: Path) -> None:
    """60 that must fail in front of 30 good ones. Real, for what virtual time cannot say: where RabbitMQ puts what is
    given back and what comes back from a rung, and that consumers come and go between rounds without a loss.
    """
    switch = tmp_path / "the-tenant-is-down"
    switch.touch()
    bad = [Job(id=f"job-{n}", payload={"do": "needs", "file": str(switch)}) for n in range(60)]
    good = [Job(id=f"job-{n}", payload={}) for n in range(60, 90)]
    loaded = settings_for(amqp_url, tmp_path, batch_size=5, prefetch_count=20)
    async with pool_of(loaded) as pool:
        await pool.publish([*bad, *good])
        await eventually(lambda: _held(pool), within_s=90, message="no hold")
        await eventually(lambda: _done(pool, len(good)), within_s=300, message="the good ones were not found")
        assert (await pool.report()).counts.dead == 0
        switch.unlink()
        await is_true(lambda: finished(pool, 90))
        assert await lost_and_duplicated(pool, 90) == (0, 0)
        charged = {row["key"] for row in pool.rows("SELECT key FROM results WHERE attempts > 1")}
        assert charged <= {job.id for job in bad}


async def _done(pool: RunningPool, count: int) -> bool:
    return bool((await pool.report()).counts.done >= count)


async def _held(pool: RunningPool) -> bool:
    return "outage" in (await pool.report()).holds


async def _in_hand(pool: RunningPool, count: int) -> bool:
    return bool((await pool.report()).pool.held == count)


async def _received(pool: RunningPool, count: int) -> bool:
    return bool((await pool.report()).received >= count)
