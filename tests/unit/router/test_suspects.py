"""Many messages that end workers, among many that do not: how many workers that costs, and who pays.

The router over fakes; real processes die in tests/pool/test_poison.py and tests/pool/test_many_deaths.py.
"""

from __future__ import annotations

import asyncio
import random

import pytest

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.parcel import Parcel
from rabbitray.actors.message.reply import Part
from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.message.wire.packed import pack
from rabbitray.actors.worker.batch.decoding import IdentityRules, decode_parcels
from rabbitray.actors.worker.batch.unit import Unit
from tests.kit.eventually import eventually
from tests.kit.fake_workers import FakeWorker
from tests.kit.plain_path import PlainPath
from tests.kit.result_rows import rows_of
from tests.kit.virtual_time import in_virtual_time

MAX_CRASHES = 2  # of the PlainPath
KILLERS = 12


class Deaths:
    """Plays the workers of a path: who gets a killer dies of it, at once or after a time-out; the others finish."""

    def __init__(self, path: PlainPath, killers: set[str]) -> None:
        self._path = path
        self._killers = killers
        self.count = 0

    async def played(self) -> None:
        """Until nothing is left."""
        for _ in range(200_000):
            if self._step():
                return
            await asyncio.sleep(0)
        raise AssertionError("the path did not come to rest")

    def _step(self) -> bool:
        for worker, batch in self._path.running:
            executing = worker.slots > 1 or batch == next(iter(worker.batches))
            if worker.lost is None and executing:
                self._run(worker, batch)
        return self._path.at_rest

    def _run(self, worker: FakeWorker, batch: str) -> None:
        units = units_of(worker.batches[batch])
        if self._killers.isdisjoint(unit.key or "" for unit in units):
            worker.answer(batch, done(units), rows_of([unit.key for unit in units]))
        else:
            self.count += 1
            worker.die()


def units_of(parcels: list[Parcel]) -> list[Unit]:
    units, unreadable = decode_parcels(parcels, MessageLimits(), IdentityRules())
    assert not unreadable
    return units


def done(units: list[Unit]) -> Part:
    positions = [unit.position for unit in units]
    records = [unit.record for unit in units]
    finished = sorted(set(positions))
    return Part(rows=len(units), row_positions=positions, row_records=records, finished=finished, jobs=len(units))


@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("packed", [0, 10])
@in_virtual_time
async def test_a_killer_costs_so_many_workers_whatever_is_beside_it(slots: int, packed: int) -> None:
    names = [f"job-{n}" for n in range(240)]
    killers = set(random.Random(17).sample(names, KILLERS))
    path = PlainPath(slots=slots)
    await path.start(workers=3, window=120, batch_size=30)
    for at in range(0, len(names), packed or 1):
        group = names[at : at + (packed or 1)]
        if packed:
            body, content_type = pack([Job(id=name) for name in group])
            path.broker.publish(body, {h.RECORDS: len(group)}, message_id=group[0], content_type=content_type)
        else:
            path.publish(*group)
    deaths = Deaths(path, killers)
    await deaths.played()
    await eventually(lambda: len(path.store.dead) == KILLERS)
    assert set(path.dead()) == killers
    assert path.rows() == dict.fromkeys(set(names) - killers, 1)
    assert path.in_rungs() == []
    assert deaths.count <= KILLERS * (MAX_CRASHES + 1)
    assert path.crashes == {}, "nothing is left in the store's control table"
    await path.stop()


async def alone(path: PlainPath, *names: str) -> tuple[FakeWorker, str]:
    """The first of these messages is suspect and runs alone."""
    path.publish(*names)
    worker, _ = await path.batch()
    worker.die()
    worker, batch = await path.batch()
    assert path.keys(batch) == [names[0]]
    return worker, batch


async def test_a_suspect_that_has_its_result_is_acked_and_innocent() -> None:
    """Its worker says so, and did not run it. What goes out again says that it was out before."""
    path = PlainPath()
    await path.start()
    path.publish("k0")
    worker, batch = await path.batch()
    assert [parcel.again for parcel in worker.batches[batch]] == [False]
    worker.die()
    worker, batch = await path.batch()
    assert [parcel.again for parcel in worker.batches[batch]] == [True]
    worker.answer(batch, Part(finished=[0], jobs=1, skipped=1))
    await eventually(lambda: path.at_rest)
    assert (path.dead(), path.rows(), path.crashes) == ([], {}, {})
    assert path.settler.tally.skipped == path.settler.tally.acked == 1
    await path.stop()


async def test_a_suspect_that_its_worker_did_not_start_is_suspect_still() -> None:
    path = PlainPath()
    await path.start()
    worker, _ = await alone(path, "k0")
    worker.die()
    worker, batch = await path.batch()
    worker.answer(batch, Part(returned=[0]))
    await eventually(lambda: path.running and path.running[0][1] != batch)
    worker, batch = path.running[0]
    assert worker.name.startswith("qu-"), "it runs alone, and beside nobody else"
    worker.die()
    await eventually(lambda: path.dead() == ["k0"])
    assert path.crashes == {}
    await path.stop()


async def test_while_paused_no_suspect_runs_and_each_is_suspect_when_it_comes_again() -> None:
    path = PlainPath()
    await path.start()
    path.publish("k0", "k1")
    worker, _ = await path.batch()
    await path.router.hold("paused", "by hand")
    worker.die()
    await eventually(lambda: path.broker.unacked == 0 or path.running)
    assert (path.running, path.broker.ready) == ([], 2), "as all that was not dispatched"
    await path.router.release("paused")
    worker, _ = await path.batch()
    assert worker.name.startswith("qu-")
    await path.router.hold("paused", "by hand")
    worker.die()
    await eventually(lambda: path.broker.unacked == 0 or path.running)
    assert (path.running, path.broker.ready) == ([], 2)
    await path.router.release("paused")
    await path.work()
    assert path.rows() == {"k0": 1, "k1": 1}
    await path.stop()


async def test_a_worker_that_leaves_ends_though_its_suspect_was_not_run() -> None:
    path = PlainPath()
    await path.start()
    worker, _ = await alone(path, "k0")
    await path.store.close()  # the count of the next run waits for it
    worker.die()
    await eventually(lambda: [one for one in path.isolated.members if one.batches and one.handle is not worker])
    (member,) = (one for one in path.isolated.members if one.batches)
    path.isolated.leave({"node"})
    path.intake.lose()
    await path.store.open()
    await path.work()
    await eventually(lambda: member not in path.isolated.members)
    await path.stop()
