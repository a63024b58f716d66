"""RabbitMQ cancels a consumer alone: the next one is on the same channel, and what was late is nobody's any more."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest
from pamqp import commands as spec

from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.intake.consumer import Intake
from tests.kit.eventually import eventually
from tests.kit.fake_opener import FakeAmqpChannel, FakeOpener, deliver, intake_config
from tests.kit.virtual_time import in_virtual_time


class Cancelled:
    """An intake over channels in memory, whose user holds all that it got."""

    def __init__(self, *channels: FakeAmqpChannel) -> None:
        self.got: list[Delivery] = []
        self.lost: list[int] = []
        self.late: list[Delivery] = []
        self.opener = FakeOpener(*channels)
        self.intake = Intake(
            intake_config(),
            on_delivery=self.got.append,
            on_lost=self.lost.append,
            held=lambda: self.got,
            on_late=self.late.extend,
            opener=self.opener,
        )

    @property
    def channel(self) -> FakeAmqpChannel:
        found: Any = self.opener.opened[-1].channel
        assert isinstance(found, FakeAmqpChannel)
        return found

    async def start(self, *ages_s: float) -> None:
        """Consumes; got messages so many seconds ago."""
        await self.intake.open()
        await self.intake.consume(5)
        for tag, age_s in enumerate(ages_s, 1):
            deliver(self.opener.opened[-1], tag)
            self.got[-1].arrived_at = time.monotonic() - age_s

    async def cancel(self, tag: str | None = None) -> None:
        """RabbitMQ cancels the current consumer, or that one."""
        frame = spec.Basic.Cancel(consumer_tag=tag or self.channel.consumer_tags[-1], nowait=True)
        await self.opener.opened[-1].on_broker_cancel(frame)


@in_virtual_time
async def test_what_was_late_is_given_up_and_the_next_consumer_is_on_the_same_channel(
    caplog: pytest.LogCaptureFixture,
) -> None:
    held = Cancelled()
    await held.start(1_900, 1_801, 60)
    await held.cancel()
    assert not held.intake.consuming
    await eventually(lambda: held.intake.consuming)
    late, young = held.got[:2], held.got[2:]
    assert (held.lost, held.intake.generation, held.intake.reconnects) == ([], 1, 0)
    assert held.late == late
    assert held.channel.returned() == [1, 2], "in case RabbitMQ has not taken them back yet"
    assert held.channel.cancelled == ["rabbitray-1-1"], "it would deliver to it again, once they are settled"
    assert held.intake.still_ours(held.got) == young
    assert held.intake.finish(held.got) == 1
    assert (held.intake.stale, held.intake.unacked) == (2, 0)
    assert (held.intake.late, held.intake.given_back) == (2, 2)
    lines = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert len(lines) == 1
    assert "message m1 of queue jobs was not settled for 1,900." in lines[0]
    await held.intake.close()


@in_virtual_time
async def test_two_that_are_told_one_after_the_other_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    held = Cancelled()
    await held.start(1_900, 1_900)
    tag = held.channel.consumer_tags[0]
    await held.cancel(tag)
    await asyncio.sleep(0.03)
    await held.cancel(tag)
    await eventually(lambda: held.intake.consuming)
    await asyncio.sleep(2)
    assert held.channel.consumer_tags == ["rabbitray-1-1", "rabbitray-1-2"]
    assert held.intake.late == 2
    assert len([one for one in caplog.records if one.levelno >= logging.WARNING]) == 1
    await held.intake.close()


@in_virtual_time
async def test_an_old_consumer_is_let_go_and_the_current_one_stays() -> None:
    held = Cancelled()
    await held.start(1_900)
    await held.intake.consume(7)
    await held.cancel("rabbitray-1-1")
    await eventually(lambda: held.late)
    await asyncio.sleep(2)
    assert held.intake.consuming
    assert held.channel.consumer_tags == ["rabbitray-1-1", "rabbitray-1-2"]
    await held.intake.close()


@in_virtual_time
async def test_while_it_is_paused_nothing_is_consumed_again() -> None:
    held = Cancelled()
    await held.start(1_900)
    await held.cancel()
    await held.intake.pause()
    await eventually(lambda: held.late)
    assert not held.intake.consuming
    await held.intake.close()


@in_virtual_time
async def test_where_nothing_was_late_the_queue_may_be_gone(caplog: pytest.LogCaptureFixture) -> None:
    """Or another one by now, of another type and without our binding: what was seen of it does not hold any more."""
    first = FakeAmqpChannel()
    held = Cancelled(first)
    await held.start(60)
    await held.cancel()
    await eventually(lambda: held.intake.generation == 2 and held.intake.consuming)
    assert [one.queue_unknown for one in held.opener.opened] == [True, False]
    assert first.consumer_tags == ["rabbitray-1-1"], "it is consumed once it was looked at"
    assert (held.lost, held.late, held.intake.late) == ([1], [], 0)
    assert "was it deleted?" in caplog.text
    assert "delivered again" not in caplog.text
    await held.intake.close()
