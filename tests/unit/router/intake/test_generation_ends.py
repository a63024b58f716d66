"""Each generation that was opened is ended once, whoever ends it, and what it delivered is nobody's from then on."""

from __future__ import annotations

import asyncio

import pytest

from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.intake.consumer import Intake
from tests.kit.eventually import eventually
from tests.kit.fake_opener import FakeAmqpChannel, FakeOpener, deliver, intake_config
from tests.kit.given_up import gives_up
from tests.kit.virtual_time import in_virtual_time


class Held:
    """An intake over channels in memory, with what it delivered and told."""

    def __init__(self, *channels: FakeAmqpChannel) -> None:
        self.got: list[Delivery] = []
        self.told: list[int] = []
        self.opener = FakeOpener(*channels)
        self.intake = Intake(intake_config(), on_delivery=self.got.append, on_lost=self.told.append, opener=self.opener)

    async def lose(self) -> None:
        self.opener.opened[-1].lost.set()


@pytest.mark.parametrize("dying", [0, 1], ids=["at the start", "in the reconnect"])
@in_virtual_time
async def test_one_that_dies_between_its_first_delivery_and_the_answer_to_consume(dying: int) -> None:
    async def deliver_and_die() -> None:
        assert deliver(held.opener.opened[dying], 1)
        await gives_up()

    channels = [FakeAmqpChannel(), FakeAmqpChannel(), FakeAmqpChannel()]
    channels[dying] = FakeAmqpChannel(on_consume=deliver_and_die)
    held = Held(*channels)
    await held.intake.open()
    await held.intake.consume(5)
    if dying:
        await held.lose()
    await eventually(lambda: held.intake.generation == dying + 2 and held.intake.consuming)
    assert held.told == list(range(1, dying + 2))
    assert held.intake.still_ours(held.got) == []
    assert not deliver(held.opener.opened[dying], 2)
    await held.intake.close()


@in_virtual_time
async def test_one_whose_channel_is_gone_owns_nothing_before_its_end_is_told() -> None:
    held = Held()
    await held.intake.open()
    await held.intake.consume(5)
    deliver(held.opener.opened[0], 1)
    assert held.intake.still_ours(held.got) == held.got
    await held.lose()
    assert (held.told, held.intake.still_ours(held.got)) == ([], [])
    await eventually(lambda: held.told == [1])
    await held.intake.close()


@in_virtual_time
async def test_one_that_is_closed_inside_the_reconnect() -> None:
    asked = asyncio.Event()

    async def never_answers() -> None:
        asked.set()
        assert deliver(held.opener.opened[1], 1)
        await asyncio.Event().wait()

    held = Held(FakeAmqpChannel(), FakeAmqpChannel(on_consume=never_answers))
    await held.intake.open()
    await held.intake.consume(5)
    await held.lose()
    await asked.wait()
    await held.intake.close()
    assert held.intake.still_ours(held.got) == []
    assert [one.end() for one in held.opener.opened] == [False, False], "both were ended"


@in_virtual_time
async def test_one_that_ends_while_its_consumer_is_made_does_not_consume() -> None:
    answer = asyncio.Event()
    held = Held(FakeAmqpChannel(on_consume=answer.wait))
    await held.intake.open()
    consuming = asyncio.create_task(held.intake.consume(5))
    await eventually(lambda: held.opener.opened[0].channel.consumer_tags)
    held.opener.opened[0].end()
    answer.set()
    await consuming
    assert not held.intake.consuming
    await held.intake.close()
