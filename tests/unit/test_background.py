"""Tasks that nobody awaits: their failures are logged once, and their owner ends them."""

from __future__ import annotations

import asyncio
import logging

import pytest

from rabbitray.actors.background import BackgroundTasks
from tests.kit.eventually import eventually
from tests.kit.virtual_time import in_virtual_time

log = logging.getLogger(__name__)
FAILED = "A step of this test failed"


def failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The errors that were logged as failures of a task."""
    return [str(record.exc_info[1]) for record in caplog.records if record.msg == FAILED and record.exc_info]


async def raises(text: str) -> None:
    raise RuntimeError(text)


async def never() -> None:
    await asyncio.Event().wait()


async def test_a_failure_that_nobody_awaits_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    tasks = BackgroundTasks(log, FAILED)
    tasks.spawn(raises("disk full"))
    await eventually(lambda: not tasks.running)
    await tasks.close()
    assert failures(caplog) == ["disk full"]


async def test_close_cancels_waits_and_logs_what_fails_on_the_way(caplog: pytest.LogCaptureFixture) -> None:
    began, ended = asyncio.Event(), []

    async def waits() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("waits")

    async def fails_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RuntimeError("not tidy") from None

    tasks = BackgroundTasks(log, FAILED)
    tasks.spawn(waits())
    tasks.spawn(fails_when_cancelled())
    await began.wait()
    await tasks.close()
    await tasks.close()
    assert ended == ["waits"]
    assert tasks.running == []
    assert failures(caplog) == ["not tidy"]


@in_virtual_time
async def test_kept_work_whose_clean_up_fails_ends_when_it_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    began = []

    async def work() -> None:
        began.append("again")
        try:
            await asyncio.sleep(300)
        finally:
            raise RuntimeError("not tidy")

    tasks = BackgroundTasks(log, FAILED)
    kept = tasks.keep(work)
    await asyncio.sleep(1)
    tasks.cancel()
    await asyncio.wait({kept}, timeout=60)
    assert (kept.done(), began) == (True, ["again"])
    assert failures(caplog) == ["not tidy"]


@in_virtual_time
async def test_kept_work_goes_on_when_a_future_that_it_awaits_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    futures: list[asyncio.Future[None]] = []

    async def work() -> None:
        futures.append(asyncio.get_running_loop().create_future())
        await futures[-1]

    tasks = BackgroundTasks(log, FAILED)
    tasks.keep(work)
    for times in (1, 2):
        await eventually(lambda times=times: len(futures) == times, within_s=60)
        futures[-1].cancel()
    await eventually(lambda: len(futures) == 3, within_s=60)
    await tasks.close()
    assert caplog.text.count("it begins again") == 2


async def test_a_step_that_ends_with_a_future_that_was_cancelled_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def step() -> None:
        await future

    tasks = BackgroundTasks(log, FAILED)
    tasks.spawn(step())
    await asyncio.sleep(0)
    future.cancel()
    await eventually(lambda: not tasks.running)
    assert failures(caplog) == ["a future that it awaited was cancelled"]


async def test_a_task_that_closes_its_owner_does_not_wait_for_itself(caplog: pytest.LogCaptureFixture) -> None:
    tasks = BackgroundTasks(log, FAILED)
    closed = asyncio.Event()

    async def closes() -> None:
        await tasks.close()
        closed.set()

    tasks.spawn(closes(), name="closes")
    other = tasks.spawn(never())
    await closed.wait()
    assert other.cancelled()
    assert failures(caplog) == []


async def test_what_ends_well_leaves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    tasks = BackgroundTasks(log, FAILED)
    task = tasks.spawn(asyncio.sleep(0))
    await task
    await eventually(lambda: not tasks.running)
    assert caplog.records == []


async def test_a_task_that_has_just_ended_does_not_run() -> None:
    """The loop calls back one turn later."""
    tasks = BackgroundTasks(log, FAILED)
    task = tasks.spawn(asyncio.sleep(0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (task.done(), tasks.running) == (True, [])
