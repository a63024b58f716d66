"""The router over fakes: batching, holds, drain, and what it does when store, payload or worker are lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rabbitray.actors.errors import PayloadLostError, RefusedError, StoreUnavailableError
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.reply import Part
from tests.kit.eventually import eventually
from tests.kit.plain_path import PlainPath, fails, mixed
from tests.kit.result_rows import rows_of
from tests.kit.shifted_clock import ShiftedClock

HOUR_MS = 3_600_000.0


@asynccontextmanager
async def path_of(
    *, workers: int = 1, window: int = 10, batch_size: int = 5, **config: Any
) -> AsyncIterator[PlainPath]:
    path = PlainPath(**config)
    await path.start(workers=workers, window=window, batch_size=batch_size)
    try:
        yield path
    finally:
        await path.stop()


def names(count: int) -> list[str]:
    return [f"k{n}" for n in range(count)]


async def test_every_message_becomes_one_row_and_is_acked() -> None:
    async with path_of(workers=3) as path:
        path.publish(*names(100))
        await path.work()
        assert path.rows() == dict.fromkeys(names(100), 1)
        assert path.broker.refused == 0
        assert path.settler.tally.acked == 100
        assert path.intake.unacked == 0


async def test_a_batch_goes_out_at_once_to_an_idle_worker() -> None:
    async with path_of(batch_timeout_ms=HOUR_MS) as path:
        path.publish("k0")
        _, batch = await path.batch()
        assert path.keys(batch) == ["k0"]


async def test_a_busy_worker_gets_a_batch_when_it_is_full() -> None:
    async with path_of(batch_timeout_ms=HOUR_MS, batch_size=3) as path:
        path.publish("k0")
        await path.batch()
        path.publish("k1", "k2")
        await asyncio.sleep(0)
        assert len(path.running) == 1
        path.publish("k3")
        await eventually(lambda: len(path.running) == 2)
        assert path.keys(path.running[1][1]) == ["k1", "k2", "k3"]


async def test_a_worker_with_free_slots_gets_what_comes_now_and_then_at_once() -> None:
    async with path_of(batch_timeout_ms=HOUR_MS, batch_size=3, slots=4) as path:
        for number in range(4):
            path.publish(f"k{number}")
            await eventually(lambda seen=number: len(path.running) == seen + 1)
        path.publish("k4")
        await asyncio.sleep(0.05)
        assert len(path.running) == 4, "its slots are full, and a batch for the line is not"


async def test_an_idle_worker_waits_for_the_company_of_a_burst() -> None:
    clock = ShiftedClock(-10.0)
    async with path_of(
        workers=2, batch_timeout_ms=HOUR_MS, burst_wait_ms=1_000.0, batch_size=20, window=100, clock=clock
    ) as path:
        clock.ahead_s = 0.0  # what the start itself expects is over
        path.publish(*names(30))
        await eventually(lambda: len(path.running) == 1)
        await asyncio.sleep(0.05)
        assert len(path.running) == 1, "ten wait for more"
        path.publish(*names(40)[30:])
        await eventually(lambda: len(path.running) == 2)
        assert [len(path.keys(batch)) for _, batch in path.running] == [20, 20]


async def test_a_worker_that_becomes_idle_waits_no_longer_than_for_company() -> None:
    async with path_of(batch_timeout_ms=HOUR_MS, batch_size=50, window=100) as path:
        path.publish("k0")
        worker, batch = await path.batch()
        path.publish(*names(21)[1:])
        await asyncio.sleep(0)
        worker.done(batch)
        await eventually(lambda: [path.keys(name) for _, name in path.running] == [names(21)[1:]])


async def test_or_when_its_bytes_are_full() -> None:
    async with path_of(batch_timeout_ms=HOUR_MS, batch_bytes=100) as path:
        path.publish("k0")
        await path.batch()
        path.broker.publish(b'"' + b"x" * 200 + b'"', message_id="large")
        await eventually(lambda: len(path.running) == 2)
        assert path.keys(path.running[1][1]) == ["large"]


async def test_or_when_the_oldest_has_waited() -> None:
    async with path_of(batch_timeout_ms=20.0) as path:
        path.publish("k0")
        await path.batch()
        path.publish("k1")
        await eventually(lambda: len(path.running) == 2)


async def test_nothing_is_acked_before_the_commit() -> None:
    async with path_of() as path:
        path.store.hold()
        path.publish("k0", "k1")
        worker, batch = await path.batch()
        worker.done(batch)
        await eventually(lambda: path.store.waiting == 1)
        assert path.broker.unacked == 2
        path.store.release()
        await eventually(lambda: path.broker.unacked == 0)


async def test_failures_go_to_rung_and_dead_letters_and_the_rest_commits() -> None:
    async with path_of() as path:
        path.publish(*names(4))
        worker, batch = await path.batch()
        part, rows = mixed(path.keys(batch), {1: "retry", 2: "dead"}, [0] * 4)
        worker.answer(batch, part, rows)
        await eventually(lambda: path.at_rest)
        assert path.rows() == {"k0": 1, "k3": 1}
        assert path.in_rungs() == ["k1"]
        assert path.dead() == ["k2"]
        copy = path.broker.queues[path.topology.rung(100)][0]
        assert copy.headers[h.ATTEMPT] == 1
        assert copy.message_id == "k1", "the producer's id stays"


@pytest.mark.slow
async def test_a_slow_job_holds_up_no_other_message() -> None:
    async with path_of(window=6, batch_size=2) as path:
        path.publish("slow", "k0")
        worker, batch = await path.batch()
        worker.answer(
            batch, Part(rows=1, row_positions=[1], finished=[1], open=1, executing=[0], jobs=1), rows_of(["k0"])
        )
        path.pool.resize(2)
        path.publish(*names(40)[1:])

        def others() -> bool:
            for other, name in path.running:
                if name != batch:
                    other.done(name)
            return len(path.rows()) == 40

        await eventually(others)
        await eventually(lambda: path.broker.unacked == 1, message="finished ones are acked behind the slow one")
        worker.answer(batch, Part(rows=1, row_positions=[0], finished=[0], jobs=1), rows_of(["slow"]))
        await eventually(lambda: path.at_rest)
        assert path.broker.refused == 0


async def test_what_a_worker_did_not_start_goes_to_another() -> None:
    async with path_of() as path:
        path.publish(*names(3))
        worker, batch = await path.batch()
        worker.answer(batch, Part(returned=[1, 2], open=1, executing=[0]))
        path.pool.resize(2)
        await eventually(lambda: len(path.running) == 2)
        other, name = path.running[1]
        assert other is not worker
        assert path.keys(name) == ["k1", "k2"]


async def test_a_worker_that_forgets_a_message_does_not_lose_it() -> None:
    async with path_of() as path:
        path.publish(*names(2))
        worker, batch = await path.batch()
        worker.answer(batch, Part(rows=1, row_positions=[0], finished=[0], jobs=1), rows_of(["k0"]))
        await path.work()
        assert path.rows() == {"k0": 1, "k1": 1}


@pytest.mark.parametrize("failures", [1, 3])
async def test_while_the_store_is_unavailable_nothing_is_consumed_or_acked(failures: int) -> None:
    async with path_of(window=4, batch_size=2) as path:
        path.store.hold()
        for _ in range(failures):
            path.store.fail_next(StoreUnavailableError("disk full"))
        path.publish(*names(10))
        worker, batch = await path.batch()
        worker.done(batch)
        await eventually(lambda: path.store.waiting == 1)
        path.store.release()
        await eventually(lambda: path.router.holds == {"store": "disk full"})
        assert not path.intake.consuming
        assert path.settler.tally.acked == 0
        await path.work()
        assert path.router.holds == {}
        assert path.rows() == dict.fromkeys(names(10), 1)


async def test_a_store_that_comes_back_with_another_error_ends_the_hold_too() -> None:
    async with path_of() as path:
        path.store.fail_next(StoreUnavailableError("restarting"))
        path.store.fail_next(PayloadLostError("its node died meanwhile"))
        path.publish(*names(3))
        worker, batch = await path.batch()
        worker.done(batch)
        await eventually(lambda: path.settler.tally.given_back == 3)
        assert path.router.holds == {}
        await path.work()
        assert path.rows() == dict.fromkeys(names(3), 1)


async def test_a_lost_payload_runs_its_messages_again_failures_included() -> None:
    async with path_of() as path:
        path.publish(*names(3))
        path.store.fail_next(PayloadLostError("its node died"))
        worker, batch = await path.batch()
        part, rows = mixed(path.keys(batch), {1: "retry", 2: "dead"}, [0] * 3)
        worker.answer(batch, part, rows)
        await eventually(lambda: path.settler.tally.given_back == 3)
        assert path.settler.tally.acked == 0
        await path.work()
        assert path.rows() == dict.fromkeys(names(3), 1), "what failed beside the lost rows is not lost either"
        assert path.dead() == path.in_rungs() == []


async def test_a_packed_message_with_a_lost_part_is_not_acked_by_a_later_one() -> None:
    async with path_of() as path:
        path.publish("packed")
        path.store.fail_next(ValueError("bug"))
        worker, batch = await path.batch()
        worker.answer(batch, Part(failures=[fails(0, "r0")], open=1, jobs=1))
        await eventually(lambda: path.store.writes == 1)
        worker.answer(batch, Part(rows=1, row_positions=[0], row_records=[1], finished=[0], jobs=1), rows_of(["r1"]))
        await eventually(lambda: path.settler.tally.given_back == 1)
        assert path.settler.tally.acked == 0


async def test_a_fenced_router_stops_and_acks_nothing() -> None:
    async with path_of() as path:
        path.publish(*names(3))
        worker, batch = await path.batch()
        await path.store.register("a later router")
        worker.done(batch)
        await asyncio.wait_for(path.router.fenced.wait(), 10)
        assert not path.intake.consuming
        path.publish("later")
        await asyncio.sleep(0)
        assert path.settler.tally.acked == 0
        assert path.running == []


async def test_a_fenced_router_parks_nothing() -> None:
    async with path_of() as path:
        await path.store.register("a later router")
        path.broker.publish(b"x" * (17 * 1024 * 1024), message_id="too large")
        await asyncio.wait_for(path.router.fenced.wait(), 10)
        assert path.settler.tally.acked == 0


async def test_a_hold_gives_back_what_waits_and_a_release_goes_on() -> None:
    async with path_of(window=8, batch_size=2, max_in_flight=1) as path:
        path.publish(*names(8))
        worker, batch = await path.batch()
        assert path.broker.unacked == 8
        await path.router.hold("paused", "by hand")
        await path.router.hold("store", "full")
        assert path.broker.unacked == 2, "what is in flight is kept"
        worker.done(batch)
        await eventually(lambda: path.broker.unacked == 0)
        await path.router.release("store")
        assert not path.intake.consuming
        await path.router.release("paused")
        await path.work()
        assert path.rows() == dict.fromkeys(names(8), 1)
        assert path.broker.refused == 0


async def test_a_wider_window_is_a_new_consumer_and_a_hold_keeps_it_for_later() -> None:
    async with path_of(window=2, batch_size=1, max_in_flight=1) as path:
        path.publish(*names(20))
        assert path.broker.unacked == 2
        await path.router.set_window(5, 2)
        assert path.broker.unacked == 7, "the old consumer's deliveries are not counted against the new one"
        await path.router.hold("paused", "by hand")
        await path.router.set_window(3, 2)
        assert not path.intake.consuming
        await path.router.release("paused")
        assert path.intake.consuming
        await path.work()


async def test_what_no_worker_comes_for_is_given_back() -> None:
    async with path_of(workers=0, max_hold_s=0.0) as path:
        path.publish(*names(3))
        assert len(path.router.buffer) == 3
        await path.intake.pause()
        path.router.tick()
        assert (path.broker.unacked, path.broker.ready) == (0, 3)


async def test_what_waits_too_long_for_the_store_is_given_back_and_its_rows_stay() -> None:
    async with path_of(max_hold_s=0.0) as path:
        path.store.fail_next(StoreUnavailableError("disk full"))
        path.publish(*names(3))
        worker, batch = await path.batch()
        worker.done(batch)
        await eventually(lambda: "store" in path.router.holds)
        path.router.tick()
        path.router.tick()  # once is enough
        await eventually(lambda: path.rows() == dict.fromkeys(names(3), 1))
        await path.work()
        assert path.settler.tally.given_back == 3
        assert path.settler.tally.duplicates == 3
        assert path.rows() == dict.fromkeys(names(3), 1)
        assert path.broker.refused == 0


async def test_a_drain_finishes_what_is_in_flight_and_gives_the_rest_back() -> None:
    async with path_of(window=10, batch_size=2, max_in_flight=1) as path:
        path.publish(*names(10))
        worker, batch = await path.batch()
        draining = asyncio.create_task(path.router.drain(10.0))
        await eventually(lambda: path.broker.ready == 8)
        assert not draining.done()
        worker.done(batch)
        assert await draining
        assert (path.broker.unacked, path.broker.ready) == (0, 8)
        assert path.rows() == dict.fromkeys(names(2), 1)
        assert await path.router.drain(1.0), "twice is fine"


async def test_a_drain_waits_for_the_parts_that_finished_batches_leave_behind() -> None:
    async with path_of() as path:
        path.store.hold()
        path.publish("k0")
        worker, batch = await path.batch()
        worker.done(batch)
        draining = asyncio.create_task(path.router.drain(10.0))
        await eventually(lambda: path.store.waiting == 1)
        path.store.release()
        assert await draining
        assert path.broker.unacked == 0


async def test_a_drain_ends_at_its_deadline_and_acks_nothing_after_it() -> None:
    async with path_of() as path:
        path.store.hold()
        path.publish("k0", "k1")
        worker, batch = await path.batch()
        worker.answer(batch, Part(rows=1, row_positions=[0], finished=[0], open=1, jobs=1), rows_of(["k0"]))
        await eventually(lambda: path.store.waiting == 1)
        assert not await path.router.drain(0.05)
        path.store.release()
        await asyncio.sleep(0)
        assert path.settler.tally.acked == 0
        await path.intake.close()
        assert path.broker.ready == 2


async def test_a_drain_goes_on_where_the_broker_does_not_answer_that_the_consumer_is_stopped() -> None:
    async with path_of() as path:
        path.store.hold()
        path.publish("k0")
        worker, batch = await path.batch()
        path.intake.pause = asyncio.Event().wait
        worker.done(batch)
        assert not await path.router.drain(0.05)
        await path.intake.close()
        assert (path.broker.unacked, path.broker.ready) == (0, 1)


async def test_what_comes_back_during_a_drain_is_given_back() -> None:
    async with path_of() as path:
        path.publish(*names(3))
        worker, batch = await path.batch()
        draining = asyncio.create_task(path.router.drain(10.0))
        await asyncio.sleep(0)
        worker.answer(batch, Part(rows=1, row_positions=[0], finished=[0], returned=[1, 2], jobs=1), rows_of(["k0"]))
        assert await draining
        assert (path.broker.unacked, path.broker.ready) == (0, 2)


async def test_suspects_of_a_drain_are_given_back() -> None:
    async with path_of() as path:
        path.publish(*names(4))
        worker, _ = await path.batch()
        draining = asyncio.create_task(path.router.drain(10.0))
        await asyncio.sleep(0)
        worker.die()
        assert await draining
        assert (path.broker.unacked, path.broker.ready) == (0, 4)


@pytest.mark.slow
async def test_the_innocent_run_again_and_the_killer_is_parked() -> None:
    async with path_of(workers=2, window=40, batch_size=8, slots=1) as path:
        path.publish(*names(32))
        killer = "k13"

        def play() -> bool:
            for worker, batch in path.running:
                if killer in path.keys(batch):
                    if batch == next(iter(worker.batches)):
                        worker.die()
                else:
                    worker.done(batch)
            return path.at_rest

        await eventually(play)
        assert path.dead() == [killer]
        assert path.rows() == dict.fromkeys([name for name in names(32) if name != killer], 1)
        letter = path.broker.queues[path.topology.dead_queue][0]
        assert (letter.headers[h.REASON], letter.headers[h.ATTEMPT]) == ("worker_crashed", 1)
        assert path.broker.refused == 0


async def test_a_lone_message_that_is_no_suspect_is_not_counted() -> None:
    async with path_of() as path:
        path.publish("k0")
        await path.work()
        assert path.crashes == {}


async def test_a_new_channel_drops_what_waits_and_counts_late_settlements() -> None:
    async with path_of(window=8, batch_size=2, max_in_flight=1) as path:
        path.publish(*names(8))
        worker, batch = await path.batch()
        path.intake.lose()
        await eventually(lambda: path.intake.reconnects == 1)
        worker.done(batch)
        await path.work()
        assert path.intake.stale == 2, "committed, but the channel of their tags is gone"
        assert path.rows() == dict.fromkeys(names(8), 1)
        assert path.settler.tally.duplicates == 2
        assert path.broker.refused == 0


async def test_too_large_and_not_yet_due() -> None:
    async with path_of() as path:
        path.publish("later", **{h.DUE: 32_000_000_000_000})
        path.broker.publish(b"x" * (17 * 1024 * 1024), message_id="large")
        await eventually(lambda: path.at_rest)
        assert path.in_rungs() == ["later"]
        assert path.dead() == ["large"]
        assert path.store.dead[0]["reason"] == "too_large"
        assert path.rows() == {}


async def test_a_copy_that_is_not_confirmed_keeps_its_message() -> None:
    async with path_of() as path:
        path.sender.failures.append(RefusedError("the dead-letter queue is full"))
        path.publish("k0")
        worker, batch = await path.batch()
        worker.answer(batch, *mixed(["k0"], {0: "dead"}, [0]))
        await path.work()
        assert path.dead() == []
        assert path.rows() == {"k0": 1}


async def test_an_ambiguous_copy_of_a_key_that_got_its_result_is_not_published_again() -> None:
    async with path_of() as path:
        path.sender.ambiguous = True
        path.sender.failures.append(RefusedError("the confirm was lost"))
        path.publish("k0")
        worker, batch = await path.batch()
        worker.answer(batch, *mixed(["k0"], {0: "retry"}, [0]))
        await eventually(lambda: path.settler.tally.given_back == 1)
        assert path.in_rungs() == ["k0"]
        path.broker.expire()
        worker, batch = await path.batch()
        worker.done(batch)
        await eventually(lambda: path.rows() == {"k0": 1})
        worker, batch = await path.batch()
        worker.answer(batch, *mixed(["k0"], {0: "dead"}, [0]))
        await eventually(lambda: path.at_rest)
        assert path.dead() == []
        assert path.rows() == {"k0": 1}


@pytest.mark.slow
async def test_an_outage_stops_burning_attempts_and_a_probe_ends_it() -> None:
    async with path_of(outage=True, window=40, batch_size=20) as path:
        path.publish(*names(40))
        worker, batch = await path.batch()
        keys = path.keys(batch)
        worker.answer(batch, *mixed(keys, dict.fromkeys(range(len(keys)), "retry"), [0] * len(keys)))
        for other, name in path.running:
            if name != batch:
                found = path.keys(name)
                other.answer(name, *mixed(found, dict.fromkeys(range(len(found)), "retry"), [0] * len(found)))
        await eventually(lambda: "outage" in path.router.holds)
        assert not path.intake.consuming
        path.publish("probe", "next")

        def probing() -> bool:
            path.router.tick()
            return bool(path.running)

        await eventually(probing)
        worker, batch = path.running[0]
        (key,) = path.keys(batch)
        before, in_rungs = path.settler.tally.retried, len(path.in_rungs())
        worker.answer(batch, *mixed([key], {0: "retry"}, [0]))
        await eventually(lambda: len(path.in_rungs()) == in_rungs + 1)
        assert path.settler.tally.retried == before, "a failed probe charges no attempt"
        await eventually(probing)
        worker, batch = path.running[0]
        assert path.keys(batch) == ["next"], "the one that failed has left its place"
        worker.done(batch)
        await eventually(lambda: path.router.holds == {})
        await path.work()


async def test_in_an_outage_one_probe_is_out_at_a_time_and_nothing_else() -> None:
    async with path_of(outage=True, window=60, batch_size=20, workers=2) as path:
        path.publish(*names(60))
        await eventually(lambda: len(path.running) == 3)
        (worker, batch), *others = path.running
        keys = path.keys(batch)
        worker.answer(batch, *mixed(keys, dict.fromkeys(range(len(keys)), "retry"), [0] * len(keys)))
        await eventually(lambda: "outage" in path.router.holds)
        for other, name in others:  # these were not started when it began
            other.answer(name, Part(returned=list(range(len(path.keys(name))))))
        await eventually(lambda: path.broker.unacked == 0, message="what a worker returns waits in the queue")
        assert path.running == []

        def probing() -> bool:
            path.router.tick()
            return bool(path.running)

        await eventually(probing)
        path.clock.ahead_s = 60.0  # the next one is due, but the first has not ended
        path.router.tick()
        await asyncio.sleep(0.05)
        assert [len(path.keys(name)) for _, name in path.running] == [1]
        worker, batch = path.running[0]
        worker.done(batch)
        await eventually(lambda: path.router.holds == {})
        await path.work()


async def outage_of(path: PlainPath, count: int) -> None:
    """So many messages fail together, and the hold begins."""
    path.publish(*names(count))
    worker, batch = await path.batch()
    keys = path.keys(batch)
    assert len(keys) == count
    worker.answer(batch, *mixed(keys, dict.fromkeys(range(count), "retry"), [0] * count))
    await eventually(lambda: "outage" in path.router.holds and path.broker.unacked == 0)


async def test_nothing_runs_while_paused_be_it_a_probe() -> None:
    async with path_of(outage=True, window=20, batch_size=20, workers=2) as path:
        await outage_of(path, 20)
        path.clock.ahead_s = 2.0
        path.router.tick()
        await eventually(lambda: path.intake.consuming)
        await path.router.hold("paused", "by hand")
        path.publish("probe")
        path.clock.ahead_s = 60.0
        path.router.tick()
        await asyncio.sleep(0.05)
        assert (path.running, path.broker.ready, path.intake.consuming) == ([], 1, False)
        await path.router.release("paused")
        path.clock.ahead_s = 120.0
        path.router.tick()
        worker, batch = await path.batch()
        await path.router.hold("paused", "by hand")
        worker.done(batch)
        await eventually(lambda: path.router.holds == {"paused": "by hand"})
        assert not path.intake.consuming, "the outage is over, the pause is not"
        await path.router.release("paused")
        await path.work()
        assert path.rows() == {"probe": 1}


async def test_what_never_reaches_a_worker_is_no_probe() -> None:
    async with path_of(outage=True, window=20, batch_size=20) as path:
        await outage_of(path, 20)
        path.publish("later", **{h.DUE: 32_000_000_000_000})
        path.publish("large", **{f"x-{n}": "x" * 1_000 for n in range(200)})
        path.publish("probe")
        path.clock.ahead_s = 2.0
        path.router.tick()
        _, batch = await path.batch()
        assert path.keys(batch) == ["probe"], "the two before it went their own way, at once"
        assert path.dead() == ["large"]
        assert list(path.router.holds) == ["outage"]


async def test_what_a_worker_gives_back_while_paused_waits_in_the_queue() -> None:
    async with path_of(workers=1, batch_size=3) as path:
        path.publish(*names(3))
        worker, batch = await path.batch()
        await path.router.hold("paused", "by hand")
        worker.answer(batch, Part(returned=list(range(len(path.keys(batch))))))
        await eventually(lambda: path.broker.unacked == 0)
        assert (path.running, path.broker.ready) == ([], 3)
        await path.router.release("paused")
        await path.work()


async def test_what_arrives_beside_a_probe_goes_back_to_the_queue() -> None:
    async with path_of(outage=True, window=20, batch_size=20, workers=2) as path:
        path.publish(*names(20))
        worker, batch = await path.batch()
        keys = path.keys(batch)
        worker.answer(batch, *mixed(keys, dict.fromkeys(range(len(keys)), "retry"), [0] * len(keys)))
        await eventually(lambda: "outage" in path.router.holds and path.broker.unacked == 0)
        path.publish("k20", "k21", "k22")
        path.clock.ahead_s = 2.0
        path.router.tick()
        await eventually(lambda: path.broker.unacked == 1)
        assert [path.keys(name) for _, name in path.running] == [["k20"]]
        await path.intake.consume(3)  # as if they had crossed the end of the consumer
        await eventually(lambda: path.broker.unacked == 1)
        assert [path.keys(name) for _, name in path.running] == [["k20"]], "this round is of one probe"
        worker, batch = path.running[0]
        worker.done(batch)
        await eventually(lambda: path.router.holds == {})
        await path.work()
        assert path.rows() == dict.fromkeys(["k20", "k21", "k22"], 1)


async def test_messages_of_a_batch_that_fails_for_a_fault_of_ours_are_given_back() -> None:
    unreadable: Any = None
    async with path_of() as path:
        path.publish("k0")
        worker, batch = await path.batch()
        worker.answer(batch, Part(open=1, busy_s=unreadable))
        await eventually(lambda: len(path.running) == 2, message="it did not come again")
        worker.done(path.running[1][1])
        await eventually(lambda: path.settler.tally.acked == 1)
        assert path.rows() == {"k0": 1}
