"""What each of Ray's errors says of a worker's end: whom it makes suspect, and where the node is asked for first."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from rabbitray.actors.message.parcel import pack_parcels
from rabbitray.actors.message.reply import Part, Usage, WorkerInfo, encode_part
from rabbitray.actors.remote.compat.texts import GB
from rabbitray.actors.router.dispatch.member import WorkerLostError
from rabbitray.actors.router.dispatch.workers import RayWorker, WorkerThreads
from tests.kit.ray_errors import named, ray_errors

MAKES_SUSPECTS = {ActorDiedError, OutOfMemoryError, RayActorError, WorkerCrashedError}


def worker(first: bytes | Exception, then: Exception | None = None, cause: Exception | None = None) -> RayWorker:
    """A worker whose `run` ends so, and whose `more` ends with `then`; `cause`: what Ray then says of it."""

    def ended(result: object) -> list[Any]:
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
        return [future, None]

    async def ready() -> WorkerInfo:
        if cause is not None:
            raise cause
        usage = Usage(cpu_percent=None, rss_bytes=GB // 10)
        return WorkerInfo(slots=1, pid=4711, node="node", usage=usage)

    async def wall_clock() -> float:
        return time.time()

    actor = SimpleNamespace(
        run=SimpleNamespace(remote=lambda *_: ended(first)),
        more=SimpleNamespace(remote=lambda *_: ended(then)),
        ready=SimpleNamespace(remote=ready),
        wall_clock=SimpleNamespace(remote=wall_clock),
        correct_clock=SimpleNamespace(remote=lambda _: wall_clock()),
    )
    created: Future[Any] = Future()
    created.set_result(actor)
    return RayWorker("w-0001", created, WorkerThreads())


async def loss_of(error: RayError) -> WorkerLostError:
    with pytest.raises(WorkerLostError) as caught:
        await worker(error).run("b", pack_parcels([]))
    return caught.value


@pytest.mark.parametrize("error", ray_errors(), ids=named)
async def test_only_the_end_of_a_process_makes_suspects(error: RayError) -> None:
    assert (await loss_of(error)).may_be_poison == (type(error) in MAKES_SUSPECTS)


@pytest.mark.parametrize("error", [RayActorError(), ActorDiedError(), WorkerCrashedError()], ids=named)
async def test_a_crash_may_be_the_end_of_its_node(error: RayError) -> None:
    assert (await loss_of(error)).node_in_doubt


async def test_a_preempted_node_is_in_no_doubt() -> None:
    loss = await loss_of(RayActorError(preempted=True))
    assert (loss.reason, loss.may_be_poison) == ("node_lost", False)


async def test_a_worker_that_cannot_be_reached_is_judged_by_what_it_died_of() -> None:
    dead = worker(ActorUnavailableError("as the test says", None), cause=ActorDiedError())
    with pytest.raises(WorkerLostError) as caught:
        await dead.run("b", pack_parcels([]))
    assert (caught.value.reason, caught.value.may_be_poison) == ("worker_crashed", True)
    assert (await loss_of(ActorUnavailableError("as the test says", None))).reason == "unavailable", "it lives"


async def test_an_error_of_our_own_code_makes_suspects_wherever_it_ran() -> None:
    loss = await loss_of(RayTaskError("run()", "Traceback ...", ValueError("bug")))
    assert (loss.reason, loss.may_be_poison, loss.node_in_doubt) == ("worker_error", True, False)


async def test_what_a_worker_held_when_it_told_last_is_known_at_its_death() -> None:
    told = encode_part(Part(open=1, executing=[0], usage=Usage(cpu_percent=5.0, rss_bytes=3 * GB)))
    dying = worker(told, OutOfMemoryError("Memory on the node (IP: 1, ID: 2) was 7.90GB used / 8.00GB limit (0.98)"))
    await dying.ready()
    await dying.run("b", pack_parcels([]))
    with pytest.raises(WorkerLostError, match=r"needs more than 3\.00 GB.*its node used 7\.90 of 8\.00 GB") as caught:
        await dying.more("b")
    assert (caught.value.reason, caught.value.merely_chosen) == ("out_of_memory", False)
