"""Trying again after a loss: whatever an attempt raises, only a real cancellation ends it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from aiormq.abc import TaskWrapper

from rabbitray.actors.backoff import Backoff
from rabbitray.actors.errors import BrokerUnreachableError, TopologyError
from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.rabbitmq.depth import DepthProbe
from rabbitray.actors.rabbitmq.errors import is_loss
from rabbitray.actors.rabbitmq.reconnect import persist, within
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.connection import frame_warnings
from rabbitray.actors.router.intake.consumer import Intake
from rabbitray.actors.router.settlement.dropped import Collector
from rabbitray.actors.secret import Secret
from tests.kit.deliveries import delivery
from tests.kit.eventually import eventually

Step = Callable[[], Any]


async def gives_up() -> None:
    """What an RPC does whose connection aiormq gives up: CancelledError, and nobody cancelled us."""
    stuck = TaskWrapper(asyncio.get_running_loop().create_task(asyncio.sleep(60)))
    asyncio.get_running_loop().call_soon(stuck.throw, asyncio.CancelledError())
    await stuck


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


async def test_the_first_connection_is_tried_for_a_while_only() -> None:
    assert await within(5, Attempts(OSError("no"), gives_up), where="here") is None
    with pytest.raises(BrokerUnreachableError, match="here cannot be reached"):
        await within(0.01, Attempts(*(OSError("no") for _ in range(1_000))), where="here")
    refused = Attempts(ConnectionError("ACCESS_REFUSED"), OSError("never tried"))
    with pytest.raises(BrokerUnreachableError, match="login refused"):
        await within(5, refused, where="here")
    assert refused.made == 1


def _config() -> IntakeConfig:
    return IntakeConfig(url=Secret("amqp://127.0.0.1:1/"), topology=Topology(queue="jobs"), limits=MessageLimits())


class _GivenUp:
    """A channel on a connection that aiormq gives up."""

    async def basic_qos(self, **_: Any) -> None:
        await gives_up()


async def test_a_hand_over_on_a_connection_that_is_given_up_is_the_watchers_to_mend() -> None:
    intake = Intake(_config(), on_delivery=lambda _: None, on_lost=lambda _: None)
    channel: Any = _GivenUp()
    await intake._guarded(intake._hand_over(channel, 5))
    assert intake._lost.is_set()


async def test_the_watcher_outlives_whoever_is_told_of_a_loss() -> None:
    def on_lost(_: int) -> None:
        raise KeyError("a mistake of ours")

    intake = Intake(_config(), on_delivery=lambda _: None, on_lost=on_lost)
    tried = Attempts()

    async def reconnect() -> None:
        intake._lost.clear()
        await tried()

    intake._reconnect = reconnect  # type: ignore[method-assign] # no broker here
    watcher = asyncio.create_task(intake._watch())
    intake._lost.set()
    await eventually(lambda: tried.made > 0)
    assert not watcher.done()
    watcher.cancel()
    await asyncio.gather(watcher, return_exceptions=True)
    await intake.close()


async def test_a_probe_whose_connection_is_given_up_answers_unknown() -> None:
    probe = DepthProbe("amqp://127.0.0.1:1/", "jobs")
    probe._ask = gives_up  # type: ignore[assignment, method-assign] # no broker here
    assert await probe.ready() is None
    assert probe.retry_in_s > 0


class _Failing:
    """A settler that fails once, in a way that nobody foresaw."""

    def __init__(self) -> None:
        self.parked: list[Delivery] = []

    async def park(self, delivery: Delivery, failure: object) -> None:
        self.parked.append(delivery)
        if len(self.parked) == 1:
            raise KeyError("unforeseen")


async def test_what_could_not_be_collected_is_given_back_and_said(caplog: pytest.LogCaptureFixture) -> None:
    settler = _Failing()
    as_settler: Any = settler
    collector = Collector(_config(), lambda _: as_settler, again_s=0.01)
    returned: list[Delivery] = []
    collector._intake.give_back = returned.extend  # type: ignore[method-assign] # no broker here
    collector._take(delivery(1))
    collector._take(delivery(2))
    await eventually(lambda: len(returned) == 1)
    assert [one.tag for one in settler.parked] == [1, 2]
    assert "was not collected" in caplog.text
    await collector.close()


class _Agreed:
    """A connection whose broker agreed on frames of so many bytes."""

    def __init__(self, frame_max: int) -> None:
        self.transport = self
        self.connection = self
        self.connection_tune = self
        self.frame_max = frame_max


@pytest.mark.parametrize(("agreed", "wanted", "lines"), [(131072, 131072, 0), (4096, 0, 0), (65536, 131072, 1)])
def test_frames_of_another_size_than_set_are_said(agreed: int, wanted: int, lines: int) -> None:
    connection: Any = _Agreed(agreed)
    found = frame_warnings(connection, wanted)
    assert len(found) == lines
    assert all(str(agreed) in line and str(wanted) in line for line in found)
