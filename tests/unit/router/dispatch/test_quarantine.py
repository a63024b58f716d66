"""Poison isolation: only the message that kills is parked, its neighbours finish."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from rabbitray.actors.errors import StoreUnavailableError
from rabbitray.actors.message.reply import Failure
from rabbitray.actors.router.delivery import Batch, Delivery
from rabbitray.actors.router.dispatch.isolation import SPARED_MOST
from rabbitray.actors.router.dispatch.member import WorkerLostError
from rabbitray.actors.router.dispatch.pool import Pool, PoolConfig
from rabbitray.actors.router.dispatch.quarantine import Quarantine, identity
from tests.kit.deliveries import delivery as plain_delivery
from tests.kit.eventually import eventually
from tests.kit.fake_workers import FakeFactory
from tests.kit.virtual_time import in_virtual_time

CRASH = WorkerLostError("worker_crashed", "x", may_be_poison=True)
NODE = WorkerLostError("node_lost", "x", may_be_poison=False)
FULL_NODE = WorkerLostError("out_of_memory", "x", may_be_poison=True, merely_chosen=True)


def delivery(tag: int = 1, **changes: Any) -> Delivery:
    """A delivery with a key header, by which the quarantine calls it."""
    return plain_delivery(tag, **({"key": f"m-{tag}"} | changes))


class Harness:
    """A quarantine whose runs the test plays: `killers` end the worker, the rest finish."""

    def __init__(self, *, counts: dict[str, int] | None = None, slots: int = 1) -> None:
        self.factory = FakeFactory(slots=slots)
        self.pool: Pool[pa.Table] = Pool(
            PoolConfig(name="qu", max_tasks_in_flight_per_actor=1), self.factory, on_change=lambda: None
        )
        self.notes: list[tuple[str, int]] = []
        self.note_failures: list[Exception] = []
        self.killers: set[str] = set()
        self.runs: list[list[str]] = []
        self.finished: list[str] = []
        self.parked: list[tuple[str, Failure]] = []
        self.quarantine: Quarantine[pa.Table] = Quarantine(
            self.pool, max_crashes=2, counts=counts or {}, note=self._note
        )

    async def _note(self, name: str, count: int) -> None:
        if self.note_failures:
            raise self.note_failures.pop(0)
        self.notes.append((name, count))

    async def suspect(self, deliveries: list[Delivery]) -> None:
        """A batch of the ordinary pool whose worker died."""
        assert await self.quarantine.isolate(Batch(deliveries), deliveries, CRASH) is None

    async def next(self) -> Batch:
        """The group that runs now."""
        await eventually(lambda: self.pool.pick() is not None)
        ((_, member, batch),) = self.quarantine.next()
        member.batches[batch.id] = batch
        self.runs.append([identity(one) for one in batch.deliveries])
        await self.quarantine.count(batch)
        return batch

    async def end(self, batch: Batch, loss: WorkerLostError | None = None) -> None:
        """Its run ends: well, or with the worker."""
        for member in self.pool.members:
            member.batches.pop(batch.id, None)
        if loss is None:
            self.finished += [identity(one) for one in batch.deliveries]
            await self.quarantine.clear(batch)
        elif (failure := await self.quarantine.isolate(batch, batch.deliveries, loss)) is not None:
            self.parked.append((identity(batch.deliveries[0]), failure))

    async def play(self) -> None:
        """Runs until nothing is left."""
        while len(self.quarantine):
            batch = await self.next()
            kills = self.killers.intersection(identity(one) for one in batch.deliveries)
            await self.end(batch, CRASH if kills else None)


def messages(count: int) -> list[Delivery]:
    return [delivery(tag) for tag in range(1, count + 1)]


@pytest.mark.parametrize("size", [1, 2, 7, 64])
async def test_only_the_killer_is_parked(size: int) -> None:
    held = Harness()
    killer = f"m-{size // 2 + 1}"
    held.killers = {killer}
    await held.suspect(messages(size))
    await held.play()
    assert [name for name, _ in held.parked] == [killer]
    assert sorted([*held.finished, killer]) == sorted(identity(one) for one in messages(size))
    assert len(held.finished) == size - 1, "every neighbour once"
    failure = held.parked[0][1]
    assert (failure.verdict, failure.reason, failure.attempt) == ("dead", "worker_crashed", 0)
    assert (failure.error, failure.traceback) == (CRASH.detail, CRASH.traceback), "without its reason once more"
    assert held.runs.count([killer]) == 2, "max_crashes times alone"
    assert len(held.runs) == size + 1, "each innocent once"
    assert held.notes == [(killer, 1), (killer, 2), (killer, 0)], "an innocent costs no call of the store"
    await held.pool.stop(0.1)


async def test_two_killers_are_both_found() -> None:
    held = Harness()
    held.killers = {"m-3", "m-4"}
    await held.suspect(messages(16))
    await held.play()
    assert sorted(name for name, _ in held.parked) == ["m-3", "m-4"]
    assert len(held.finished) == 14
    await held.pool.stop(0.1)


async def test_suspects_run_alone_one_after_another() -> None:
    held = Harness(slots=32)
    await held.suspect(messages(3))
    await held.play()
    assert held.runs == [["m-1"], ["m-2"], ["m-3"]]
    await held.pool.stop(0.1)


async def test_a_run_after_a_crash_is_counted_before_and_cleared_after() -> None:
    held = Harness()
    await held.suspect(messages(1))
    await held.end(await held.next(), CRASH)
    assert held.notes == [("m-1", 1)]
    batch = await held.next()
    assert held.notes == [("m-1", 1), ("m-1", 2)], "kept before it runs"
    assert held.quarantine.knows(delivery(1))
    await held.end(batch)
    assert held.notes == [("m-1", 1), ("m-1", 2), ("m-1", 0)]
    assert not held.quarantine.knows(delivery(1))
    await held.pool.stop(0.1)


async def test_who_takes_the_router_along_each_time_is_parked_without_another_run() -> None:
    held = Harness(counts={"m-1": 1})
    for _ in range(2):
        held.quarantine.add([delivery(1)])
        await held.next()
        held = Harness(counts=dict(held.notes))  # the router ended, and another one reads what the store kept
    held.quarantine.add([delivery(1)])
    with pytest.raises(WorkerLostError) as caught:
        await held.next()
    (batch,) = [batch for member in held.pool.members for batch in member.batches.values()]
    await held.end(batch, caught.value)
    assert [(name, failure.reason) for name, failure in held.parked] == [("m-1", "worker_crashed")]
    assert held.notes == [("m-1", 0)]
    await held.pool.stop(0.1)


async def test_a_count_outlives_the_router() -> None:
    held = Harness(counts={"m-1": 1})
    assert held.quarantine.knows(delivery(1))
    assert not held.quarantine.knows(delivery(2))
    held.quarantine.add([delivery(1)])
    held.killers = {"m-1"}
    await held.play()
    assert [name for name, _ in held.parked] == ["m-1"]
    assert held.runs == [["m-1"]], "it had killed alone once already"
    assert held.notes == [("m-1", 2), ("m-1", 0)]
    await held.pool.stop(0.1)


async def test_a_loss_that_no_job_may_have_caused_counts_for_nothing_and_forgets_nothing() -> None:
    held = Harness()
    await held.suspect(messages(1))
    await held.end(await held.next(), CRASH)
    await held.end(await held.next(), NODE)
    assert held.notes[-1] == ("m-1", 1), "the crash before it stays counted"
    await held.end(await held.next(), NODE)
    assert held.parked == []
    await held.end(await held.next(), CRASH)
    assert [name for name, _ in held.parked] == ["m-1"]
    await held.pool.stop(0.1)


async def test_a_message_alone_on_a_full_node_is_innocent_but_not_without_end() -> None:
    held = Harness()
    await held.suspect(messages(1))
    for _ in range(SPARED_MOST):
        await held.end(await held.next(), FULL_NODE)
    assert held.notes == []
    await held.end(await held.next(), FULL_NODE)
    assert held.notes == [("m-1", 1)]
    await held.end(await held.next(), FULL_NODE)
    assert [(name, failure.reason) for name, failure in held.parked] == [("m-1", "out_of_memory")]
    await held.pool.stop(0.1)


async def test_an_innocent_loss_of_a_suspect_that_never_crashed_costs_no_call_of_the_store() -> None:
    held = Harness()
    await held.suspect(messages(2))
    await held.end(await held.next(), NODE)
    await held.play()
    assert held.runs == [["m-1"], ["m-2"], ["m-1"]]
    assert held.notes == []
    await held.pool.stop(0.1)


async def test_one_runs_at_a_time_so_that_no_neighbour_is_suspected() -> None:
    held = Harness(slots=32)
    await held.suspect(messages(2))
    await held.next()
    member = held.pool.members[0]
    member.slow = dict.fromkeys(member.batches, 1)  # a slow job: an async worker has slots free
    assert held.pool.pick() is not None
    assert list(held.quarantine.next()) == []
    await held.pool.stop(0.1)


async def test_workers_are_there_only_while_there_are_suspects() -> None:
    held = Harness()
    assert held.factory.workers == []
    await held.suspect(messages(2))
    await held.play()
    await eventually(lambda: all(worker.lost for worker in held.factory.workers))
    before = len(held.factory.workers)
    await held.suspect(messages(2))
    await eventually(lambda: held.pool.count("ready") == 1)
    assert [one.tag for one in held.quarantine.take_all()] == [1, 2]
    await eventually(lambda: all(worker.lost for worker in held.factory.workers), message="also when given back")
    assert len(held.factory.workers) == before + 1, "nothing ran: one is enough"
    await held.pool.stop(0.1)


async def test_the_next_worker_starts_while_the_present_one_runs() -> None:
    held = Harness()
    held.killers = {"m-1"}
    await held.suspect(messages(3))
    batch = await held.next()
    await eventually(lambda: held.pool.count("ready") == 2)
    assert list(held.quarantine.next()) == [], "the spare one waits: there is one suspect in hand"
    (worker,) = [member for member in held.pool.members if member.batches]
    held.pool.remove(worker, why="it died")
    worker.batches.clear()
    assert held.pool.pick() is not None, "at once"
    await held.end(batch, CRASH)
    await held.play()
    assert [name for name, _ in held.parked] == ["m-1"]
    await held.pool.stop(0.1)


async def test_the_next_suspect_runs_while_the_cause_of_a_death_is_being_asked_for() -> None:
    held = Harness()
    await held.suspect(messages(3))
    asked = await held.next()
    (worker,) = [member for member in held.pool.members if member.batches]
    held.pool.remove(worker, why="it died")
    worker.batches.clear()
    await held.end(await held.next())
    assert held.quarantine.holds(asked)
    await held.end(asked, CRASH)
    await held.play()
    assert held.runs == [["m-1"], ["m-2"], ["m-3"], ["m-1"]]
    await held.pool.stop(0.1)


async def test_those_that_wait_too_long_leave_and_are_suspect_when_they_come_again() -> None:
    held = Harness()
    held.quarantine.add([delivery(1, arrived_at=5.0), delivery(2, arrived_at=9.0)])
    held.quarantine.add([delivery(3, arrived_at=9.0)])
    assert [one.tag for one in held.quarantine.remove(lambda one: one.arrived_at < 6)] == [1]
    assert len(held.quarantine) == 2
    assert held.quarantine.knows(delivery(1))
    assert held.notes == []
    await held.pool.stop(0.1)


@in_virtual_time
async def test_a_store_that_is_away_only_delays_the_run() -> None:
    held = Harness(counts={"m-1": 1})
    held.note_failures = [StoreUnavailableError("restarting")] * 3
    held.quarantine.add(messages(1))
    await held.next()
    assert held.notes == [("m-1", 2)]
    await held.pool.stop(0.1)


async def test_a_count_that_cannot_be_stored_still_counts_here() -> None:
    held = Harness()
    held.note_failures = [ValueError("bug")] * 9
    held.killers = {"m-1"}
    await held.suspect(messages(1))
    await held.play()
    assert [name for name, _ in held.parked] == ["m-1"]
    await held.pool.stop(0.1)


async def test_counts_are_bounded() -> None:
    held = Harness(counts={f"old-{n}": 1 for n in range(10_000)})
    held.killers = {"m-1"}
    await held.suspect(messages(1))
    await held.play()
    assert ("old-0", 0) in held.notes, "the oldest makes room"
    assert [name for name, _ in held.parked] == ["m-1"]
    await held.pool.stop(0.1)


async def test_a_delivery_that_is_no_longer_ours_is_not_run_again() -> None:
    held = Harness()
    await held.suspect(messages(1))
    batch = await held.next()
    assert await held.quarantine.isolate(batch, [], CRASH) is None
    assert len(held.quarantine) == 0
    assert held.quarantine.knows(delivery(1)), "its redelivery runs alone"
    await held.pool.stop(0.1)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"key": "k"}, "k"),
        ({"message_id": "m"}, "m:"),
        ({"message_id": None}, "body:"),
    ],
)
def test_a_message_has_a_name_before_it_is_decoded(changes: dict[str, Any], name: str) -> None:
    one = plain_delivery(1, **changes)
    assert identity(one).startswith(name)
    assert identity(one) == identity(plain_delivery(2, **({"message_id": "m-1"} | changes)))


@pytest.mark.parametrize(
    ("one", "other"),
    [(b"{}", b"[]"), (b"{}", b"{} "), (b"a" * 9_000, b"a" * 9_001), (b"a" * 9_000, b"a" * 8_999 + b"b")],
)
def test_two_messages_of_one_message_id_have_two_names(one: bytes, other: bytes) -> None:
    assert identity(plain_delivery(1, one, message_id="m")) != identity(plain_delivery(2, other, message_id="m"))


async def test_suspects_are_remembered_within_bounds() -> None:
    held = Harness()
    held.quarantine.expect(f"old-{n}" for n in range(10_001))
    assert not held.quarantine.knows(delivery(1, key="old-0"))
    assert held.quarantine.knows(delivery(1, key="old-1"))
    await held.pool.stop(0.1)
