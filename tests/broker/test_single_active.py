"""A queue with a single active consumer: a hand-over gives it to the other pool, so its window never changes."""

from __future__ import annotations

from typing import Any

import aio_pika
import pytest

from tests.kit.eventually import eventually
from tests.kit.intake_ways import TOPOLOGY, RealWay

pytestmark = pytest.mark.versions


async def existing(url: str, **arguments: Any) -> None:
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        place = {"x-dead-letter-exchange": TOPOLOGY.exchange, "x-dead-letter-routing-key": TOPOLOGY.dropped_queue}
        await channel.declare_queue(TOPOLOGY.queue, durable=True, arguments=place | arguments)


async def opened(url: str) -> RealWay:
    way = RealWay(url)
    await way.start()
    await way.intake.open()
    return way


@pytest.mark.parametrize("kind", ["quorum", "classic"])
async def test_it_is_seen_and_one_of_two_pools_has_it(amqp_url: str, kind: str) -> None:
    await existing(amqp_url, **{"x-queue-type": kind, "x-single-active-consumer": True})
    first, second = await opened(amqp_url), await opened(amqp_url)
    assert first.intake.single_active
    assert second.intake.single_active
    await first.intake.consume(2)
    await second.intake.consume(2)
    await first.publish(2)
    await eventually(lambda: len(first.got) == 2)
    first.intake.finish(first.got)
    await eventually(lambda: not first.intake.unacked)
    await second.publish(20)
    await eventually(lambda: len(first.got) >= 4)
    assert second.got == [], "the first one keeps it for as long as it changes nothing"
    await first.close()
    await second.close()


async def test_other_queues_have_none(amqp_url: str) -> None:
    way = await opened(amqp_url)
    assert not way.intake.single_active
    await way.close()
