"""A message that RabbitMQ closes the connection for at each delivery: its neighbours, what is said, and the ways out.

An AMQP 1.0 property of type uuid or char makes one from RabbitMQ 4.0 on. Before, AMQP 1.0 is a plugin that turns each
message into one of AMQP 0-9-1 as it comes.
"""

from __future__ import annotations

import asyncio
import shlex
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import aio_pika
import pytest

from rabbitray.actors.backoff import Backoff
from rabbitray.actors.message.headers import delivery_count
from rabbitray.actors.message.reply import Failure
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.intake.consumer import Intake
from rabbitray.actors.router.settlement.dropped import Collector
from rabbitray.cluster.broker import PrivateBroker
from tests.kit import amqp10
from tests.kit.eventually import eventually
from tests.kit.intake_ways import TOPOLOGY, RealWay

pytestmark = pytest.mark.versions(since="4.0")

QUICK = Backoff(first_s=0.02, most_s=0.2)
POISON = amqp10.message(b"{}", message_id="poison", properties={"id": amqp10.a_uuid()})
AHEAD, BEHIND = 30, 20
WINDOW = 10
DEFAULT_LIMIT: dict[str, Any] = {"x-queue-type": "quorum"}
NO_LIMIT = DEFAULT_LIMIT | {"x-delivery-limit": -1}


@dataclass
class Working:
    """Works what comes, at once. `returns`: how often RabbitMQ had each message back, at most; `said`: holds."""

    way: RealWay
    acked: int = 0
    seen: int = 0
    returns: Counter[str] = field(default_factory=Counter)
    said: list[str] = field(default_factory=list)

    def step(self) -> None:
        new = self.way.got[self.seen :]
        self.seen += len(new)
        self.acked += self.way.intake.finish(new)
        for one in new:
            name = str(one.parcel.message_id)
            self.returns[name] = max(self.returns[name], delivery_count(getattr(one.properties, "headers", None) or {}))
        if (stuck := self.way.intake.stuck) is not None and stuck not in self.said:
            self.said.append(stuck)

    def until(self, found: Callable[[], object]) -> Callable[[], object]:
        def look() -> object:
            self.step()
            return found()

        return look

    @property
    def settled(self) -> bool:
        """All that is good was worked, and nothing is held or in the way."""
        return len(self.returns) == AHEAD + BEHIND and not self.way.intake.unacked and self.way.intake.stuck is None


async def ready(url: str, queue: str) -> int:
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        found = await channel.declare_queue(queue, passive=True)
        return found.declaration_result.message_count or 0


@pytest.fixture
async def started(amqp_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Working]:
    """An intake of a queue in which such a message lies among good ones; its parameter: how the queue was made."""
    arguments: dict[str, Any] | None = request.param
    if arguments is not None:
        async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
            await channel.declare_queue(TOPOLOGY.queue, durable=True, arguments=arguments)
    way = RealWay(amqp_url, steady_s=0.4, pauses=QUICK, take_limited=True)
    await way.start()
    await way.intake.open()
    await way.publish(AHEAD)
    await amqp10.send(amqp_url, TOPOLOGY.queue, [POISON])
    await way.publish(BEHIND)
    await way.intake.consume(WINDOW)
    yield Working(way)
    await way.close()


@pytest.mark.parametrize("started", [None, DEFAULT_LIMIT], indirect=True, ids=["as we make it", "default, no DLX"])
async def test_the_limit_of_the_queue_takes_it_and_none_of_its_neighbours(
    started: Working, amqp_url: str, request: pytest.FixtureRequest
) -> None:
    await eventually(started.until(lambda: started.settled and started.said), within_s=90)
    assert sorted(started.returns) == sorted(f"m{n}" for n in range(AHEAD + BEHIND)), "no neighbour is lost"
    assert max(started.returns.values()) < 10
    # An ack that is written as RabbitMQ closes the connection is lost, which nobody can know: of the first two
    # connections only, since afterwards one message is delivered at a time.
    again = started.acked - (AHEAD + BEHIND)
    assert 0 <= again <= 2 * WINDOW, "a delivery of a lost connection is not acked"
    assert len(started.said) == 1
    assert "the head of jobs: 541 INTERNAL_ERROR" in started.said[0]
    ours = "as we make it" in request.node.name
    await eventually_ready(amqp_url, int(ours))


async def eventually_ready(url: str, dropped: int) -> None:
    """The main queue is empty, and so many lie in the dropped one."""

    async def look() -> bool:
        return (await ready(url, TOPOLOGY.queue), await ready(url, TOPOLOGY.dropped_queue)) == (0, dropped)

    await eventually(look)


@pytest.mark.parametrize("started", [NO_LIMIT], indirect=True, ids=["made by an earlier version"])
async def test_without_a_limit_the_hold_names_the_policy_that_moves_it(
    started: Working, amqp_url: str, broker: PrivateBroker
) -> None:
    await eventually(started.until(lambda: started.said and started.way.intake.reconnects > 25), within_s=60)
    assert await ready(amqp_url, TOPOLOGY.dropped_queue) == 0, "nothing moves it by itself"
    vhost = amqp_url.rpartition("/")[2]
    command = started.said[0].partition("rabbitmqctl ")[2].partition(". An")[0]
    words = shlex.split(command)
    broker.ctl(words[0], "-p", vhost, *words[1:])
    await eventually(started.until(lambda: started.settled), within_s=90)
    assert max(started.returns.values()) < 10
    await eventually_ready(amqp_url, 1)


class Parking:
    """A settler that acks what is collected."""

    def __init__(self, acks: Intake) -> None:
        self.acks = acks
        self.parked: list[Delivery] = []

    async def park(self, delivery: Delivery, failure: Failure) -> None:
        self.parked.append(delivery)
        self.acks.finish([delivery])


async def test_in_the_dropped_queue_it_holds_up_the_collector_alone_and_is_said_once(
    amqp_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    way = RealWay(amqp_url, steady_s=0.4, pauses=QUICK)
    await way.start()
    await way.intake.open()
    await way.intake.consume(10)
    await amqp10.send(
        amqp_url, TOPOLOGY.dropped_queue, [POISON, amqp10.message(b"{}", message_id="good", properties={})]
    )
    settlers: list[Parking] = []

    def settler_for(acks: Intake) -> Any:
        settlers.append(Parking(acks))
        return settlers[-1]

    collector = Collector(replace(way.config, queue=TOPOLOGY.dropped_queue), settler_for)
    await collector.start()
    await eventually(lambda: collector.stuck, within_s=30)
    assert collector.stuck is not None
    assert "at the head of jobs.dropped: 541 INTERNAL_ERROR" in collector.stuck
    said = len(caplog.records)
    working = Working(way)
    await way.publish(20)
    await eventually(working.until(lambda: len(working.returns) == 20 and not way.intake.unacked))
    await asyncio.sleep(2.0)  # some ten more connections of the collector
    assert way.intake.reconnects == 0, "the pool is not touched"
    ours = [one.getMessage() for one in caplog.records[said:] if one.name.startswith("rabbitray.actors.router.intake")]
    assert [text for text in ours if "RabbitMQ" in text] == [], "it was said"
    assert b"poison" in await amqp10.take_one(amqp_url, TOPOLOGY.dropped_queue)
    await eventually(lambda: settlers[0].parked and collector.stuck is None)
    assert [one.parcel.message_id for one in settlers[0].parked] == ["good"]
    await collector.close()
    await way.close()
