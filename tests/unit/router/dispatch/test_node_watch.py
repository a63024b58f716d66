"""Nodes that give no answer: shown after seconds, given up after a setting, and told when they are lost."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from rabbitray.actors.message.reply import WorkerInfo
from rabbitray.actors.router.dispatch.member import WorkerLostError
from rabbitray.actors.router.dispatch.node_watch import SILENT_AFTER_S, NodeWatch
from tests.kit.eventually import eventually
from tests.kit.fake_workers import FakeWorker
from tests.kit.pool_harness import Harness

GIVE_UP_S = 12.0


class OnNode(FakeWorker):
    """A worker whose name says its node: w-0001 is on n1. What ends it in Ray does not end the calls in flight."""

    def kill(self) -> None:
        self.killed = True

    async def ready(self) -> WorkerInfo:
        info = await super().ready()
        number = int(self.name.rpartition("-")[2])
        return WorkerInfo(slots=info.slots, pid=number, node=f"n{number}", host=f"host{number}", address="10.0.0.1")


class Nodes:
    """NodesThatAnswer."""

    def __init__(self) -> None:
        self.mute: set[str] = set()
        self.dead: set[str] = set()
        self.knows = True
        self.asked: list[set[str]] = []

    async def silent(self, nodes: Collection[str]) -> set[str]:
        self.asked.append(set(nodes))
        return self.mute & set(nodes)

    async def alive(self) -> set[str] | None:
        return {f"n{n}" for n in range(9)} - self.dead if self.knows else None


class Watched:
    """A pool of two workers on two nodes, and its watch, whose clock the test moves."""

    def __init__(self, *, give_up_s: float = GIVE_UP_S, home: str = "") -> None:
        self.held, self.nodes, self.now = Harness(), Nodes(), 100.0
        self.held.factory.kind = OnNode
        self.watch = NodeWatch(
            [self.held.pool],
            self.nodes,
            give_up_s=give_up_s,
            on_change=lambda: None,
            home=home,
            clock=lambda: self.now,
        )

    async def seconds(self, count: float) -> None:
        self.now += count
        await self.watch.look()

    @property
    def fates(self) -> list[tuple[str, str]]:
        return [(event.node, event.fate) for event in self.watch.events]


async def watched(give_up_s: float = GIVE_UP_S) -> Watched:
    here = Watched(give_up_s=give_up_s)
    await here.held.ready(2)
    await here.watch.look()
    return here


async def test_a_node_that_gives_no_answer_gets_no_batch_and_is_shown() -> None:
    here = await watched()
    pool = here.held.pool
    here.nodes.mute = {"n1"}
    await here.seconds(SILENT_AFTER_S - 1)
    assert (here.watch.silent, here.fates) == ((), [])
    await here.seconds(2)
    assert here.watch.silent == ("n1",)
    assert here.watch.silent_s("n1") == SILENT_AFTER_S + 1
    assert here.watch.silent_s("n2") is None
    chosen = pool.pick()
    assert chosen is not None
    assert chosen.name == "w-0002"
    here.nodes.mute = set()
    await here.seconds(1)
    assert here.fates == [("host1 (10.0.0.1)", "silent"), ("host1 (10.0.0.1)", "heard again")]
    assert all(member.can_take(1) for member in pool.members)
    assert pool.replaced == 0
    await pool.stop(0.1)


async def test_what_a_silent_node_has_runs_elsewhere_after_the_setting() -> None:
    here = await watched()
    batch, task = here.held.send(3)
    await here.held.arrived(batch)
    node = f"n{int(here.held.at(batch).name[-1])}"
    here.nodes.mute = {node}
    await here.seconds(GIVE_UP_S - 1)
    assert not task.done()
    await here.seconds(2)
    with pytest.raises(WorkerLostError) as lost:
        await asyncio.wait_for(task, 1.0)
    assert (lost.value.reason, lost.value.may_be_poison) == ("node_silent", False)
    (event,) = [event for event in here.watch.events if event.fate == "given up"]
    assert (event.workers, event.messages) == (1, 3)
    assert "may run twice" in str(event)
    await eventually(lambda: here.held.pool.count("ready") == 2, message="it is replaced")
    await here.seconds(1)
    assert here.watch.silent == (node,), "its free CPUs are no room"
    assert node in here.nodes.asked[-1]
    here.nodes.mute = set()
    await here.seconds(1)
    assert here.fates[-1][1] == "heard again"
    await here.seconds(1)
    assert here.watch.silent_s(node) is None
    await here.held.pool.stop(0.1)


async def test_a_node_is_not_given_up_where_ray_is_to_decide() -> None:
    here = await watched(give_up_s=0)
    here.nodes.mute = {"n1"}
    await here.seconds(3_600)
    assert [fate for _, fate in here.fates] == ["silent"]
    assert here.held.pool.replaced == 0
    await here.held.pool.stop(0.1)


async def test_a_node_that_dies_is_an_event_and_one_whose_workers_retire_is_none() -> None:
    here = await watched()
    here.held.workers[0].die("node_lost", may_be_poison=False)
    await eventually(lambda: here.held.pool.replaced == 1)
    here.nodes.dead, here.nodes.knows = {"n1"}, False
    await here.seconds(2)
    assert here.fates == [], "Ray does not say"
    here.nodes.knows = True
    await here.seconds(2)
    assert here.fates == [("host1 (10.0.0.1)", "lost")]
    here.held.pool.resize(1)
    await here.seconds(2)
    assert len(here.fates) == 1
    await here.held.pool.stop(0.1)


async def test_the_node_of_the_router_itself_is_not_asked() -> None:
    here = Watched(home="n1")
    await here.held.ready(2)
    await here.watch.look()
    assert here.nodes.asked == [{"n2"}]
    await here.held.pool.stop(0.1)
