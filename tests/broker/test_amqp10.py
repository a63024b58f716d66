"""A message of an AMQP 1.0 client that RabbitMQ cannot hand to ours: it closes the connection at each delivery."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from rabbitray.cluster.broker import PrivateBroker
from tests.kit import amqp10
from tests.kit.eventually import eventually
from tests.kit.intake_ways import TOPOLOGY, RealWay

pytestmark = pytest.mark.versions(since="4.0")


async def poisoned(way: RealWay, url: str) -> None:
    """Five good messages, one with a `uuid` among its application properties, five more."""
    await way.start()
    await way.intake.open()
    await way.publish(5)
    await amqp10.send(url, TOPOLOGY.queue, b"{}", {"order": amqp10.a_uuid(uuid.uuid4())})
    await way.publish(5)


def working(way: RealWay) -> Callable[[], set[str]]:
    """Settles what came since the last look; the ids of all."""
    seen = 0

    def worked() -> set[str]:
        nonlocal seen
        way.intake.finish(way.got[seen:])
        seen = len(way.got)
        return {str(one.parcel.message_id) for one in way.got}

    return worked


async def only_that_one_is_dropped(way: RealWay, *, within_s: float) -> None:
    worked = working(way)
    await way.intake.consume(10)
    await eventually(lambda: len(worked()) == 10 and way.intake.unacked == 0, within_s=within_s)
    async with way._own.channel() as channel:
        dropped = await channel.declare_queue(TOPOLOGY.dropped_queue, passive=True)
        assert dropped.declaration_result.message_count == 1
    assert await way.ready() == 0
    await way.close()


async def test_a_policy_with_a_limit_moves_only_the_one_that_ends_each_connection(
    broker: PrivateBroker, amqp_url: str
) -> None:
    limit = {"pattern": f"^{TOPOLOGY.queue}$", "definition": {"delivery-limit": 3}, "apply-to": "queues"}
    broker.api("PUT", f"/api/policies{urlsplit(amqp_url).path}/limit", limit)
    way = RealWay(amqp_url, steady_s=0.5)
    await poisoned(way, amqp_url)
    await only_that_one_is_dropped(way, within_s=60)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.versions(since="4.3")
async def test_our_own_queue_lets_go_of_it_by_itself(amqp_url: str) -> None:
    """At its limit of 20, with pauses of up to 10 s between."""
    way = RealWay(amqp_url, steady_s=0.5)
    await poisoned(way, amqp_url)
    await only_that_one_is_dropped(way, within_s=500)
