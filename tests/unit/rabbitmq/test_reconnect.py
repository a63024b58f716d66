"""Trying again after a loss: whatever an attempt raises, only a real cancellation ends it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from rabbitray.actors.backoff import Backoff
from rabbitray.actors.errors import BrokerUnreachableError, TopologyError
from rabbitray.actors.rabbitmq.depth import DepthProbe
from rabbitray.actors.rabbitmq.errors import is_loss
from rabbitray.actors.rabbitmq.failover import Addresses
from rabbitray.actors.rabbitmq.reconnect import persist, within
from rabbitray.actors.secret import Secret
from tests.kit.eventually import eventually
from tests.kit.given_up import gives_up

Step = Callable[[], Any]


class Attempts:
    """Raises each of `errors` (or does it, where it is a step), then succeeds."""

    def __init__(self, *errors: BaseException | Step) -> None:
        self._errors = list(errors)
        self.made = 0

    async def __call__(self) -> None:
        self.made += 1
        if self._errors:
            error = self._errors.pop(0)
            if isinstance(error, BaseException):
                raise error
            await error()


async def test_a_connection_that_was_given_up_is_a_loss_and_a_cancellation_is_none() -> None:
    with pytest.raises(asyncio.CancelledError) as thrown:
        await gives_up()
    assert is_loss(thrown.value)

    async def cancelled() -> bool:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            return is_loss(error)
        return True

    task = asyncio.create_task(cancelled())
    await asyncio.sleep(0)
    task.cancel()
    assert await task is False


async def test_it_goes_on_whatever_an_attempt_raises_and_says_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    told: list[BaseException] = []
    step = Attempts(gives_up, ConnectionResetError("gone"), TopologyError("no right"), KeyError("unforeseen"))
    soon = Backoff(first_s=0.001, most_s=10.0)
    assert await asyncio.wait_for(persist(step, asyncio.Event(), failed=told.append, backoff=soon), 10)
    assert step.made == 5
    assert [type(error) for error in told] == [
        asyncio.CancelledError, ConnectionResetError, TopologyError, KeyError,
    ]  # fmt: skip
    lines = [record for record in caplog.records if record.name == "rabbitray.actors.rabbitmq.reconnect"]
    assert [bool(record.exc_info) for record in lines] == [False, False, False, True]
    assert "no sign of life" in lines[0].getMessage()


async def test_a_real_cancellation_ends_it() -> None:
    task = asyncio.create_task(persist(lambda: asyncio.sleep(60), asyncio.Event()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)


async def test_it_ends_when_told_to() -> None:
    stopping = asyncio.Event()
    step = Attempts(*(OSError("no") for _ in range(10_000)))
    task = asyncio.create_task(persist(step, stopping, backoff=Backoff(first_s=0.0001, most_s=10.0)))
    await eventually(lambda: step.made > 2)
    stopping.set()
    assert await asyncio.wait_for(task, 10) is False


HERE = Addresses(Secret("amqp://here/"))


async def test_the_first_connection_is_tried_for_a_while_only() -> None:
    assert await within(5, Attempts(OSError("no"), gives_up), HERE) is None
    with pytest.raises(BrokerUnreachableError, match="here/ cannot be reached"):
        await within(0.01, Attempts(*(OSError("no") for _ in range(1_000))), HERE)
    refused = Attempts(ConnectionError("ACCESS_REFUSED"), OSError("never tried"))
    with pytest.raises(BrokerUnreachableError, match="login refused"):
        await within(5, refused, HERE)
    assert refused.made == 1


async def test_a_probe_whose_connection_is_given_up_answers_unknown() -> None:
    probe = DepthProbe("amqp://127.0.0.1:1/", "jobs", connect=gives_up)
    assert await probe.ready() is None
    assert probe.retry_in_s > 0


class Connecting:
    """A broker that lets a connection wait until the test says `go`."""

    def __init__(self) -> None:
        self.asked = self.closed = 0
        self.is_closed = False
        self.go = asyncio.Event()

    async def connect(self) -> Any:
        self.asked += 1
        await self.go.wait()
        return self

    async def close(self) -> None:
        self.closed += 1


async def test_a_probe_that_is_closed_while_it_connects_leaves_no_connection_and_opens_none_later() -> None:
    broker = Connecting()
    probe = DepthProbe("amqp://127.0.0.1:1/", "jobs", connect=broker.connect)
    look = asyncio.create_task(probe.ready())
    await eventually(lambda: broker.asked == 1)
    await probe.close()
    broker.go.set()
    assert await look is None
    assert await probe.ready() is None
    assert (broker.asked, broker.closed) == (1, 1)
