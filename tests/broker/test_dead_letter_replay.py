"""`dlq replay` on a real node: flat in memory, nothing held for long, each dead letter looked at once, none lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aio_pika
import pytest

from rabbitray.actors.errors import PublishTimeoutError
from rabbitray.actors.message import headers as h
from rabbitray.actors.publisher import EncodedMessage, Publisher, PublisherConfig
from rabbitray.actors.rabbitmq.inspect import contact
from rabbitray.actors.secret import Secret
from rabbitray.cluster.results.dead_letter_replay import (
    GIVE_UP_AFTER,
    ROUND_MESSAGES,
    Replay,
    Replayed,
    ReplayPlan,
)
from rabbitray.cluster.results.dead_letter_selection import Selection
from tests.kit.dead_letters import AT, DEAD, headers_sent
from tests.kit.eventually import eventually
from tests.kit.queue_access import depth, drained, opened

QUORUM = {"x_queue_type": "quorum"}
CLASSIC = {"x_queue_type": "classic"}


class Watched:
    """A publisher that notes how many bodies are in hand at once; refuses what `refuses` says."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._now = 0
        self.most = 0
        self.sent: list[EncodedMessage] = []
        self.refuses: Any = lambda message: False

    async def publish_message(self, message: EncodedMessage) -> None:
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            if self.refuses(message):
                raise PublishTimeoutError("no confirm within 5 s")
            await self._publisher.publish_message(message)
            self.sent.append(message)
        finally:
            self._now -= 1


@pytest.fixture
async def publisher(amqp_url: str) -> AsyncIterator[Watched]:
    async with Publisher(PublisherConfig(url=amqp_url, queue="jobs")) as found:
        yield Watched(found)


NO_COPY = {"CC": ["nowhere"]}
"""A header that no copy has: the letter would not be the same."""


async def park(
    url: str, count: int, arguments: dict[str, Any], headers: dict[str, Any] | None = None, **properties: Any
) -> None:
    """So many dead letters, as the router writes them, in a dead-letter queue with these arguments."""
    async with opened(url, "jobs"), opened(url, DEAD, **arguments) as dead:
        assert isinstance(dead.channel, aio_pika.abc.AbstractChannel)
        for number in range(count):
            message = aio_pika.Message(
                b"body",
                message_id=f"copy-{number}",
                content_type="application/json",
                timestamp=AT,
                headers={h.KEY: f"k{number}", h.ERROR_CLASS: "ValueError", h.FIRST_SEEN: 1, "mine": number}
                | (headers or {}),
                **properties,
            )
            await dead.channel.default_exchange.publish(message, DEAD)


async def replay(url: str, publisher: Any, plan: ReplayPlan, **changes: Any) -> Replayed:
    async with contact(Secret(url), within_s=5) as connection:
        return await Replay(connection, publisher, queue="jobs", dead_queue=DEAD, **changes).run(plan)


def only(*keys: str) -> Selection:
    return Selection(ids=frozenset(keys))


async def back(url: str, count: int) -> None:
    """So many dead letters are ready: RabbitMQ gives back what a closed channel held a little later."""

    async def all_back() -> bool:
        return await depth(url, DEAD) == count

    await eventually(all_back)


async def kept(url: str) -> list[str]:
    """The keys of the dead letters, in order."""
    return [str(message.headers[h.KEY]) for message in await drained(url, DEAD)]


@pytest.mark.parametrize("arguments", [QUORUM, CLASSIC, QUORUM | {"x_delivery_limit": 3}])
async def test_one_of_many_is_found_in_rounds_and_the_others_stay(
    amqp_url: str, publisher: Watched, arguments: dict[str, Any]
) -> None:
    await park(amqp_url, 250, arguments)
    found = await replay(amqp_url, publisher, ReplayPlan(selection=only("k130")))
    assert (found.looked_at, found.replayed, found.returned, found.failed) == (250, 1, 249, 0)
    assert publisher.most <= ROUND_MESSAGES
    assert await depth(amqp_url, "jobs") == 1
    await back(amqp_url, 249)
    assert sorted(await kept(amqp_url)) == sorted(f"k{number}" for number in range(250) if number != 130)


async def test_what_stays_is_the_same_message(amqp_url: str, publisher: Watched) -> None:
    await park(amqp_url, 1, QUORUM)
    await replay(amqp_url, publisher, ReplayPlan(selection=only("another")))
    await back(amqp_url, 1)
    [message] = await drained(amqp_url, DEAD)
    assert (message.body, message.message_id, message.content_type) == (b"body", "copy-0", "application/json")
    assert message.timestamp == AT
    headers = {name: value for name, value in message.headers.items() if name not in h.DELIVERY_COUNTS}
    assert headers == {h.KEY: "k0", h.ERROR_CLASS: "ValueError", h.FIRST_SEEN: 1, "mine": 0, h.PRIORITY: 0}


@pytest.mark.parametrize("dry", [True, False])
async def test_looking_again_and_again_uses_no_message_up(amqp_url: str, publisher: Watched, dry: bool) -> None:
    """The limit of RabbitMQ 4, on a server that has one only where it is asked for."""
    await park(amqp_url, 3, QUORUM | {"x_delivery_limit": 20})
    for _ in range(25):
        await back(amqp_url, 3)
        found = await replay(amqp_url, publisher, ReplayPlan(selection=only("another"), dry=dry))
        assert (found.looked_at, found.returned) == (3, 3)
    await back(amqp_url, 3)
    assert sorted(await kept(amqp_url)) == ["k0", "k1", "k2"]


async def test_a_dry_run_writes_nothing(amqp_url: str, publisher: Watched) -> None:
    await park(amqp_url, 120, QUORUM)
    found = await replay(amqp_url, publisher, ReplayPlan(selection=Selection(), dry=True))
    assert (found.looked_at, found.returned, dict(found.classes)) == (120, 120, {"ValueError": 120})
    assert publisher.sent == []
    await back(amqp_url, 120)


@pytest.mark.parametrize("arguments", [QUORUM, CLASSIC])
@pytest.mark.parametrize("fails", [(), ("k5",)])
async def test_all_that_was_replayed_is_gone_from_the_dead_letters(
    amqp_url: str, publisher: Watched, arguments: dict[str, Any], fails: tuple[str, ...]
) -> None:
    """The broker takes acks beyond 32 late, and forgets them when the channel closes at once."""
    await park(amqp_url, 90, arguments)
    publisher.refuses = lambda message: headers_sent(message)[h.KEY] in fails
    found = await replay(amqp_url, publisher, ReplayPlan(selection=Selection()))
    assert (found.replayed, found.failed) == (90 - len(fails), len(fails))
    await asyncio.sleep(0.5)  # a lost ack would bring its message back by now
    await back(amqp_url, len(fails))
    assert tuple(await kept(amqp_url)) == fails
    assert await depth(amqp_url, "jobs") == 90 - len(fails)


async def test_a_broker_that_takes_nothing_ends_it(amqp_url: str, publisher: Watched) -> None:
    await park(amqp_url, 2 * GIVE_UP_AFTER + 50, CLASSIC)
    publisher.refuses = lambda message: True
    found = await replay(amqp_url, publisher, ReplayPlan(selection=Selection()))
    assert found.looked_at == found.failed == GIVE_UP_AFTER
    await back(amqp_url, 2 * GIVE_UP_AFTER + 50)
    assert len(set(await kept(amqp_url))) == 2 * GIVE_UP_AFTER + 50


async def test_a_message_that_a_copy_would_change_is_held_and_given_back(amqp_url: str, publisher: Watched) -> None:
    await park(amqp_url, 5, CLASSIC, NO_COPY, correlation_id="c")
    found = await replay(amqp_url, publisher, ReplayPlan(selection=only("k3")))
    assert (found.looked_at, found.replayed, found.returned) == (5, 1, 4)
    await back(amqp_url, 4)
    left = await drained(amqp_url, DEAD)
    assert [message.headers[h.KEY] for message in left] == ["k0", "k1", "k2", "k4"]
    assert {(message.correlation_id, str(message.headers["CC"])) for message in left} == {("c", "['nowhere']")}


async def test_what_is_held_too_long_ends_it(amqp_url: str, publisher: Watched) -> None:
    await park(amqp_url, 5, CLASSIC, NO_COPY)
    found = await replay(amqp_url, publisher, ReplayPlan(selection=only("k3")), hold_s=-1.0)
    assert (found.looked_at, found.replayed) == (1, 0)
    assert "with 4 not looked at: run it again" in found.errors[0]
    await back(amqp_url, 5)


async def test_a_rate_holds_no_message_while_it_waits(amqp_url: str, publisher: Watched) -> None:
    await park(amqp_url, 6, QUORUM)
    in_hand: list[int] = []
    run = asyncio.create_task(replay(amqp_url, publisher, ReplayPlan(selection=Selection(), rate=2.0)))
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        while not run.done():  # one question right after the other: what moves between them counts twice
            queues = [await channel.declare_queue(name, passive=True) for name in (DEAD, "jobs")]
            in_hand.append(6 - sum(queue.declaration_result.message_count or 0 for queue in queues))
            await asyncio.sleep(0.01)
    found = await run
    assert found.replayed == 6
    assert sorted(in_hand)[len(in_hand) // 2] == 0, "most of the time nothing is in hand"
