"""The intake over generations in memory: each that was opened ends once, and the next replaces it as a whole."""

from __future__ import annotations

import asyncio

import pytest
from aiormq.exceptions import AMQPChannelError, ChannelNotFoundEntity, ChannelPreconditionFailed

from rabbitray.actors.rabbitmq.versions import Behaviour
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.intake.consumer import Intake
from rabbitray.actors.router.intake.held_back import HeldBack
from tests.kit.eventually import eventually
from tests.kit.fake_opener import FakeAmqpChannel, FakeOpener, deliver, intake_config
from tests.kit.given_up import gives_up


async def test_a_hand_over_on_a_connection_that_is_given_up_is_the_watchers_to_mend() -> None:
    opener = FakeOpener(FakeAmqpChannel(on_qos=gives_up))
    intake = Intake(intake_config(), on_delivery=lambda _: None, on_lost=lambda _: None, opener=opener)
    await intake.open()
    await intake.consume(5)
    assert opener.opened[0].lost.is_set()
    await eventually(lambda: intake.generation == 2 and intake.consuming)
    await intake.close()


async def test_the_watcher_outlives_whoever_is_told_of_a_loss() -> None:
    told: list[int] = []

    def on_lost(generation: int) -> None:
        told.append(generation)
        raise KeyError("a mistake of ours")

    opener = FakeOpener()
    intake = Intake(intake_config(), on_delivery=lambda _: None, on_lost=on_lost, opener=opener)
    await intake.open()
    for lost in (1, 2):
        opener.opened[-1].lost.set()
        await eventually(lambda lost=lost: intake.reconnects == lost)
    assert told == [1, 2]
    await intake.close()


async def test_a_generation_that_dies_before_its_consumer_is_confirmed_is_ended_too() -> None:
    """RabbitMQ may deliver before it answers `consume`; what came that way is buffered and must be dropped."""
    got: list[Delivery] = []
    told: list[int] = []

    async def deliver_and_die() -> None:
        assert deliver(opener.opened[1], 1)
        await gives_up()

    opener = FakeOpener(FakeAmqpChannel(), FakeAmqpChannel(on_consume=deliver_and_die))
    intake = Intake(intake_config(), on_delivery=got.append, on_lost=told.append, opener=opener)
    await intake.open()
    await intake.consume(5)
    opener.opened[0].lost.set()
    await eventually(lambda: intake.reconnects == 1)
    assert (intake.generation, intake.consuming) == (3, True)
    assert [one.generation for one in got] == [2]
    assert told == [1, 2], "each generation ends once"
    assert not deliver(opener.opened[1], 2), "an ended generation takes nothing"
    intake.finish(got)
    assert (intake.stale, intake.unacked) == (1, 0)
    await intake.close()
    assert told == [1, 2], "closing is no loss"


@pytest.mark.parametrize(
    "said",
    [
        ChannelNotFoundEntity("no queue"),
        ChannelPreconditionFailed("invalid arg 'x-consumer-timeout' for queue 'jobs' of type rabbit_classic_queue"),
    ],
    ids=["gone", "of another type"],
)
async def test_an_attempt_whose_queue_is_another_says_so_to_the_next(said: AMQPChannelError) -> None:
    async def refused() -> None:
        raise said

    opener = FakeOpener(FakeAmqpChannel(), FakeAmqpChannel(on_consume=refused))
    intake = Intake(intake_config(), on_delivery=lambda _: None, on_lost=lambda _: None, opener=opener)
    await intake.open()
    await intake.consume(5)
    opener.opened[0].lost.set()
    await eventually(lambda: intake.reconnects == 1)
    assert [one.queue_unknown for one in opener.opened] == [False, True, False]
    await intake.close()


async def test_one_that_was_opened_without_its_queue_does_not_consume() -> None:
    """Nobody knows what is there once it is back: its type, and with that what a consumer of it may ask for."""
    opener = FakeOpener()
    intake = Intake(intake_config(), on_delivery=lambda _: None, on_lost=lambda _: None, opener=opener)
    await intake.open()
    opener.opened[0].queue_unknown = True
    await intake.consume(5)
    await eventually(lambda: intake.generation == 2 and intake.consuming)
    assert [one.consumers.takers.keys() - {"rabbitray-2-1"} for one in opener.opened] == [set(), set()]
    await intake.close()


async def test_a_new_generation_has_nothing_of_the_old_one() -> None:
    got: list[Delivery] = []
    opener = FakeOpener()
    intake = Intake(intake_config(), on_delivery=got.append, on_lost=lambda _: None, opener=opener)
    await intake.open()
    await intake.consume(5)
    for tag in (1, 2):
        deliver(opener.opened[0], tag)
    await intake.consume(2)
    assert (intake.unacked, intake.held_by_old) == (2, 2)
    opener.opened[0].lost.set()
    await eventually(lambda: intake.reconnects == 1)
    assert (intake.unacked, intake.held_by_old) == (0, 0)
    assert intake.still_ours(got) == []
    deliver(opener.opened[1], 1)
    intake.give_back(got)
    assert (intake.stale, intake.unacked) == (2, 0)
    await intake.close()
    await asyncio.wait_for(intake.close(), 5)


@pytest.mark.parametrize(
    ("addresses", "keeps_s", "left"),
    [(("a", "b"), 70.0, 3), (("a",), 70.0, 0), (("a", "b"), 0.0, 0)],
    ids=["another node", "the same one", "a version that keeps nothing"],
)
async def test_what_a_node_that_was_left_had_is_expected_back(
    addresses: tuple[str, ...], keeps_s: float, left: int
) -> None:
    opener = FakeOpener(addresses=addresses, broker=Behaviour(keeps_disconnected_s=keeps_s))
    intake = Intake(intake_config(), on_delivery=lambda _: None, on_lost=lambda _: None, opener=opener)
    await intake.open()
    await intake.consume(5)
    for tag in (1, 2, 3):
        assert deliver(opener.opened[0], tag)
    opener.opened[0].lost.set()
    await eventually(lambda: intake.reconnects == 1)
    assert intake.held_back.count == left
    deliver(opener.opened[1], 1)
    deliver(opener.opened[1], 2, redelivered=True)
    assert intake.held_back.count == max(0, left - 1)
    await intake.close()


def test_what_was_acked_on_that_node_is_not_expected_for_ever() -> None:
    now = 100.0
    held_back = HeldBack(lambda: now)
    held_back.left_behind(2, 70.0)
    held_back.came()
    now = 169.9
    assert held_back.count == 1
    now = 170.0
    assert held_back.count == 0
