"""Each part of a batch ends in one of four ways: acked, given back, stopped by a fence, or given up before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pyarrow as pa
import pytest
from msgspec.structs import replace

from rabbitray.actors.errors import FencedError, PayloadLostError, RefusedError, StoreUnavailableError
from rabbitray.actors.message.reply import Failure, Part
from rabbitray.actors.router.consumption import Consumption
from rabbitray.actors.router.delivery import Batch, Delivery
from rabbitray.actors.router.holds.outage import Outage, OutageLimits
from rabbitray.actors.router.settlement.conclusion import BatchSafety, Concluder
from rabbitray.actors.router.settlement.failpoints import Failpoints
from rabbitray.actors.router.settlement.retries import RetryLimits
from rabbitray.actors.router.settlement.settler import Settler
from tests.kit.deliveries import delivery
from tests.kit.eventually import eventually
from tests.kit.fake_acks import FakeAcks
from tests.kit.fake_outbox import FakeOutbox
from tests.kit.fake_recorder import FakeRecorder
from tests.kit.fake_store import FakeStore
from tests.kit.result_rows import rows_of
from tests.kit.shifted_clock import ShiftedClock
from tests.kit.virtual_time import in_virtual_time


class BrokenAcks(FakeAcks):
    """The first ack raises."""

    broken = True

    def finish(self, deliveries: Iterable[Delivery]) -> int:
        if self.broken:
            self.broken = False
            raise ValueError("bug")
        return super().finish(deliveries)


class Consumer:
    """Counts what the consumption asks of it."""

    def __init__(self) -> None:
        self.consuming = True

    async def consume(self, window: int) -> None:
        self.consuming = True

    async def pause(self) -> None:
        self.consuming = False


class Held:
    """A concluder of one batch of two messages over a fake store."""

    def __init__(self, acks: FakeAcks | None = None, outage: OutageLimits | None = None) -> None:
        self.acks = acks or FakeAcks()
        self.outbox = FakeOutbox()
        self.store = FakeStore()
        self.recorder = FakeRecorder(self.store)
        self.consumer = Consumer()
        self.consumption = Consumption(self.consumer, on_hold=lambda: None, on_consume=lambda: None)
        self.outage = Outage(outage or OutageLimits(least=1))
        self.clock = ShiftedClock()
        self.settler = Settler(
            RetryLimits(),
            "q",
            acks=self.acks,
            outbox=self.outbox,
            record_dead_letters=self.recorder.record_dead_letters,
        )
        self.concluder: Concluder[pa.Table] = Concluder(
            self.recorder, self.settler, Failpoints(""), self.consumption, self.outage, self.clock
        )
        self.safety = BatchSafety(Batch([delivery(1), delivery(2)]))

    async def open(self) -> None:
        await self.store.open()
        self.recorder.epoch = await self.store.register("router")

    async def conclude(self, *done: int, failures: list[Failure] | None = None, still_open: int = 0) -> None:
        """A part in which the positions `done` got their row; what failed is finished too unless jobs are open."""
        failures = failures or []
        finished = [] if still_open else sorted({*done, *(one.position for one in failures)})
        part = Part(
            rows=len(done), row_positions=list(done), failures=failures, finished=finished, open=still_open, jobs=1
        )
        await self.concluder.conclude(self.safety, part, rows_of([f"k{n}" for n in done]))

    async def given_back(self, *tags: int) -> None:
        await eventually(lambda: self.acks.returned == list(tags))
        assert self.acks.acked == []


def failed(position: int) -> Failure:
    return Failure(
        position=position,
        verdict="retry",
        reason="exception",
        error="x",
        error_class="ConnectionError",
        category="transient",
        key=f"k{position}",
    )


@in_virtual_time
async def test_committed_rows_and_confirmed_copies_are_acked() -> None:
    held = Held()
    await held.open()
    await held.conclude(0, failures=[failed(1)])
    assert held.acks.acked == [1, 2]
    assert [row["key"] for row in held.store.results] == ["k0"]
    assert len(held.outbox.retried) == 1


@in_virtual_time
async def test_the_store_is_told_of_failed_runs_whose_jobs_run_again() -> None:
    held = Held()
    await held.open()
    held.safety.batch.worker = "w-1"
    lost = replace(failed(0), key=None, traceback="jobs.py:7 in handle", raised_in="jobs.py:7", attempt=2)
    await held.conclude(failures=[lost, replace(failed(1), verdict="dead", reason="rejected")])
    [run] = held.store.failures
    assert (run.key, run.attempts, run.traceback, run.raised_in) == (None, 3, "jobs.py:7 in handle", "jobs.py:7")
    assert (run.error_class, run.error, run.reason, run.worker) == ("ConnectionError", "x", "exception", "w-1")


@pytest.mark.parametrize("error", [PayloadLostError("its node died"), ValueError("bug")])
@in_virtual_time
async def test_a_lost_part_is_given_back_and_no_later_part_acks_its_messages(error: Exception) -> None:
    held = Held()
    await held.open()
    held.store.fail_next(error)
    await held.conclude(0, still_open=1)
    await held.conclude(0)
    await held.given_back(1)


@in_virtual_time
async def test_a_copy_that_is_not_confirmed_gives_only_its_message_back() -> None:
    held = Held()
    await held.open()
    held.outbox.failures.append(RefusedError("full"))
    await held.conclude(0, failures=[failed(1)])
    await eventually(lambda: held.acks.returned == [2])
    assert held.acks.acked == [1]


@in_virtual_time
async def test_an_ack_that_fails_gives_its_messages_back() -> None:
    held = Held(BrokenAcks())
    await held.open()
    await held.conclude(0, 1)
    await held.given_back(1, 2)


@in_virtual_time
async def test_a_fence_stops_this_part_and_every_other() -> None:
    held = Held()
    await held.open()
    held.store.fail_next(FencedError("epoch 1 has ended"))
    await held.conclude(0)
    assert held.consumption.fenced.is_set()
    assert held.consumption.closing
    assert not held.consumer.consuming
    await held.conclude(1)
    await asyncio.sleep(60)
    assert held.acks.log == [], "neither acked nor given back: another router has them"


@in_virtual_time
async def test_what_is_given_up_is_given_back_once_and_its_rows_are_results() -> None:
    held = Held()
    await held.open()
    held.store.hold()
    part = asyncio.create_task(held.conclude(0, 1))
    await eventually(lambda: held.store.waiting == 1)
    held.concluder.give_up_older_than(held.clock() - 1.0)
    assert held.safety.unsafe == set(), "it is not that old"
    held.concluder.give_up_older_than(held.clock() + 1.0)
    held.concluder.give_up_older_than(held.clock() + 1.0)
    held.store.release()
    await part
    await asyncio.sleep(60)
    assert held.acks.log == ["give back 1", "give back 2"]
    assert len(held.store.results) == 2


@pytest.mark.parametrize("error", [PayloadLostError("its node died"), ValueError("bug")])
@in_virtual_time
async def test_what_is_given_up_and_then_lost_is_given_back_once(error: Exception) -> None:
    held = Held()
    await held.open()
    held.store.hold()
    held.store.fail_next(error)
    part = asyncio.create_task(held.conclude(0, 1))
    await eventually(lambda: held.store.waiting == 1)
    held.concluder.give_up_older_than(held.clock() + 1.0)
    held.store.release()
    await part
    await asyncio.sleep(60)
    assert held.acks.log == ["give back 1", "give back 2"]


@in_virtual_time
async def test_a_part_that_waits_for_an_earlier_one_is_given_up_too() -> None:
    held = Held()
    await held.open()
    held.store.hold()
    parts = [asyncio.create_task(held.conclude(n)) for n in (0, 1)]
    await eventually(lambda: held.store.waiting == 1)
    assert held.store.writes == 1, "one after another"
    held.concluder.give_up_older_than(held.clock() + 1.0)
    held.store.release()
    await asyncio.gather(*parts)
    await asyncio.sleep(60)
    assert sorted(held.acks.log) == ["give back 1", "give back 2"]
    assert len(held.store.results) == 2


@in_virtual_time
async def test_an_unavailable_store_holds_the_consumption_until_it_answers() -> None:
    held = Held()
    await held.open()
    held.store.fail_next(StoreUnavailableError("disk full"))
    part = asyncio.create_task(held.conclude(0))
    await eventually(lambda: held.consumption.holds == {"store": "disk full"})
    assert not held.consumer.consuming
    await part
    assert held.consumption.holds == {}
    assert held.consumer.consuming
    assert held.acks.acked == [1]


@in_virtual_time
async def test_a_probe_that_fails_goes_uncharged_into_a_rung_and_one_that_succeeds_ends_the_outage() -> None:
    held = Held()
    await held.open()
    await held.conclude(failures=[failed(0)])
    assert list(held.consumption.holds) == ["outage"]
    assert held.outage.held
    held.safety.batch.probe = True
    await held.conclude(failures=[replace(failed(1), attempt=5)])  # the next charge would park it
    assert [(rung.attempt, rung.spared) for _, _, rung in held.outbox.retried] == [(0, 1), (5, 1)]
    assert held.acks.acked == [1, 2]
    assert held.settler.tally.retried == 0
    assert "1 of 1 probes failed" in held.consumption.holds["outage"]
    held.safety = BatchSafety(Batch([delivery(3)], probe=True))
    await held.conclude(0)
    assert held.consumption.holds == {}
    assert held.acks.acked == [1, 2, 3]


@in_virtual_time
async def test_a_failure_after_a_good_probe_is_not_charged_until_the_outage_is_surely_over() -> None:
    held = Held(outage=OutageLimits(least=2))
    await held.open()
    await held.conclude(failures=[failed(0)])
    await held.conclude(failures=[failed(1)])
    held.safety = BatchSafety(Batch([delivery(3), delivery(4)], probe=True))
    await held.conclude(0)
    await held.conclude(failures=[failed(1)])  # it went out beside the good one
    held.safety = BatchSafety(Batch([delivery(5), delivery(6)]))
    await held.conclude(failures=[replace(failed(0), key="k5")])
    await held.conclude(1)
    held.safety = BatchSafety(Batch([delivery(7), delivery(8)]))
    await held.conclude(failures=[replace(failed(0), key="k7")])
    charged = [(d.tag, rung.attempt) for d, _, rung in held.outbox.retried if not rung.spared]
    assert charged == [(1, 1), (7, 1)], "before the hold, and after the trial"
    assert held.consumption.holds == {}


@in_virtual_time
async def test_a_probe_that_was_refused_is_a_dead_letter_and_the_hold_goes_on() -> None:
    held = Held()
    await held.open()
    await held.conclude(failures=[failed(0)])
    held.safety = BatchSafety(Batch([delivery(3)], probe=True))
    refused = replace(failed(0), verdict="dead", category="permanent", reason="rejected", key="k3")
    await held.conclude(failures=[refused])
    assert list(held.consumption.holds) == ["outage"]
    assert [reason for _, _, reason in held.outbox.parked] == ["rejected"]
    assert held.acks.acked == [1, 3]


@in_virtual_time
async def test_a_probe_whose_result_is_there_already_ends_no_hold() -> None:
    held = Held()
    await held.open()
    await held.conclude(failures=[failed(1)])
    await held.conclude(0)
    assert list(held.consumption.holds) == ["outage"], "it was sent out before: it says nothing of now"
    held.safety = BatchSafety(Batch([delivery(3)], probe=True))
    await held.conclude(0)
    assert list(held.consumption.holds) == ["outage"]
    assert sorted(held.acks.acked) == [1, 2, 3]


@in_virtual_time
async def test_what_a_worker_said_nothing_of_is_given_back() -> None:
    held = Held()
    await held.open()
    held.safety.batch.take([0])
    held.concluder.give_back_unanswered(held.safety)
    await held.given_back(2)


@in_virtual_time
async def test_a_message_that_cannot_be_parked_for_a_fault_of_ours_is_given_back() -> None:
    held = Held(BrokenAcks())
    await held.open()
    await held.concluder.park(delivery(1), failed(0))
    await held.given_back(1)
