"""A result is what was returned, and an error what was raised: whatever the handler does to them afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from rabbitray import Job
from rabbitray.actors.message.wire import pack
from rabbitray.actors.worker.handler.shape import Style
from rabbitray.testing import work
from tests.kit.deliveries import parcel
from tests.kit.worker_batches import Rows, buffer, parcels, whole
from tests.unit.worker.test_worker import handler, worker_of

STYLES: list[Style] = ["sync", "async", "batch", "async_batch"]
VARIABLE: ContextVar[list[Any]] = ContextVar("of_a_job")


def styled(call: Callable[[Job], Any], style: Style) -> Callable[..., Any]:
    """The same handler in each style."""

    async def one(job: Job) -> Any:
        await asyncio.sleep(0)
        return call(job)

    async def many_later(jobs: list[Job]) -> Any:
        return many(jobs)

    def many(jobs: list[Job]) -> Any:
        answers = []
        for job in jobs:
            try:
                answers.append(call(job))
            except Exception as error:  # noqa: BLE001 # the outcome of its job
                answers.append(error)
        return answers

    return {"sync": call, "async": one, "batch": many, "async_batch": many_later}[style]


async def run(call: Callable[[Job], Any], style: Style, body: bytes | None = None) -> tuple[Any, Rows]:
    async with worker_of(handler(styled(call, style), style)) as worker:
        (part,), rows = await whole(worker, buffer(*range(4)) if body is None else body)
    return part, rows


@pytest.mark.parametrize("style", STYLES[:2])
async def test_an_object_that_goes_on_changing_is_kept_as_it_was_returned(style: Style) -> None:
    count: dict[str, Any] = {"n": 0, "seen": []}

    def counts(job: Job) -> Any:
        count["n"] += 1
        count["seen"].append(job.payload)
        return count

    _, rows = await run(counts, style)
    assert [json.loads(row["result"])["n"] for row in rows] == [1, 2, 3, 4]
    assert [len(json.loads(row["result"])["seen"]) for row in rows] == [1, 2, 3, 4]


@pytest.mark.parametrize("style", STYLES[:2])
async def test_so_is_each_record_of_a_packed_message(style: Style) -> None:
    seen: list[Any] = []

    def grows(job: Job) -> Any:
        seen.append(job.payload)
        return seen

    body, content_type = pack([Job(id=f"r{n}", payload=n) for n in range(3)])
    _, rows = await run(grows, style, parcels(parcel(body, content_type=content_type)))
    assert [json.loads(row["result"]) for row in rows] == [[0], [0, 1], [0, 1, 2]]


@pytest.mark.parametrize("style", STYLES[2:])
async def test_so_is_the_list_of_a_batch_handler_that_uses_it_again(style: Style) -> None:
    """Two batches, one after another in one worker: the second call empties what the first one returned."""
    answers: list[Any] = []

    def many(jobs: list[Job]) -> Any:
        answers.clear()
        answers.extend({"n": job.payload} for job in jobs)
        return answers

    async def many_later(jobs: list[Job]) -> Any:
        return many(jobs)

    async with worker_of(handler(many if style == "batch" else many_later, style)) as worker:
        found = await asyncio.gather(*(whole(worker, buffer(*range(n, n + 3)), f"b{n}") for n in range(5)))
    results = [[json.loads(row["result"])["n"] for row in rows] for _, rows in found]
    assert results == [[n, n + 1, n + 2] for n in range(5)]


@pytest.mark.parametrize("style", STYLES[:2])
async def test_an_error_says_what_it_said_when_it_was_raised(style: Style) -> None:
    last = ConnectionError("never")

    def fails(job: Job) -> Any:
        last.args = (f"down for {job.payload}",)
        raise last

    part, _ = await run(fails, style)
    assert [failure.error for failure in part.failures] == [f"down for {n}" for n in range(4)]


def test_the_test_kit_shows_it_too() -> None:
    count = {"n": 0}

    def counts(job: Job) -> Any:
        count["n"] += 1
        return count

    assert [outcome.result["n"] for outcome in work(counts, [Job(payload=n) for n in range(3)])] == [1, 2, 3]


@pytest.mark.parametrize("style", STYLES)
async def test_what_one_job_sets_in_its_context_is_not_seen_by_the_next(style: Style) -> None:
    """A batch handler is one call for all its jobs: there it is the next batch that sees nothing."""

    def sets(job: Job) -> Any:
        before = VARIABLE.get([])
        VARIABLE.set([*before, job.payload])
        return before

    call = styled(sets, style)
    async with worker_of(handler(call, style), slots=1) as worker:
        seen = []
        for n in range(3):
            _, rows = await whole(worker, buffer(n, n + 10), f"b{n}")
            seen += [json.loads(row["result"]) for row in rows]
    alone = style in ("sync", "async")
    assert seen == [[] if alone or not n % 2 else [n // 2] for n in range(6)]


@pytest.mark.parametrize("style", STYLES)
async def test_a_job_sees_the_context_of_its_batch(style: Style) -> None:
    VARIABLE.set(["of the batch"])
    _, rows = await run(lambda job: VARIABLE.get([]), style)
    assert {row["result"] for row in rows} == {'["of the batch"]'}


async def test_a_task_of_a_job_sees_what_the_job_has_set() -> None:
    async def inner() -> Any:
        return VARIABLE.get([])

    async def sets(job: Job) -> Any:
        VARIABLE.set([job.payload])
        await asyncio.sleep(0)
        return await asyncio.create_task(inner())

    async with worker_of(handler(sets, "async"), slots=2) as worker:
        _, rows = await whole(worker, buffer(*range(6)))
    assert sorted(row["result"] for row in rows) == [f"[{n}]" for n in range(6)]
