"""A suspect gets its worker in a cluster that is full: the pool lends a place, and has it back afterwards."""

from __future__ import annotations

import asyncio

import pyarrow as pa
import pytest

from rabbitray.actors.router.delivery import Batch
from rabbitray.actors.router.dispatch.lending import LEND_AFTER_S, Lending, places
from rabbitray.actors.router.dispatch.member import WorkerLostError
from rabbitray.actors.router.dispatch.pool import Pool, PoolConfig
from rabbitray.actors.router.dispatch.quarantine import Quarantine
from tests.kit.deliveries import delivery
from tests.kit.fake_workers import FakeFactory, FakeWorker
from tests.kit.virtual_time import in_virtual_time, virtual_clock

LATE_S = LEND_AFTER_S
CRASH = WorkerLostError("worker_crashed", "x", may_be_poison=True)


@pytest.mark.parametrize(
    ("lent", "wanted", "ready", "waiting_s", "lent_s", "then"),
    [
        (0, 1, 0, LATE_S, 99.0, 1),
        (0, 1, 0, LATE_S - 0.1, 99.0, 0),  # it may still come by itself
        (0, 1, 0, None, 99.0, 0),  # it has its place, and starts
        (0, 2, 1, LATE_S, 99.0, 0),  # one is there: that is enough
        (1, 2, 0, LATE_S, LATE_S, 2),  # somebody else took the place that was given up
        (1, 2, 0, LATE_S, LATE_S - 0.1, 1),  # who gives it up may still finish its work
        (2, 2, 0, LATE_S, 99.0, 2),  # never more than the quarantine wants
        (1, 2, 1, None, 99.0, 1),  # kept: its next worker would wait again
        (2, 0, 0, None, 0.0, 0),
    ],
)
def test_how_many_places_the_pool_gives_up(
    lent: int, wanted: int, ready: int, waiting_s: float | None, lent_s: float, then: int
) -> None:
    assert places(lent, wanted=wanted, ready=ready, waiting_s=waiting_s, lent_s=lent_s) == then


def test_where_room_is_left_for_tasks_the_pool_gives_its_own_up_at_once() -> None:
    assert places(0, wanted=2, ready=0, waiting_s=None, lent_s=0.0, at_once=True) == 2
    assert places(2, wanted=1, ready=1, waiting_s=None, lent_s=0.0, at_once=True) == 1
    assert places(2, wanted=0, ready=0, waiting_s=None, lent_s=0.0, at_once=True) == 0


class Cluster(FakeFactory):
    """A cluster with so many places: who is asked for beyond them waits until one is free."""

    def __init__(self, most: int) -> None:
        super().__init__(auto=False)
        self._most = most

    def spawn(self, name: str) -> FakeWorker:
        worker = super().spawn(name)
        worker.placeless = True
        return worker

    def place(self) -> None:
        """Whoever waits longest gets what is free."""
        living = [worker for worker in self.workers if not worker.end.done()]
        free = self._most - sum(not worker.placeless for worker in living)
        for worker in [one for one in living if one.placeless][:free]:
            worker.placeless = False
            worker.started()


@in_virtual_time
async def test_a_suspect_is_isolated_in_a_full_cluster() -> None:
    with virtual_clock(asyncio.get_running_loop()):
        await isolated_in_a_full_cluster()


async def isolated_in_a_full_cluster() -> None:
    cluster = Cluster(2)
    pool: Pool[pa.Table] = Pool(PoolConfig(name="w"), cluster, on_change=lambda: None)
    isolated: Pool[pa.Table] = Pool(
        PoolConfig(name="q", max_tasks_in_flight_per_actor=1), cluster, on_change=lambda: None
    )
    quarantine: Quarantine[pa.Table] = Quarantine(isolated, max_crashes=2, counts={}, note=nothing_kept)
    lending = Lending(pool, isolated, clock=asyncio.get_running_loop().time)

    async def second() -> None:
        cluster.place()
        await lending.look()
        await asyncio.sleep(1.0)

    pool.resize(2)
    await second()
    cluster.workers[0].die()  # the poison ended it; its replacement has the place before the quarantine asks
    await second()
    await second()
    assert (len(cluster.workers), pool.count("ready")) == (3, 2)
    suspect = delivery(1, key="poison")
    await quarantine.isolate(Batch([suspect]), [suspect], CRASH)
    assert list(quarantine.next()) == []
    for _ in range(5):
        await second()
    assert (pool.lent, pool.target, pool.count("ready")) == (1, 2, 1), "the others go on"
    ((_, member, batch),) = quarantine.next()
    member.batches[batch.id] = batch
    await second()
    assert pool.lent == 1, "kept while the suspect runs"
    member.batches.pop(batch.id)
    await quarantine.clear(batch)
    for _ in range(3):
        await second()
    assert (pool.lent, pool.count("ready")) == (0, 2), "the pool has its place back"
    await pool.stop(0.1)
    await isolated.stop(0.1)


async def nothing_kept(_: str, __: int) -> None:
    """Of the counts."""
