"""A job that ends more than itself: its task, a child task, a thread; each is an outcome at once, and of that job."""

from __future__ import annotations

import asyncio
import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

from rabbitray import Job
from rabbitray.actors.worker.handler.shape import Style
from tests.kit.worker_batches import buffer, whole
from tests.unit.worker.test_worker import handler, worker_of


def cancel_own() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def exits() -> None:
    await asyncio.sleep(0)
    sys.exit(3)


async def interrupts() -> None:
    raise KeyboardInterrupt


async def and_waits(job: Job) -> None:
    cancel_own()
    await asyncio.sleep(60)


async def and_returns(job: Job) -> str:
    cancel_own()
    return "fine"


async def in_a_group(job: Job) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(exits())
        group.create_task(asyncio.sleep(60))


async def in_a_task(job: Job) -> None:
    await asyncio.create_task(exits())


async def in_gather(job: Job) -> None:
    await asyncio.gather(interrupts(), asyncio.sleep(0.01))


async def in_a_thread(job: Job) -> None:
    await asyncio.to_thread(sys.exit, 3)


def in_a_pool(job: Job) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(sys.exit, 3).result()


@pytest.mark.parametrize(
    ("call", "error_class"),
    [
        (and_waits, "asyncio.exceptions.CancelledError"),
        (in_a_group, "ExceptionGroup"),
        (in_a_task, "rabbitray.actors.worker.exit_guard.ChildExitError"),
        (in_gather, "rabbitray.actors.worker.exit_guard.ChildExitError"),
        (in_a_thread, "SystemExit"),
        (in_a_pool, "SystemExit"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_its_outcome_is_there_at_once_and_its_neighbours_are_done(call: Any, error_class: str) -> None:
    async def some_end(job: Job) -> Any:
        await asyncio.sleep(0)
        return await call(job) if job.payload == 1 else job.payload

    def some_end_plainly(job: Job) -> Any:
        return call(job) if job.payload == 1 else job.payload

    made = handler(some_end, "async") if asyncio.iscoroutinefunction(call) else handler(some_end_plainly)
    async with worker_of(made, slots=1) as worker, asyncio.timeout(10):
        (part,), rows = await whole(worker, buffer(*range(4)))
    assert [row["key"] for row in rows] == ["j0", "j2", "j3"]
    assert [(failure.key, failure.verdict, failure.error_class) for failure in part.failures] == [
        ("j1", "retry", error_class)
    ]
    if "Child" in error_class or error_class == "ExceptionGroup":
        assert "a task that the handler started ended by" in part.failures[0].error


def forks(job: Job) -> int | None:
    """As a library does that starts processes; the child prints a line, which its end must flush."""
    child = get_context("fork").Process(target=print, args=("from the child",))
    child.start()
    child.join()
    return child.exitcode


async def test_a_process_that_multiprocessing_forks_in_a_sync_handler_ends_well() -> None:
    async with worker_of(handler(forks)) as worker, asyncio.timeout(10):
        _, rows = await whole(worker, buffer(1, 2))
    assert [row["result"] for row in rows] == ["0", "0"]


@pytest.mark.parametrize("style", ["async", "async_batch"])
async def test_a_cancel_that_was_not_met_does_not_hit_the_next_job(style: Style) -> None:
    async def many(jobs: list[Job]) -> list[Any]:
        cancel_own()
        return [await_nothing(job) for job in jobs]

    def await_nothing(job: Job) -> Any:
        return job.payload

    async def one(job: Job) -> Any:
        await asyncio.sleep(0)
        return await and_returns(job) if job.payload == 0 else job.payload

    async with worker_of(handler(one if style == "async" else many, style), slots=1) as worker, asyncio.timeout(10):
        for name in "ab":
            (part,), rows = await whole(worker, buffer(*range(3)), name)
            assert (part.failures, len(rows)) == ([], 3)


async def test_a_batch_call_that_cancels_its_own_task_is_run_singly() -> None:
    async def many(jobs: list[Job]) -> list[Any]:
        if any(job.payload == 1 for job in jobs):
            cancel_own()
        await asyncio.sleep(0)
        return [job.payload for job in jobs]

    async with worker_of(handler(many, "async_batch")) as worker, asyncio.timeout(10):
        (part,), rows = await whole(worker, buffer(*range(3)))
    assert [row["key"] for row in rows] == ["j0", "j2"]
    assert [failure.key for failure in part.failures] == ["j1"]


async def test_a_child_that_nobody_awaits_ends_alone() -> None:
    left = []

    async def leaves(job: Job) -> Any:
        left.append(asyncio.create_task(exits()))
        return job.payload

    async with worker_of(handler(leaves, "async")) as worker, asyncio.timeout(10):
        _, rows = await whole(worker, buffer(*range(3)))
        ended = await asyncio.gather(*left, return_exceptions=True)
    assert len(rows) == 3
    assert [str(error) for error in ended] == ["a task that the handler started ended by SystemExit(3)"] * 3


async def test_a_task_of_a_handler_is_otherwise_what_it_was() -> None:
    async def child() -> str:
        await asyncio.sleep(0)
        return "value"

    async def starts(job: Job) -> Any:
        task = asyncio.create_task(child(), name="its name")
        cancelled = asyncio.create_task(child())
        cancelled.cancel()  # before it has begun
        await asyncio.wait([cancelled])
        names = [task.get_name(), getattr(task.get_coro(), "__name__", "")]
        return [*names, await task, cancelled.cancelled()]

    before = asyncio.get_running_loop().get_task_factory()
    async with worker_of(handler(starts, "async")) as worker:
        _, rows = await whole(worker, buffer(1))
    assert rows[0]["result"] == '["its name","child","value",true]'
    assert asyncio.get_running_loop().get_task_factory() == before
    gc.collect()  # "never awaited" would be a warning, and so an error
