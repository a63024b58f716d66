"""What a handler may be although nobody says so: plain functions that return awaitables are awaited."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from rabbitray import Job, batch
from rabbitray.actors.worker.handler.loading import prepare
from rabbitray.testing import work
from tests.kit.worker_batches import buffer, whole
from tests.unit.worker.test_worker import handler, worker_of


async def twice(job: Job) -> Any:
    await asyncio.sleep(0)
    return {"twice": 2 * job.payload}


async def with_factor(factor: int, job: Job) -> Any:
    await asyncio.sleep(0)
    return {"twice": factor * job.payload}


def plainly_decorated(call: Callable[[Job], Awaitable[Any]]) -> Callable[[Job], Any]:
    def inner(job: Job) -> Any:
        return call(job)

    return inner


class Service:
    async def __call__(self, job: Job) -> Any:
        return await twice(job)

    def plain(self, job: Job) -> Any:
        return twice(job)


class OwnAwaitable:
    def __init__(self, job: Job) -> None:
        self._job = job

    def __await__(self) -> Iterator[Any]:
        return twice(self._job).__await__()


@batch
async def many_later(jobs: list[Job]) -> Any:
    return [await twice(job) for job in jobs]


async def forgets_to_await(job: Job) -> Any:
    return twice(job)


HANDLERS: dict[str, Any] = {
    "a decorator": plainly_decorated(twice),
    "functools.wraps": functools.wraps(twice)(plainly_decorated(twice)),
    "a lambda": lambda job: twice(job),
    "a partial": functools.partial(with_factor, 2),
    "a partial of an object": functools.partial(Service()),
    "an object": Service(),
    "a method": Service().plain,
    "an awaitable of its own": OwnAwaitable,
    "an await that was forgotten": forgets_to_await,
    "a batch lambda": batch(lambda jobs: many_later(jobs)),
    "a partial of a batch handler": functools.partial(many_later),
}


@pytest.mark.parametrize("kind", HANDLERS)
def test_what_returns_an_awaitable_is_awaited(kind: str) -> None:
    call = HANDLERS[kind] if kind != "an awaitable of its own" else lambda job: OwnAwaitable(job)
    outcomes = work(call, [Job(payload=n) for n in range(5)])
    assert [(outcome.status, outcome.result) for outcome in outcomes] == [("DONE", {"twice": 2 * n}) for n in range(5)]


@pytest.mark.parametrize(
    ("kind", "style"),
    [
        ("a partial", "async"),
        ("a partial of an object", "async"),
        ("an object", "async"),
        ("a partial of a batch handler", "async_batch"),
        ("a lambda", "sync"),
    ],
)
def test_the_style_is_found_where_it_can_be_seen(kind: str, style: str) -> None:
    assert prepare(HANDLERS[kind], kind).style == style


async def test_they_run_beside_each_other_in_the_slots() -> None:
    now, most = 0, 0

    async def waits(job: Job) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1

    async with worker_of(handler(lambda job: waits(job)), slots=5) as worker:
        found = await asyncio.gather(*(whole(worker, buffer(*range(20)), name) for name in "ab"))
    assert [len(rows) for _, rows in found] == [20, 20]
    assert 1 < most <= 6, "the first one is found out beside the five slots"


async def test_a_handler_may_return_some_results_and_some_awaitables() -> None:
    """The plain ones may block: they stay in the thread."""
    threads = set()

    def either(job: Job) -> Any:
        threads.add(threading.current_thread().name)
        if job.payload % 2:
            return twice(job)
        time.sleep(0.001)
        return {"twice": 2 * job.payload}

    async with worker_of(handler(either)) as worker:
        (part,), rows = await whole(worker, buffer(*range(10)))
    assert {row["key"]: row["result"] for row in rows} == {f"j{n}": f'{{"twice":{2 * n}}}' for n in range(10)}
    assert part.failures == []
    assert threads == {"handler"}


async def test_they_are_cancelled_after_their_time() -> None:
    async def hangs(job: Job) -> None:
        if job.payload == 1:
            await asyncio.Event().wait()

    async with worker_of(handler(lambda job: hangs(job)), handler_timeout_s=0.05) as worker:
        (part,), rows = await whole(worker, buffer(*range(4)))
    assert len(rows) == 3
    assert [(failure.position, failure.reason) for failure in part.failures] == [(1, "handler_timeout")]


def yields(job: Job) -> Iterator[Any]:
    yield job.payload


async def yields_later(job: Job) -> AsyncIterator[Any]:
    yield job.payload


@batch
def many_yield(jobs: list[Job]) -> Any:
    return (job.payload for job in jobs)


@batch
def many_coroutines(jobs: list[Job]) -> Any:
    return [twice(job) for job in jobs]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda job: yields(job), "returned a generator, which has not run: return a result instead of yielding"),
        (lambda job: yields_later(job), "returned a async_generator, which has not run"),
        (many_yield, "returned a generator, which has not run"),
        (many_coroutines, "returned a coroutine for a job: await it first"),
    ],
    ids=["generator", "async generator", "batch generator", "batch of coroutines"],
)
def test_a_generator_that_is_met_at_the_call_is_no_dead_letter(call: Any, says: str) -> None:
    """Nothing of it has run: the pool holds until the handler is mended, as while a service is down."""
    outcomes = work(call, [Job(payload=1), Job(payload=2)])
    assert [(outcome.status, outcome.category, outcome.reason) for outcome in outcomes] == [
        ("RETRY", "transient", "exception")
    ] * 2
    assert says in str(outcomes[0].error)
