"""The pool of workers: who gets a batch, who is retired, how the lost are replaced and who is suspected."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from rabbitray.actors.message.message import Envelope
from rabbitray.actors.message.properties.property_list import Properties
from rabbitray.actors.message.properties.route import route_of
from rabbitray.actors.message.reply import Part, Progress
from rabbitray.actors.router.delivery import Batch
from rabbitray.actors.router.dispatch.member import WorkerLostError
from rabbitray.actors.router.dispatch.pool import REPLY_GRACE_S
from rabbitray.autoscale.policy.signals import Memory
from rabbitray.autoscale.policy.sizing import decide
from rabbitray.cluster.driver import compose
from rabbitray.cluster.settings import Settings
from tests.kit.deliveries import delivery
from tests.kit.eventually import eventually
from tests.kit.pool_harness import Harness
from tests.kit.pool_status import seen
from tests.kit.virtual_time import in_virtual_time


async def loss(task: asyncio.Task[None]) -> WorkerLostError:
    with pytest.raises(WorkerLostError) as caught:
        await task
    return caught.value


async def test_the_least_loaded_worker_is_picked_up_to_its_bound() -> None:
    pool = Harness(max_tasks_in_flight_per_actor=2)
    await pool.ready(2)
    sent = [pool.send() for _ in range(4)]
    await pool.arrived(*(batch for batch, _ in sent))
    assert [len(worker.batches) for worker in pool.workers] == [2, 2]
    assert pool.pool.pick() is None
    batch, task = sent[0]
    pool.at(batch).done(batch.id)
    await task
    assert pool.pool.pick() is not None
    for batch, task in sent[1:]:
        pool.at(batch).done(batch.id)
        await task
    await pool.pool.stop(1)


async def test_starting_and_retiring_workers_get_nothing() -> None:
    pool = Harness(auto=False)
    pool.pool.resize(2)
    assert pool.pool.pick() is None
    pool.workers[0].started()
    await eventually(lambda: pool.pool.count("ready") == 1)
    assert pool.changes
    batch, task = pool.send()
    await pool.arrived(batch)
    pool.pool.resize(0)
    assert pool.pool.pick() is None
    assert pool.pool.count("retiring") == 1
    pool.at(batch).done(batch.id)
    await task
    await eventually(lambda: pool.workers[0].stopped, message="a retired worker ends once it has finished")
    assert pool.pool.members == []


async def test_workers_are_listed_in_the_order_in_which_they_were_asked_for() -> None:
    pool = Harness(auto=False)
    pool.pool.resize(3)
    for nth in (2, 0):
        pool.workers[nth].started()
        await eventually(lambda nth=nth: pool.pool.members[nth].state == "ready")
    assert [(one.name, one.state) for one in pool.pool.members] == [
        ("w-0001", "ready"),
        ("w-0002", "starting"),
        ("w-0003", "ready"),
    ]
    await pool.pool.stop(0.1)


async def test_pending_before_idle_before_least_loaded_is_retired() -> None:
    pool = Harness(auto=False, max_tasks_in_flight_per_actor=3)
    pool.pool.resize(3)
    for worker in pool.workers:
        worker.started()
    await eventually(lambda: pool.pool.count("ready") == 3)
    sent = [pool.send() for _ in range(6)]
    await pool.arrived(*(batch for batch, _ in sent))
    idle, light, busy = pool.workers
    for batch, task in sent:
        if batch.id in idle.batches or (batch.id in light.batches and len(light.batches) == 2):
            pool.at(batch).done(batch.id)
            await task
    assert [len(worker.batches) for worker in pool.workers] == [0, 1, 2]
    pool.pool.resize(4)
    pending = pool.workers[3]
    pool.pool.resize(3)
    assert (pending.killed, idle.stopped) == (True, False)
    pool.pool.resize(2)
    await eventually(lambda: idle.stopped)
    pool.pool.resize(1)
    states = {member.name: member.state for member in pool.pool.members}
    assert states == {light.name: "retiring", busy.name: "ready"}
    await pool.pool.stop(0.1)
    await asyncio.gather(*(task for _, task in sent), return_exceptions=True)


async def test_failing_starts_are_tried_one_at_a_time_with_growing_pauses() -> None:
    pool = Harness(auto=False)
    pool.pool.resize(4)
    for worker in list(pool.workers):
        worker.fails_to_start("no database")
    await eventually(lambda: pool.pool.count("starting") == 0)
    first_pause = pool.pool.start_again_in_s
    assert 0 < first_pause <= 0.5, "workers that were asked for together count as one failure"
    assert pool.pool.start_error is not None
    assert "no database" in pool.pool.start_error
    for _ in range(20):
        pool.pool.resize(4)
    assert len(pool.workers) == 4, "asking again does not shorten the pause"
    await eventually(lambda: len(pool.workers) == 5, within_s=20)
    for _ in range(20):
        pool.pool.resize(4)
    assert len(pool.workers) == 5, "one start for each pause"
    pool.workers[4].fails_to_start()
    await eventually(lambda: pool.pool.count("starting") == 0)
    assert pool.pool.start_again_in_s > first_pause
    await eventually(lambda: len(pool.workers) == 6, within_s=20)
    pool.workers[5].started()
    await eventually(lambda: len(pool.workers) == 9, message="one good start lets the others go on")
    assert (pool.pool.start_error, pool.pool.start_again_in_s) == (None, 0.0)
    await pool.pool.stop(0.1)


async def test_a_factory_that_raises_is_a_failed_start() -> None:
    pool = Harness()
    pool.factory.error = ValueError("name taken")
    pool.pool.resize(3)
    assert pool.pool.members == []
    assert pool.pool.start_error == "name taken"
    pool.factory.error = None
    await eventually(lambda: pool.pool.count("ready") == 3, message="it goes on when it can")
    await pool.pool.stop(0.1)


@in_virtual_time
async def test_a_start_that_never_ends_is_given_up() -> None:
    pool = Harness(auto=False, start_timeout_s=30.0)
    pool.pool.resize(1)
    await eventually(lambda: pool.workers[0].killed, within_s=60)
    assert pool.pool.start_error == "not ready within 30 s"
    await pool.pool.stop(0.1)


@in_virtual_time
async def test_a_worker_without_a_place_is_withdrawn_and_is_no_failed_start() -> None:
    """Pool and policy at their defaults: one worker is up, much is to do, and the others never get a place."""
    settings, clock = Settings(), asyncio.get_running_loop().time
    limits = compose.autoscale_limits(settings, 8)
    pool = Harness(auto=False, start_timeout_s=settings.start_timeout_s)
    pool.pool.resize(1)
    pool.workers[0].started()
    await eventually(lambda: pool.pool.count("ready") == 1)
    memory, pending_since, kinds = Memory(), clock(), []
    for _ in range(int(2 * settings.start_timeout_s)):
        starting = pool.pool.count("starting")
        pending_since = pending_since if starting else clock()
        look = seen(
            now=clock(), ready=50_000, workers=1, starting=starting, target=pool.pool.target,
            pending_s=clock() - pending_since if starting else None,
        )  # fmt: skip
        decision, memory = decide(look, memory, limits)
        pool.pool.resize(decision.wanted)
        kinds.append(decision.kind)
        await asyncio.sleep(1.0)
    assert kinds.count("withdraw") >= 2, "withdrawn, asked for again, and withdrawn again"
    assert pool.pool.start_error is None, "waiting for a place is no failed start"
    assert kinds.index("withdraw") == pytest.approx(limits.pending_limit_s, abs=3)
    await pool.pool.stop(0.1)


async def test_a_dead_worker_is_replaced_and_its_batch_told() -> None:
    pool = Harness()
    await pool.ready(1)
    batch, task = pool.send()
    await pool.arrived(batch)
    pool.workers[0].die()
    found = await loss(task)
    assert (found.reason, found.may_be_poison) == ("worker_crashed", True)
    await eventually(lambda: pool.pool.count("ready") == 1)
    assert len(pool.workers) == 2
    assert pool.pool.replaced == 1
    assert pool.workers[0].killed
    await pool.pool.stop(0.1)


async def test_every_batch_of_a_sync_worker_that_dies_is_suspected() -> None:
    """The oldest may be finished, its answer lost with the worker, which died of the next one."""
    pool = Harness(max_tasks_in_flight_per_actor=3)
    await pool.ready(1)
    sent = [pool.send() for _ in range(3)]
    await pool.arrived(*(batch for batch, _ in sent))
    pool.workers[0].done(sent[0][0].id)
    await sent[0][1]
    pool.workers[0].die()
    assert [(await loss(task)).may_be_poison for _, task in sent[1:]] == [True, True]
    await pool.pool.stop(0.1)


async def test_all_batches_of_an_async_worker_are_suspected() -> None:
    pool = Harness(slots=32)
    await pool.ready(1)
    sent = [pool.send() for _ in range(2)]
    await pool.arrived(*(batch for batch, _ in sent))
    pool.workers[0].die()
    assert [(await loss(task)).may_be_poison for _, task in sent] == [True, True]
    await pool.pool.stop(0.1)


@pytest.mark.parametrize("leaves", [True, False])
async def test_nobody_is_suspected_before_it_is_known_whether_the_node_goes(leaves: bool) -> None:
    pool = Harness()
    await pool.ready(1)
    batch, task = pool.send()
    await pool.arrived(batch)
    worker = pool.workers[0]
    worker.node_in_doubt = True
    worker.die()
    await eventually(lambda: pool.pool.count("ready") == 1 and len(pool.workers) == 2, message="replaced meanwhile")
    assert not task.done()
    worker.leaving.set_result(leaves)
    found = await loss(task)
    assert (found.reason, found.may_be_poison) == (("node_lost", False) if leaves else ("worker_crashed", True))
    await pool.pool.stop(0.1)


async def test_an_answer_that_cannot_be_used_ends_the_worker() -> None:
    pool = Harness()
    await pool.ready(1)
    batch, task = pool.send()
    await pool.arrived(batch)
    pool.workers[0].raises(batch.id, ValueError("no part at all"))
    found = await loss(task)
    assert (found.reason, found.may_be_poison) == ("worker_error", True)
    assert pool.workers[0].killed
    await pool.pool.stop(0.1)


@in_virtual_time
async def test_a_worker_that_answers_nothing_is_killed_and_replaced() -> None:
    pool = Harness(handler_timeout_s=60.0)
    await pool.ready(1)
    sent = [pool.send() for _ in range(2)]
    await pool.arrived(*(batch for batch, _ in sent))
    began = asyncio.get_running_loop().time()
    found = await loss(sent[0][1])
    assert found.detail == "its worker gave no answer for 60 s"
    assert asyncio.get_running_loop().time() - began == pytest.approx(60.0 + REPLY_GRACE_S, abs=1.0)
    assert (found.reason, found.may_be_poison) == ("handler_timeout", True)
    assert not (await loss(sent[1][1])).may_be_poison, "it waited behind the one that hangs"
    assert pool.workers[0].killed
    await eventually(lambda: pool.pool.count("ready") == 1)
    await pool.pool.stop(0.1)


@pytest.mark.parametrize(
    ("at", "detail"),
    [
        ("jobs.py:7 in handle", "the handler held up the event loop of its worker for 60 s: "),
        ("", "no job of the batch finished for 60 s"),
    ],
)
@in_virtual_time
async def test_a_blocked_event_loop_is_told_apart_from_a_dead_worker(at: str, detail: str) -> None:
    pool = Harness(handler_timeout_s=60.0)
    await pool.ready(1)
    pool.workers[0].at = at
    batch, task = pool.send()
    await pool.arrived(batch)
    found = await loss(task)
    assert found.detail.startswith(detail)
    assert found.traceback == at
    await pool.pool.stop(0.1)


@in_virtual_time
async def test_silence_of_a_node_that_goes_accuses_nobody() -> None:
    pool = Harness(handler_timeout_s=60.0)
    await pool.ready(1)
    batch, task = pool.send()
    await pool.arrived(batch)
    pool.workers[0].node_in_doubt = True
    pool.workers[0].leaving.set_result(True)
    found = await loss(task)
    assert (found.reason, found.may_be_poison) == ("node_lost", False)
    await pool.pool.stop(0.1)


async def test_signs_of_life_without_a_finished_job_are_a_hang() -> None:
    pool = Harness(handler_timeout_s=0.05)
    await pool.ready(1)
    batch, task = pool.send(2)
    await pool.arrived(batch)

    async def living() -> bool:
        if not task.done():
            pool.workers[0].answer(batch.id, Part(open=2, executing=[0], stands="jobs.py:7 in handle"))
        return task.done()

    await eventually(living)
    found = await loss(task)
    assert (found.reason, found.traceback) == ("handler_timeout", "jobs.py:7 in handle")
    assert pool.workers[0].killed
    await pool.pool.stop(0.1)


async def test_finished_jobs_are_progress() -> None:
    pool = Harness(handler_timeout_s=0.2)
    await pool.ready(1)
    batch, task = pool.send(40)
    await pool.arrived(batch)
    for n in range(40):
        await asyncio.sleep(0.01)  # twice the time-out in all, with a finished job in each part
        pool.workers[0].answer(batch.id, Part(finished=[n], open=39 - n, jobs=1))
    await task
    assert not pool.workers[0].killed
    await pool.pool.stop(0.1)


def told(position: int, fraction: float) -> Progress:
    return Progress(position=position, record=0, key="k", fraction=fraction, text="page 3", started_at=1.0, told_at=2.0)


async def test_what_a_job_tells_of_its_progress_is_a_sign_of_life() -> None:
    pool = Harness(handler_timeout_s=0.2)
    await pool.ready(1)
    batch, task = pool.send(1)
    await pool.arrived(batch)
    for n in range(40):
        await asyncio.sleep(0.01)  # twice the time-out in all
        pool.workers[0].answer(batch.id, Part(open=1, executing=[0], progress=[told(0, n / 40)]))
    (member,) = pool.pool.members
    await eventually(lambda: [one.fraction for one in member.progress[batch.id].values()] == [39 / 40])
    pool.workers[0].answer(batch.id, Part(finished=[0], jobs=1))
    await task
    assert not pool.workers[0].killed
    assert not member.progress
    await pool.pool.stop(0.1)


async def test_a_job_ends_after_its_longest_run_whatever_it_tells() -> None:
    pool = Harness(handler_timeout_s=0.1, max_run_s=0.2)
    await pool.ready(1)
    batch, task = pool.send(1)
    await pool.arrived(batch)

    async def living() -> bool:
        if not task.done():
            pool.workers[0].answer(batch.id, Part(open=1, executing=[0], progress=[told(0, 0.5)]))
        return task.done()

    await eventually(living)
    found = await loss(task)
    assert (found.reason, found.detail) == (
        "handler_timeout",
        "a job ran for 0.2 s (max_run_s), whatever progress it told",
    )
    await pool.pool.stop(0.1)


async def test_the_free_slots_of_an_async_worker_are_filled_whatever_is_in_flight() -> None:
    pool = Harness(slots=3, max_tasks_in_flight_per_actor=1)
    await pool.ready(1)
    sent = []
    for _ in range(3):
        assert pool.pool.pick() is not None
        sent.append(pool.send())
    await pool.arrived(*(batch for batch, _ in sent))
    assert pool.pool.pick() is None, "every slot has its job"
    batch, task = sent[0]
    pool.workers[0].done(batch.id)
    await task
    assert pool.pool.pick() is not None
    await pool.pool.stop(0.1)
    await asyncio.gather(*(task for _, task in sent), return_exceptions=True)


async def test_slow_jobs_of_an_async_worker_occupy_slots_and_no_place_in_the_line() -> None:
    pool = Harness(slots=3, max_tasks_in_flight_per_actor=1)
    await pool.ready(1)
    batch, task = pool.send(5)
    await pool.arrived(batch)
    assert pool.pool.pick() is None, "two of its jobs wait for a slot already"
    pool.workers[0].answer(batch.id, Part(open=2, executing=[0, 1], finished=[2, 3, 4], jobs=3))
    await eventually(lambda: batch.id in pool.parts)
    full, other = pool.send(1)
    await pool.arrived(full)
    pool.workers[0].answer(full.id, Part(open=1, executing=[0]))
    await eventually(lambda: full.id in pool.parts)
    assert pool.pool.pick() is None, "every slot holds a slow job now"
    pool.workers[0].answer(batch.id, Part(open=1, executing=[0], finished=[1], jobs=1))
    await eventually(lambda: len(pool.parts[batch.id]) == 2)
    large, third = pool.send(5)
    await pool.arrived(large)
    assert pool.pool.pick() is None, "its place in the line is taken, its slots are full"
    await pool.pool.stop(0.1)
    await asyncio.gather(task, other, third, return_exceptions=True)


async def test_a_slow_batch_leaves_its_place_in_the_line() -> None:
    pool = Harness(slots=3, max_tasks_in_flight_per_actor=2)
    await pool.ready(1)
    slow, task = pool.send(1)
    await pool.arrived(slow)
    pool.workers[0].answer(slow.id, Part(open=1, executing=[0]))
    await eventually(lambda: slow.id in pool.parts)
    large, other = pool.send(5)
    await pool.arrived(large)
    assert pool.pool.pick() is not None, "one batch is in the line, and two may be"
    await pool.pool.stop(0.1)
    await asyncio.gather(task, other, return_exceptions=True)


async def test_the_worker_with_the_fewest_jobs_in_hand_is_picked() -> None:
    pool = Harness(max_tasks_in_flight_per_actor=2)
    await pool.ready(2)
    large, first = pool.send(10)
    small, second = pool.send(1)
    await pool.arrived(large, small)
    third = pool.send(1)
    await pool.arrived(third[0])
    assert pool.at(third[0]) is pool.at(small)
    await pool.pool.stop(0.1)
    await asyncio.gather(first, second, third[1], return_exceptions=True)


async def test_a_slow_job_blocks_a_sync_worker() -> None:
    pool = Harness(slots=1, max_tasks_in_flight_per_actor=2)
    await pool.ready(1)
    batch, task = pool.send()
    await pool.arrived(batch)
    pool.workers[0].answer(batch.id, Part(open=1, executing=[0]))
    await eventually(lambda: batch.id in pool.parts)
    assert pool.pool.pick() is None
    pool.workers[0].answer(batch.id, Part(finished=[0], jobs=1))
    await task
    await pool.pool.stop(0.1)


async def test_stopping_ends_every_worker_whatever_its_state() -> None:
    pool = Harness(auto=False)
    pool.pool.resize(3)
    idle, retiring, starting = pool.workers
    idle.started()
    retiring.started()
    retiring.hangs_on_stop = True
    await eventually(lambda: pool.pool.count("ready") == 2)
    batch, task = pool.send()
    await pool.arrived(batch)
    holder = pool.at(batch)
    holder.hangs_on_stop = True
    await pool.pool.stop(0.05)
    assert starting.killed
    assert all(worker.stopped for worker in (idle, retiring))
    assert holder.killed
    assert not (await loss(task)).may_be_poison, "we ended it"
    await pool.pool.stop(0.05)
    pool.pool.resize(5)
    assert len(pool.workers) == 3, "a stopped pool starts nothing"


async def test_a_worker_that_becomes_ready_in_the_moment_of_the_stop_is_ended_too() -> None:
    pool = Harness(auto=False)
    pool.pool.resize(1)
    [worker] = pool.workers
    await asyncio.sleep(0)  # its start waits for it
    worker.started()
    await asyncio.sleep(0)  # and goes on in the next turn of the loop
    await pool.pool.stop(0.05)
    assert worker.killed
    assert pool.pool.members == []


async def test_stopping_kills_what_was_still_retiring() -> None:
    pool = Harness()
    await pool.ready(1)
    pool.workers[0].hangs_on_stop = True
    pool.pool.resize(0)
    await eventually(lambda: pool.workers[0].stopped)
    assert not pool.workers[0].killed
    await pool.pool.stop(0.05)
    assert pool.workers[0].killed


async def test_a_worker_withdrawn_while_starting_stays_out() -> None:
    pool = Harness(auto=False)
    pool.pool.resize(1)
    pool.pool.resize(0)
    pool.workers[0].started()
    await asyncio.sleep(0)
    assert pool.pool.members == []
    assert pool.pool.start_error is None
    await pool.pool.stop(0.05)


async def test_workers_of_a_draining_node_finish_and_are_replaced() -> None:
    pool = Harness()
    await pool.ready(2)
    batch, task = pool.send()
    await pool.arrived(batch)
    pool.pool.leave({"another"})
    assert pool.pool.count("retiring") == 0
    pool.pool.leave({"node"})
    await eventually(lambda: len(pool.workers) == 4)
    assert pool.pool.count("retiring") == 1, "the busy one finishes first"
    pool.at(batch).answer(batch.id, Part(finished=[0], jobs=1))
    await task
    await eventually(lambda: pool.pool.count("retiring") == 0)
    assert not any(worker.killed for worker in pool.workers)
    assert pool.pool.replaced == 0


async def test_a_worker_that_asks_for_messages_is_told_which_of_them_came_as_copies_come() -> None:
    """Only of these it believes what our headers say, see `sent_with`."""
    as_copies, otherwise = route_of("", "jobs"), route_of("shop", "jobs")
    harness = Harness(copies_come_by=frozenset((as_copies,)))
    await harness.ready(1)
    [member] = harness.pool.members
    assert member.info is not None
    for asks in (False, True):
        member.info = replace(member.info, asks_message=asks)
        batch = Batch([delivery(n, route=route) for n, route in enumerate((as_copies, otherwise))])
        running = asyncio.create_task(harness._run(member, batch))
        await harness.arrived(batch)
        envelopes = [parcel.envelope for parcel in harness.at(batch).batches[batch.id]]
        assert [one and (one.route, one.copied) for one in envelopes] == (
            [(as_copies, True), (otherwise, False)] if asks else [None, None]
        )
        harness.at(batch).done(batch.id)
        await running


async def test_a_worker_that_asks_for_messages_gets_them_with_their_envelopes_and_no_other_one() -> None:
    pool = Harness(auto=False)
    pool.pool.resize(2)
    plain, asking = pool.workers
    asking.asks_message = True
    for worker in (plain, asking):
        worker.started()
    await eventually(lambda: pool.pool.count("ready") == 2)
    raw = Properties(raw=b"\x80\x00\x04text")
    sent = [pool.send(properties=raw, route=route_of("shop", "orders"), redelivered=True) for _ in range(2)]
    await pool.arrived(*(batch for batch, _ in sent))
    [[got], [asked]] = [next(iter(worker.batches.values())) for worker in (plain, asking)]
    assert got.envelope is None
    assert asked.envelope == Envelope(raw=raw.raw, route=b"\x04shop\x06orders", redelivered=True, copied=False)
    assert (asked.body, asked.message_id) == (got.body, got.message_id)
    for batch, task in sent:
        pool.at(batch).done(batch.id)
        await task
    await pool.pool.stop(1)


async def test_a_worker_that_dies_without_work_is_replaced() -> None:
    held = Harness()
    await held.ready(2)
    idle = held.workers[0]
    idle.die()
    await eventually(lambda: len(held.workers) == 3 and held.pool.count("ready") == 2)
    assert idle.name not in [member.name for member in held.pool.members]
    assert held.pool.replaced == 1
    await held.pool.stop(0.1)
    assert len(held.workers) == 3, "an end that we asked for is replaced by nobody"


async def test_what_dies_with_work_is_told_by_that_work() -> None:
    held = Harness()
    await held.ready(1)
    batch, task = held.send(2)
    await held.arrived(batch)
    held.at(batch).die()
    with pytest.raises(WorkerLostError) as lost:
        await task
    assert lost.value.may_be_poison, "a watch that removed it first would make its messages innocent"
    await eventually(lambda: held.pool.count("ready") == 1)
    await held.pool.stop(0.1)
