"""Copies keep the priority of their message, through a rung, the dead letters and a replay; who has none gains none."""

from __future__ import annotations

import aiormq
import pytest
from pamqp import commands as spec

from rabbitray.actors.message.properties.property_list import Properties, priority_of
from rabbitray.actors.publisher import Publisher, PublisherConfig
from rabbitray.actors.rabbitmq.inspect import contact
from rabbitray.actors.secret import Secret
from rabbitray.cluster.results.dead_letter_replay import Replay, ReplayPlan
from rabbitray.cluster.results.dead_letter_selection import Selection
from tests.kit.eventually import eventually
from tests.kit.intake_ways import RealWay
from tests.kit.plain_path import mixed
from tests.kit.real_path import RealPath

pytestmark = pytest.mark.versions

GIVEN = {"high": 20, "low": 0, "none": None}
"""RabbitMQ 4.3 has 32 levels in a quorum queue; before, the figure travels all the same."""


async def publish(url: str, key: str, priority: int | None) -> None:
    """By aiormq: aio-pika writes a 0 for none."""
    connection = await aiormq.connect(url)
    channel = await connection.channel()
    properties = spec.Basic.Properties(message_id=key, delivery_mode=2, priority=priority)
    await channel.basic_publish(b"{}", routing_key="jobs", properties=properties)
    await connection.close()


async def fail(path: RealPath, key: str, verdict: str, attempt: int) -> None:
    """The message comes, and its run ends in this verdict."""
    worker, batch = await path.batch()
    assert path.keys(batch) == [key]
    worker.answer(batch, *mixed([key], {0: verdict}, [attempt]))
    await eventually(lambda: batch not in [name for _, name in path.running])


async def test_a_priority_survives_a_rung_a_dead_letter_and_a_replay(amqp_url: str) -> None:
    path = RealPath(amqp_url)
    await path.start()
    for key, priority in GIVEN.items():
        await publish(amqp_url, key, priority)
        await fail(path, key, "retry", 0)
        await fail(path, key, "dead", 1)
    await eventually(lambda: path.settler.tally.dead == 3)
    await path.stop()

    config = PublisherConfig(url=amqp_url, queue="jobs")
    async with contact(Secret(amqp_url), within_s=5) as found, Publisher(config) as publisher:
        replay = Replay(found, publisher, queue="jobs", dead_queue="jobs.dead")
        assert (await replay.run(ReplayPlan(selection=Selection()))).replayed == 3

    way = RealWay(amqp_url)
    await way.start()
    await way.intake.open()
    await way.intake.consume(5)
    await eventually(lambda: len(way.got) == 3)
    properties = {one.parcel.message_id: one.properties for one in way.got}
    assert {key: priority_of(one) for key, one in properties.items() if isinstance(one, Properties)} == GIVEN
    await way.close()
