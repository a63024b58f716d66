"""The loop: observe, decide, act; with a fake pool and a clock that the test moves."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace

import pytest

from rabbitray.actors.errors import RabbitrayError
from rabbitray.actors.router.status import PoolStatus
from rabbitray.autoscale.loop import AutoscaleLoop, DecisionRecord, Pace
from rabbitray.autoscale.policy.signals import PolicyLimits
from tests.kit.eventually import eventually
from tests.kit.pool_status import QUIET


@dataclass(slots=True)
class FakeWorld:
    """Depth, pool and decision log in one; workers that are asked for are up at once."""

    depth: int | None = 0
    pool: PoolStatus = QUIET
    now: float = 0.0
    fail: Exception | None = None
    looks: int = 0
    widened: int = 0
    resized: list[int] = field(default_factory=list)
    records: list[DecisionRecord] = field(default_factory=list)

    async def ready(self) -> int | None:
        self.looks += 1
        return self.depth

    async def status(self) -> PoolStatus:
        if self.fail is not None:
            raise self.fail
        return replace(self.pool, at=self.now)

    async def resize(self, target: int, reason: str) -> None:
        self.resized.append(target)
        self.pool = replace(self.pool, target=target, workers=target)

    async def widen(self, window: int, batch_size: int, *, backlog: bool, hand_over: bool) -> None:
        self.pool = replace(self.pool, window=window, batch_size=batch_size, backlog=backlog)
        self.widened += 1

    async def decide(self, record: DecisionRecord) -> None:
        self.records.append(record)

    def loop(self, limits: PolicyLimits | None = None, pace: Pace | None = None) -> AutoscaleLoop:
        return AutoscaleLoop(
            depth=self,
            pool=self,
            log=self,
            limits=limits or PolicyLimits(),
            pace=pace,
            clock=lambda: self.now,
            wall=lambda: 1_000.0 + self.now,
        )


async def ticks(world: FakeWorld, loop: AutoscaleLoop, seconds: int) -> None:
    for _ in range(seconds):
        await loop.run_once()
        world.now += 1


async def test_a_tick_grows_the_pool_and_says_why() -> None:
    world = FakeWorld(depth=2_000)
    decision = await world.loop().run_once()
    assert world.resized == [4]
    assert decision.kind == "grow"
    assert world.records[0].event == "decided"
    assert world.records[0].reason == decision.reason
    assert world.records[0].inputs["ready"] == 2_000


async def test_the_last_reasons_are_at_hand_for_status() -> None:
    world = FakeWorld(depth=2_000)
    loop = world.loop()
    await ticks(world, loop, 2)
    assert [record.event for record in loop.recent] == ["decided", "in_effect"]


async def test_the_log_holds_changes_their_coming_into_effect_and_a_slow_heartbeat() -> None:
    world = FakeWorld(depth=2_000)
    loop = world.loop()
    await ticks(world, loop, 100)
    events = [(record.event, record.wanted) for record in world.records]
    assert events[:2] == [("decided", 4), ("in_effect", 4)]
    assert world.records[1].took_s == 1.0
    assert events[2:] == [("still", 4)]
    assert [record.at for record in world.records] == [1_000.0, 1_001.0, 1_061.0]


async def test_what_came_into_effect_is_logged_with_its_own_reason_and_not_that_of_the_moment() -> None:
    world = FakeWorld(depth=2_000)
    loop = world.loop()
    decision = await loop.run_once()
    world.pool = replace(world.pool, workers=1, starting=3)
    world.depth, world.now = 600, 1.0
    assert (await loop.run_once()).reason != decision.reason, "the need is lower, the size still the same"
    world.pool = replace(world.pool, workers=4, starting=0)
    world.depth, world.now = 100, 2.0
    await loop.run_once()
    decided, in_effect = world.records
    assert (decided.event, in_effect.event, in_effect.took_s) == ("decided", "in_effect", 2.0)
    assert (in_effect.wanted, in_effect.kind, in_effect.reason) == (4, "grow", decision.reason)
    assert in_effect.inputs == decided.inputs
    assert (decided.had, in_effect.had) == (1, 4)


async def test_a_change_of_the_kind_of_reason_is_logged_once() -> None:
    world = FakeWorld()
    loop = world.loop()
    await ticks(world, loop, 3)
    world.pool = replace(world.pool, hold="writer is down")
    await ticks(world, loop, 5)
    assert [record.kind for record in world.records if record.event == "decided"] == ["steady", "hold"]


async def test_a_missing_depth_leaves_the_pool_alone() -> None:
    world = FakeWorld(depth=None, pool=replace(QUIET, workers=6, target=6))
    loop = world.loop()
    await ticks(world, loop, 100)
    assert world.resized == []


async def test_a_fixed_size_acts_and_auto_gives_it_back() -> None:
    world = FakeWorld()
    loop = world.loop(PolicyLimits(downscale_delay_s=5))
    loop.fix(7)
    await ticks(world, loop, 2)
    assert world.resized == [7]
    loop.fix(None)
    await ticks(world, loop, 60)
    assert world.resized[-1] == 1


async def test_a_fixed_size_is_the_nearest_that_the_bounds_allow() -> None:
    world = FakeWorld()
    loop = world.loop(PolicyLimits(min_size=1, max_size=6))
    assert [loop.fix(size) for size in (0, 4, 100, None)] == [1, 4, 6, None]


async def test_the_window_follows() -> None:
    world = FakeWorld(depth=5_000, pool=replace(QUIET, window=20, workers=1))
    loop = world.loop()
    await loop.run_once()
    assert world.pool.window == 200


@pytest.mark.parametrize(("depth", "backlog"), [(20_000, True), (3, False), (None, False)])
async def test_the_pool_is_told_once_whether_the_queue_holds_more_than_a_window(
    depth: int | None, backlog: bool
) -> None:
    world = FakeWorld(depth=depth)
    loop = world.loop()
    await ticks(world, loop, 10)
    told = world.widened
    await ticks(world, loop, 5)
    assert (world.pool.backlog, world.widened) == (backlog, told)
    world.depth = 0
    await ticks(world, loop, 1)
    assert not world.pool.backlog


async def test_a_failed_tick_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    world = FakeWorld(depth=2_000, fail=ConnectionError("router is away"))
    loop = world.loop(pace=Pace(busy_s=0.001, idle_s=0.001, first_s=0.001))
    with caplog.at_level(logging.ERROR):
        running = asyncio.create_task(loop.run())
        await eventually(lambda: world.looks >= 3)
    assert world.resized == []
    assert "nothing changed" in caplog.text
    world.fail = None
    await eventually(lambda: world.resized == [4])
    loop.stop()
    await running


async def test_an_actor_that_is_being_restarted_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    world = FakeWorld(fail=RabbitrayError("actor p-router does not run; it is being restarted"))
    loop = world.loop(pace=Pace(busy_s=0.01))
    running = asyncio.create_task(loop.run())
    await eventually(lambda: "actor p-router does not run" in caplog.text, within_s=5)
    loop.stop()
    await running
    assert all(record.exc_info is None for record in caplog.records)


async def test_from_zero_a_woken_loop_looks_at_once() -> None:
    world = FakeWorld(pool=replace(QUIET, workers=0, target=0))
    limits = PolicyLimits(min_size=0, initial_size=0)
    loop = world.loop(limits, Pace(busy_s=3_600, idle_s=3_600, first_s=3_600))
    running = asyncio.create_task(loop.run())
    await eventually(lambda: world.looks == 1)
    world.pool = replace(world.pool, held=1)
    loop.wake()
    await eventually(lambda: world.resized == [1])
    loop.stop()
    await running


async def test_stop_works_twice_and_before_the_start() -> None:
    world = FakeWorld()
    loop = world.loop()
    loop.stop()
    loop.stop()
    await asyncio.wait_for(loop.run(), timeout=5)
    assert world.looks == 0


async def test_an_idle_pool_is_looked_at_seldom_and_a_busy_one_often() -> None:
    world = FakeWorld()
    loop = world.loop()
    await ticks(world, loop, 3)
    assert loop.pause_s == 5.0
    world.depth = 10
    await loop.run_once()
    assert loop.pause_s == 1.0
    world.pool = replace(world.pool, busy=1, in_flight=1, held=1)
    await loop.run_once()
    assert loop.pause_s == 0.25
