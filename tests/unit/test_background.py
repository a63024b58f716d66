"""Tasks that nobody awaits: their failures are logged once, and their owner ends them."""

from __future__ import annotations

import asyncio
import logging

import pytest

from rabbitray.actors.background import BackgroundTasks
from tests.kit.eventually import eventually

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
