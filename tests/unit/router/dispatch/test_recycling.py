"""Workers that have done enough are replaced: first the other comes, then this one goes, or the other way round."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pyarrow as pa
import pytest

from rabbitray.actors.message.reply import Part, Usage
from rabbitray.actors.router.delivery import Batch
from rabbitray.actors.router.dispatch.member import WorkerLostError
from rabbitray.actors.router.dispatch.pool import Pool
from rabbitray.actors.router.dispatch.recycling import LEAVE_FIRST_AFTER_S, MIB, Recycling, WearLimits
from tests.kit.deliveries import delivery
from tests.kit.eventually import eventually
from tests.kit.pool_harness import Harness

NOW = 1_000.0


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (WearLimits(), None),
        (WearLimits(most_jobs=8, most_bytes=101 * MIB, most_age_s=61), None),
        (WearLimits(most_jobs=7), "7 jobs, max_jobs_per_worker is 7"),
        (WearLimits(most_bytes=100 * MIB), "100 MiB, max_memory_per_worker is 100 MiB"),
        (WearLimits(most_age_s=60), "60 s old, max_age_per_worker_s is 60"),
    ],
)
def test_who_is_worn(limits: WearLimits, why: str | None) -> None:
    assert limits.worn(jobs=7, rss_bytes=100 * MIB, age_s=60.0) == why


def by_jobs(harness: Harness, most: int = 5, **changes: object) -> Recycling[pa.Table]:
    return Recycling(harness.pool, WearLimits(most_jobs=most), **changes)  # type: ignore[arg-type]  # its own


def names(pool: Pool[pa.Table], state: str = "ready") -> list[str]:
    return [member.name for member in pool.members if member.state == state]


async def test_the_other_comes_first() -> None:
    harness = Harness()
    await harness.ready(3)
    harness.factory.auto = False
    recycling = by_jobs(harness)
    worn = harness.pool.members[1]
    worn.jobs = 5
    await recycling.look()
    assert len(names(harness.pool)) == 3, "it works on meanwhile"
    assert names(harness.pool, "starting") == ["w-0004"]
    await recycling.look()
    assert len(harness.workers) == 4, "it is asked for once"
    harness.workers[3].started()
    await eventually(lambda: names(harness.pool) == ["w-0001", "w-0003", "w-0004"])
    assert harness.pool.recycled == 1
    await eventually(lambda: harness.workers[1].stopped)
    await harness.pool.stop(0.1)


async def test_it_finishes_what_it_has() -> None:
    harness = Harness()
    await harness.ready(1)
    batch, task = harness.send()
    await harness.arrived(batch)
    (worn,) = harness.pool.members
    worn.jobs = 5
    await by_jobs(harness).look()
    await eventually(lambda: worn.state == "retiring" and len(names(harness.pool)) == 1)
    assert not harness.workers[0].stopped
    harness.workers[0].done(batch.id)
    await task
    await eventually(lambda: harness.workers[0].stopped)
    assert not harness.workers[0].killed
    await harness.pool.stop(0.1)


async def test_in_a_full_cluster_it_goes_first() -> None:
    harness = Harness()
    await harness.ready(2)
    harness.factory.auto = False
    first, _ = harness.pool.members
    now = first.asked_at
    recycling = by_jobs(harness, clock=lambda: now)
    first.jobs = 5
    await recycling.look()
    harness.workers[2].placeless = True
    await recycling.look()
    assert first.state == "ready", "a place may come free"
    now += 2 * LEAVE_FIRST_AFTER_S + 60
    await recycling.look()
    assert first.state == "retiring"
    await recycling.look()
    assert len(names(harness.pool)) == 1, "one at a time"
    harness.workers[2].started()
    await eventually(lambda: len(names(harness.pool)) == 2)
    assert len(harness.workers) == 3
    await harness.pool.stop(0.1)


async def test_where_room_is_left_for_tasks_it_goes_first() -> None:
    harness = Harness(leave_first=True)
    await harness.ready(2)
    first, _ = harness.pool.members
    first.jobs = 5
    await by_jobs(harness).look()
    assert first.state == "retiring"
    await eventually(lambda: len(names(harness.pool)) == 2)
    await harness.pool.stop(0.1)


async def test_where_room_is_left_for_tasks_one_that_works_keeps_its_place() -> None:
    """Its job may wait for a task, and the other would take that task's CPU."""
    harness = Harness(leave_first=True)
    await harness.ready(1)
    batch, running = harness.send()
    await harness.arrived(batch)
    (member,) = harness.pool.members
    member.jobs = 5
    await by_jobs(harness).look()
    assert [one.state for one in harness.pool.members] == ["retiring"]
    harness.at(batch).answer(batch.id, Part(finished=[0], jobs=1))
    await running
    await eventually(lambda: names(harness.pool) == ["w-0002"])
    await harness.pool.stop(0.1)


async def test_a_bound_below_a_new_worker_s_memory_replaces_nobody(caplog: pytest.LogCaptureFixture) -> None:
    harness = Harness()
    await harness.ready(1)
    (member,) = harness.pool.members
    member.usage = Usage(cpu_percent=None, rss_bytes=200 * MIB)
    assert member.info is not None
    member.info = replace(member.info, usage=Usage(cpu_percent=None, rss_bytes=150 * MIB))
    recycling = Recycling(harness.pool, WearLimits(most_bytes=100 * MIB))
    for _ in range(2):
        await recycling.look()
    assert (names(harness.pool), harness.pool.worn) == (["w-0001"], {})
    assert caplog.text.count("max_memory_per_worker is 100 MiB, and a new worker has 150 MiB") == 1
    await harness.pool.stop(0.1)


async def test_one_that_cannot_be_replaced_works_on() -> None:
    harness = Harness()
    await harness.ready(1)
    harness.factory.auto = False
    (worn,) = harness.pool.members
    worn.usage = Usage(cpu_percent=None, rss_bytes=200 * MIB)
    recycling = Recycling(harness.pool, WearLimits(most_bytes=100 * MIB))
    await recycling.look()
    harness.workers[1].fails_to_start("no model")
    await eventually(lambda: harness.pool.failed_starts)
    await recycling.look()
    assert worn.state == "ready"
    await harness.pool.stop(0.1)


async def test_no_more_than_a_quarter_goes_at_once() -> None:
    harness = Harness()
    await harness.ready(8)
    harness.factory.auto = False
    for member in harness.pool.members:
        member.jobs = 5
    await by_jobs(harness).look()
    assert len(names(harness.pool, "starting")) == 2
    await harness.pool.stop(0.1)


async def test_a_pool_that_shrinks_needs_no_replacement() -> None:
    harness = Harness()
    await harness.ready(3)
    harness.factory.auto = False
    worn = harness.pool.members[1]
    worn.jobs = 5
    await by_jobs(harness).look()
    harness.pool.resize(2)
    assert names(harness.pool) == ["w-0001", "w-0003"]
    assert names(harness.pool, "starting") == []
    assert not harness.pool.worn
    await harness.pool.stop(0.1)


async def test_one_that_dies_before_it_is_replaced_is_replaced_once() -> None:
    harness = Harness()
    await harness.ready(2)
    harness.factory.auto = False
    worn = harness.pool.members[0]
    worn.jobs = 5
    await by_jobs(harness).look()
    harness.workers[0].die()
    await eventually(lambda: len(names(harness.pool)) == 1)
    harness.workers[2].started()
    await eventually(lambda: len(names(harness.pool)) == 2)
    assert len(harness.workers) == 3
    await harness.pool.stop(0.1)


async def test_a_worker_that_leaves_gives_back_after_its_time() -> None:
    harness = Harness(leave_within_s=0.05)
    await harness.ready(1)
    batch, task = harness.send(2)
    await harness.arrived(batch)
    harness.workers[0].answer(batch.id, Part(open=2, executing=[0]))
    harness.pool.resize(0)
    with pytest.raises(WorkerLostError) as caught:
        await task
    assert (caught.value.reason, caught.value.may_be_poison) == ("left", False)
    assert harness.workers[0].killed
    assert harness.pool.replaced == 0
    await harness.pool.stop(0.1)


async def test_a_batch_between_two_answers_is_given_back_with_its_next_question() -> None:
    harness = Harness(leave_within_s=0.0)
    await harness.ready(1)
    member = harness.pool.pick()
    assert member is not None
    batch = Batch([delivery(n) for n in range(2)])
    parts = harness.pool.run(member, batch)
    first = asyncio.ensure_future(anext(parts))
    await harness.arrived(batch)
    harness.workers[0].answer(batch.id, Part(open=2, executing=[0]))
    await first
    harness.pool.resize(0)
    await eventually(lambda: harness.workers[0].killed)
    with pytest.raises(WorkerLostError) as caught:
        await anext(parts)
    assert (caught.value.reason, caught.value.may_be_poison) == ("left", False)
    await harness.pool.stop(0.1)


async def test_or_finishes_within_it() -> None:
    harness = Harness(leave_within_s=5)
    await harness.ready(1)
    batch, task = harness.send()
    await harness.arrived(batch)
    harness.pool.resize(0)
    harness.workers[0].done(batch.id)
    await task
    assert not harness.workers[0].killed
    await harness.pool.stop(0.1)
