"""How the next connection begins after losses: later each time, and with a window of one message."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from aiormq.exceptions import ConnectionInternalError
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.intake.consumer import Intake
from rabbitray.actors.router.intake.steadiness import Steadiness
from tests.kit.eventually import eventually
from tests.kit.fake_opener import FakeAmqpChannel, FakeOpener, deliver, intake_config
from tests.kit.virtual_time import in_virtual_time

NEW = Steadiness(steady_s=5.0)
ENDS = st.lists(st.floats(0.0, 400.0), max_size=30)


def after(*lived_s: float, steadiness: Steadiness = NEW) -> Steadiness:
    """After generations that lived so long and had the window that they were due."""
    for one in lived_s:
        steadiness = steadiness.ended(one, narrow=steadiness.narrow)
    return steadiness


def test_after_one_that_lived_the_next_is_opened_at_once_and_is_as_wide() -> None:
    assert (NEW.pause_s(0.5), NEW.narrow) == (0.0, False)
    assert after(5.0) == NEW


def test_the_pause_doubles_until_one_has_lived() -> None:
    assert [after(*[1.0] * n).pause_s(0.5) for n in range(1, 9)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert after(1.0, 1.0, 1.0, 6.0).pause_s(0.5) == 0.0


def test_one_early_end_is_nothing_and_the_second_in_a_row_narrows_the_window() -> None:
    assert [after(*[1.0] * n).narrow for n in range(4)] == [False, False, True, True]
    assert not after(1.0, 6.0, 1.0).narrow


def test_a_narrow_one_is_widened_when_it_has_lived_and_settled_something() -> None:
    narrow = after(1.0, 1.0)
    assert not narrow.may_widen(5.0, settled=False)
    assert not narrow.may_widen(4.0, settled=True)
    assert narrow.may_widen(5.0, settled=True)


def test_each_wide_window_that_does_not_last_makes_the_next_trial_longer() -> None:
    narrow = after(1.0, 1.0)
    trials = []
    for _ in range(8):
        trials.append(narrow.trial_s)
        narrow = narrow.ended(1.0, narrow=False)
    assert trials == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]
    assert narrow.ended(299.0, narrow=False).narrow
    assert not narrow.ended(300.0, narrow=False).narrow


@given(ENDS)
def test_a_narrow_end_never_counts_against_the_wanted_window(lived_s: list[float]) -> None:
    steadiness = after(*lived_s)
    assert steadiness.ended(0.0, narrow=True).falls == steadiness.falls


# the intake


class Broker:
    """Messages in order, of which the one named `poison` ends each connection that it is delivered on."""

    def __init__(self, count: int, poison: int) -> None:
        self.waiting = list(range(1, count + 1))
        self.deliveries = dict.fromkeys(self.waiting, 0)
        self.opener = Opener(self)
        self.intake = Intake(intake_config(), on_delivery=self._take, on_lost=self._lost, opener=self.opener)
        self._poison = poison
        self._held: dict[int, int] = {}  # message by tag

    def deliver(self) -> None:
        """What the window has room for, in order."""
        generation = self.opener.opened[-1]
        channel: Any = generation.channel
        for message in self.waiting[: channel.windows[-1]]:
            if message not in self._held.values():
                self.deliveries[message] += 1
                tag = len(self._held) + 1
                self._held[tag] = message
                deliver(generation, tag)
                if message == self._poison:
                    generation.lost.set()

    def _take(self, delivery: Delivery) -> None:
        asyncio.get_running_loop().call_later(1.0, self._work, delivery)

    def _work(self, delivery: Delivery) -> None:
        """A second later it is done, if it is still ours."""
        if self.intake.still_ours([delivery]):
            self.intake.finish([delivery])
            self.waiting.remove(self._held[delivery.tag])
            self.deliver()

    def _lost(self, _: int) -> None:
        self._held = {}


class Opener(FakeOpener):
    """Opens generations over channels of the Broker."""

    def __init__(self, broker: Broker) -> None:
        super().__init__()
        self._broker = broker

    def channel(self) -> FakeAmqpChannel:
        async def consumed() -> None:
            self._broker.deliver()

        return FakeAmqpChannel(on_consume=consumed)


@in_virtual_time
async def test_connections_that_end_at_once_are_not_opened_again_at_full_speed() -> None:
    broker = Broker(count=1, poison=1)
    await broker.intake.open()
    await broker.intake.consume(50)
    await asyncio.sleep(60.0)
    assert 8 <= len(broker.opener.opened) <= 20
    before = broker.intake.generation
    await asyncio.sleep(600.0)
    assert 40 <= broker.intake.generation - before <= 130, "once in 5 to 15 s"
    await broker.intake.close()


@in_virtual_time
async def test_a_message_that_ends_each_connection_uses_up_no_neighbour() -> None:
    broker = Broker(count=200, poison=100)
    await broker.intake.open()
    await broker.intake.consume(50)
    await asyncio.sleep(3_600.0)
    ahead = {one: broker.deliveries[one] for one in range(1, 100)}
    assert broker.waiting[0] == 100, "all ahead of it are done"
    assert max(ahead.values()) < 10
    assert max(broker.deliveries[one] for one in range(101, 201)) < 10
    assert broker.intake.generation < 400
    await broker.intake.close()


@in_virtual_time
async def test_the_wanted_window_comes_back_when_a_narrow_connection_has_lived_and_settled_something() -> None:
    got: list[Delivery] = []
    opener = FakeOpener()
    intake = Intake(intake_config(), on_delivery=got.append, on_lost=lambda _: None, opener=opener)
    await intake.open()
    await intake.consume(50)
    for lost in (1, 2):
        opener.opened[-1].lost.set()
        await eventually(lambda lost=lost: intake.reconnects == lost)
    channel: Any = opener.opened[-1].channel
    assert channel.windows == [1]
    await intake.consume(60)
    await asyncio.sleep(30.0)
    assert channel.windows == [1], "nothing was settled, and a new wish changes nothing"
    deliver(opener.opened[-1], 1)
    intake.finish(got)
    await asyncio.sleep(2.0)
    assert channel.windows == [1, 60]
    await intake.close()


CLOSED_BY_RABBITMQ = ConnectionInternalError("INTERNAL_ERROR - no conversion")


async def lose(intake: Intake, opener: FakeOpener, cause: BaseException | None) -> None:
    """The connection ends, and the next one is open."""
    before = intake.reconnects
    opener.opened[-1].on_connection_closed(None, cause)
    opener.opened[-1].lost.set()
    await eventually(lambda: intake.reconnects > before)


async def narrowed() -> tuple[Intake, FakeOpener, list[Delivery]]:
    """An intake with a window of one, for RabbitMQ has closed two connections; and what it is given."""
    got: list[Delivery] = []
    opener = FakeOpener()
    intake = Intake(intake_config(), on_delivery=got.append, on_lost=lambda _: None, opener=opener)
    await intake.open()
    await intake.consume(50)
    for _ in range(2):
        await lose(intake, opener, CLOSED_BY_RABBITMQ)
    return intake, opener, got


@in_virtual_time
async def test_a_message_that_rabbitmq_cannot_deliver_is_said_once_until_it_is_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    intake, opener, _ = await narrowed()
    assert intake.stuck is None, "with a whole window it may have been any of its messages"
    await lose(intake, opener, ConnectionResetError("by the network"))
    assert intake.stuck is None, "RabbitMQ said nothing"
    await lose(intake, opener, CLOSED_BY_RABBITMQ)
    assert intake.stuck is not None
    assert "the head of jobs: 541 INTERNAL_ERROR - no conversion." in intake.stuck
    assert "rabbitmqctl set_policy --apply-to queues rabbitray-limit '^jobs$'" in intake.stuck
    said = len(caplog.records)
    for _ in range(5):
        await lose(intake, opener, CLOSED_BY_RABBITMQ)
    assert [one.getMessage() for one in caplog.records[said:] if one.levelno > logging.DEBUG] == []
    await asyncio.sleep(10.0)
    assert intake.stuck is None, "it lives: nothing at the head ends it any more"
    await intake.close()


@in_virtual_time
async def test_a_connection_that_ends_behind_a_message_that_was_worked_accuses_none() -> None:
    intake, opener, got = await narrowed()
    deliver(opener.opened[-1], 1)
    assert intake.finish(got) == 1
    await lose(intake, opener, CLOSED_BY_RABBITMQ)
    assert intake.stuck is None
    assert intake.finish(got) == 0, "RabbitMQ delivers it again"
    await intake.close()
