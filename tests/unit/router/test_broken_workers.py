"""A handler says that its worker is broken: the job runs elsewhere, twice for nothing, and nobody pays for it."""

from __future__ import annotations

import msgspec

from rabbitray.actors.message.reply import WORKER_BROKEN, Failure, Part
from rabbitray.actors.router.dispatch.broken import SPARED_MOST
from tests.kit.eventually import eventually
from tests.kit.fake_workers import FakeWorker
from tests.kit.plain_path import PlainPath, fails
from tests.kit.result_rows import rows_of
from tests.unit.router.test_router import path_of


def broke(position: int, key: str) -> Failure:
    return msgspec.structs.replace(fails(position, key), reason=WORKER_BROKEN, error_class="WorkerBroken")


def breaks(path: PlainPath, worker: FakeWorker, batch: str, key: str) -> None:
    """The job of that key says so; those before it in the batch are done."""
    keys = path.keys(batch)
    at = keys.index(key)
    done = list(range(at))
    part = Part(
        rows=at,
        row_positions=done,
        failures=[broke(at, key)],
        finished=[*done, at],
        open=len(keys) - at - 1,
        jobs=at + 1,
        broken="WorkerBroken: no CUDA",
    )
    worker.answer(batch, part, rows_of(keys[:at]))


async def test_the_worker_is_replaced_and_all_that_it_had_runs_elsewhere() -> None:
    async with path_of() as path:
        path.publish("k0", "k1", "k2")
        worker, batch = await path.batch()
        breaks(path, worker, batch, "k1")
        await eventually(lambda: worker.killed and len(path.alive) == 1)
        await path.work()
        assert path.rows() == {"k0": 1, "k1": 1, "k2": 1}
        counts = path.settler.tally.counts()
        assert (counts.done, counts.retried, counts.dead) == (3, 0, 0)
        assert path.pool.replaced == 1
        assert not path.crashes, "nobody is suspect"


async def test_the_third_time_it_is_a_failure_with_its_reason() -> None:
    async with path_of() as path:
        path.publish("k0")
        for _ in range(SPARED_MOST + 1):
            worker, batch = await path.batch()
            assert path.in_rungs() == []
            breaks(path, worker, batch, "k0")
            await eventually(lambda worker=worker: worker.killed)
        await eventually(lambda: path.in_rungs() == ["k0"])
        assert path.settler.tally.counts().retried == 1
        assert path.pool.replaced == SPARED_MOST + 1, "the worker is broken all the same"


async def test_what_a_broken_worker_had_in_other_batches_runs_elsewhere() -> None:
    async with path_of(batch_size=1) as path:
        path.publish("k0", "k1")
        await eventually(lambda: len(path.running) == 2)
        (worker, first), _ = path.running
        breaks(path, worker, first, path.keys(first)[0])
        await eventually(lambda: worker.killed)
        await path.work()
        assert path.rows() == {"k0": 1, "k1": 1}
        assert not path.crashes


async def test_what_came_too_long_ago_goes_back_instead_of_running_again_here() -> None:
    """A second run of an hour would outlast what RabbitMQ leaves a message with us."""
    async with path_of(max_hold_s=60.0) as path:
        path.publish("k0")
        worker, batch = await path.batch()
        path.clock.ahead_s += 3_600.0
        breaks(path, worker, batch, "k0")
        await eventually(lambda: [one.redelivered for one in path.router.held()] == [True])
        await path.work()
        assert path.rows() == {"k0": 1}


async def test_what_its_handler_said_is_known_when_it_comes_again() -> None:
    """Else it would go round for ever, and end a worker each time."""
    async with path_of(max_hold_s=60.0) as path:
        path.publish("k0")
        for _ in range(SPARED_MOST + 1):
            worker, batch = await path.batch()
            path.clock.ahead_s += 3_600.0
            breaks(path, worker, batch, "k0")
            await eventually(lambda worker=worker: worker.killed)
        await eventually(lambda: path.in_rungs() == ["k0"])
