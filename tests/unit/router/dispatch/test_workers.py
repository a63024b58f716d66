"""The router's handle on a worker: nothing of Ray that can block runs on the event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ObjectStoreFullError,
    RayError,
    RaySystemError,
    RayTaskError,
    RpcError,
    RuntimeEnvSetupError,
)

from rabbitray.actors.message.reply import Part, WorkerInfo, encode_part
from rabbitray.actors.remote.inline import RAYS_BYTES
from rabbitray.actors.router.dispatch import workers
from rabbitray.actors.router.dispatch.member import WorkerLostError
from rabbitray.actors.router.dispatch.workers import RayWorker, WorkerThreads
from tests.kit.eventually import eventually
from tests.kit.fake_actors import FakeActor

INFO = WorkerInfo(slots=1, pid=7, node="n")
SMALL, LARGE = b"s", bytes(RAYS_BYTES)


@pytest.fixture(autouse=True)
def rays_own_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Ray an earlier test has started."""
    monkeypatch.delenv("RAY_max_direct_call_object_size", raising=False)


class Batches:
    """A worker's actor: takes batches, each on the thread that hands it over. `room`: Ray's store takes them."""

    def __init__(self, refuses: Exception | None = None) -> None:
        self.taken: list[tuple[str, str]] = []
        self.room = threading.Event()
        self.room.set()
        self._refuses = refuses
        self.run = self

    def remote(self, batch_id: str, shipment: bytes) -> list[Any]:
        if len(shipment) >= RAYS_BYTES:
            self.room.wait(10)
        if self._refuses is not None:
            raise self._refuses
        self.taken.append((batch_id, threading.current_thread().name.partition("_")[0]))
        return [self._part(), f"rows of {batch_id}"]

    async def _part(self) -> bytes:
        return encode_part(Part())


def worker_on(actor: object, threads: WorkerThreads | None = None) -> RayWorker:
    created: Future[Any] = Future()
    created.set_result(actor)
    return RayWorker("p-worker-0001", created, threads or WorkerThreads())


class Kills:
    """Instead of `ray.kill`."""

    def __init__(self) -> None:
        self.killed: list[object] = []

    def __call__(self, actor: object, *, no_restart: bool) -> None:
        self.killed.append(actor)


async def test_the_loop_goes_on_while_ray_creates_workers() -> None:
    """Eight in a row, and the GCS gives no answer: each creation waits in the thread."""
    gcs, threads = threading.Event(), WorkerThreads()

    def create() -> Any:
        gcs.wait(10)
        return FakeActor(INFO, *[time.time()] * workers.CLOCK_ASKS, None)

    asked = [RayWorker(f"p-worker-{n}", threads.creates.submit(create), threads) for n in range(8)]
    ready = asyncio.gather(*(worker.ready() for worker in asked))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not ready.done()
    gcs.set()
    assert [replace(info, clock_s=0.0) for info in await ready] == [INFO] * 8


async def test_a_worker_that_cannot_be_created_is_a_failed_start() -> None:
    created: Future[Any] = Future()
    created.set_exception(RpcError("the GCS gave no answer"))
    with pytest.raises(WorkerLostError, match="start_failed: the GCS gave no answer") as lost:
        await RayWorker("p-worker-0001", created, WorkerThreads()).ready()
    assert not lost.value.may_be_poison


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeEnvSetupError("ERROR: No matching distribution for nope"), "environment_failed: ERROR: No matching"),
        (ActorDiedError(RayTaskError("f", "RuntimeError: CUDA out of memory", MemoryError())), "no_gpu_memory: "),
    ],
)
async def test_a_start_says_whether_its_environment_or_its_gpu_was_not_there(error: Exception, says: str) -> None:
    created: Future[Any] = Future()
    created.set_exception(error)
    with pytest.raises(WorkerLostError, match=says):
        await RayWorker("p-worker-0001", created, WorkerThreads()).ready()


async def test_where_an_environment_is_built_the_start_begins_with_the_process() -> None:
    info = replace(INFO, up_s=2.0)
    answers = [info, *[time.time()] * workers.CLOCK_ASKS]
    actor = FakeActor(*answers, *answers)
    created: Future[Any] = Future()
    created.set_result(actor)
    assert (await RayWorker("w-1", created, WorkerThreads()).ready()).start_s is None
    assert (await RayWorker("w-1", created, WorkerThreads(), built=True).ready()).start_s == 2.0


async def test_a_worker_killed_while_ray_creates_it_is_ended_once_it_is_there() -> None:
    gcs, kills = threading.Event(), Kills()
    threads, actor = WorkerThreads(kills), FakeActor(INFO)
    creating = threading.Event()

    def create() -> Any:
        creating.set()
        gcs.wait(10)
        return actor

    worker = RayWorker("p-worker-0001", threads.creates.submit(create), threads)
    never = RayWorker("p-worker-0002", threads.creates.submit(create), threads)
    await asyncio.to_thread(creating.wait, 10)
    never.kill()
    worker.kill()
    assert kills.killed == []
    gcs.set()
    await eventually(lambda: kills.killed)
    assert kills.killed == [actor], "the one that waited was not created at all"


async def test_a_kill_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fails(actor: object, *, no_restart: bool) -> None:
        raise RuntimeError("Ray is shut down")

    worker_on(FakeActor(INFO), WorkerThreads(fails)).kill()
    await eventually(lambda: "could not be killed (Ray is shut down)" in caplog.text)


async def test_only_a_large_batch_is_handed_over_by_a_thread() -> None:
    """Ray puts it into its object store meanwhile. Batches arrive in the order of dispatch all the same."""
    actor = Batches()
    worker = worker_on(actor)
    await worker.run("small", SMALL)
    actor.room.clear()
    calls = [asyncio.ensure_future(worker.run(*batch)) for batch in (("large", LARGE), ("next", SMALL))]
    for _ in range(100):
        await asyncio.sleep(0)
    assert [batch for batch, _ in actor.taken] == ["small"]
    actor.room.set()
    assert [rows for _, rows in await asyncio.gather(*calls)] == ["rows of large", "rows of next"]
    assert actor.taken == [("small", "MainThread"), ("large", "send-batches"), ("next", "MainThread")]


@pytest.mark.parametrize("shipment", [SMALL, LARGE])
async def test_a_batch_that_ray_has_no_room_for_suspects_nobody(shipment: bytes) -> None:
    with pytest.raises(WorkerLostError) as lost:
        await worker_on(Batches(ObjectStoreFullError())).run("b", shipment)
    assert not lost.value.may_be_poison


async def test_nor_does_a_question_for_more_that_ray_did_not_take() -> None:
    class Refusing:
        def remote(self, batch_id: str) -> list[Any]:
            raise RaySystemError(RuntimeError("not connected"))

    with pytest.raises(WorkerLostError) as lost:
        await worker_on(SimpleNamespace(more=Refusing())).more("b")
    assert not lost.value.may_be_poison


@pytest.mark.parametrize("ahead_s", [3_600.0, -3_600.0, 0.0])
async def test_the_clock_of_a_worker_is_measured_and_its_times_corrected_by_it(ahead_s: float) -> None:
    corrected: list[float] = []

    async def answers(value: object) -> object:
        return value

    async def correct(by_s: float) -> None:
        corrected.append(by_s)

    actor = SimpleNamespace(
        ready=SimpleNamespace(remote=lambda: answers(INFO)),
        wall_clock=SimpleNamespace(remote=lambda: answers(time.time() + ahead_s)),
        correct_clock=SimpleNamespace(remote=correct),
    )
    created: Future[Any] = Future()
    created.set_result(actor)
    info = await RayWorker("w-0001", created, WorkerThreads()).ready()
    assert info.clock_s == pytest.approx(ahead_s, abs=1.0)
    assert corrected == ([] if not ahead_s else [info.clock_s]), "a few milliseconds are no offset"


async def test_an_answer_that_was_late_does_not_measure_a_clock() -> None:
    """A machine is busiest while its workers start."""
    delays_s = [0.2, 0.2, 0.0, 0.2, 0.2]

    async def wall_clock() -> float:
        there_s = time.time() + 3_600.0
        await asyncio.sleep(delays_s.pop())
        return there_s

    async def nothing(*_: object) -> object:
        return INFO

    actor = SimpleNamespace(
        ready=SimpleNamespace(remote=nothing),
        wall_clock=SimpleNamespace(remote=wall_clock),
        correct_clock=SimpleNamespace(remote=nothing),
    )
    created: Future[Any] = Future()
    created.set_result(actor)
    info = await RayWorker("w-0001", created, WorkerThreads()).ready()
    assert info.clock_s == pytest.approx(3_600.0, abs=0.05)


async def test_the_end_of_a_worker_is_waited_for_also_across_a_time_in_which_ray_cannot_reach_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "ASK_AGAIN_S", 0.0)
    asked: list[RayError | None] = [ActorUnavailableError("a moment", None), ActorDiedError()]

    async def ended() -> None:
        if (error := asked.pop(0)) is not None:
            raise error

    created: Future[Any] = Future()
    created.set_result(SimpleNamespace(ended=SimpleNamespace(remote=ended)))
    worker = RayWorker("w-0001", created, WorkerThreads())
    with pytest.raises(WorkerLostError, match="worker_crashed"):
        await worker.ended()
    asked.append(None)
    await worker.ended()
    assert asked == []
