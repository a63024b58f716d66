"""Copies keep the priority of their message, through a rung, the dead letters and a replay; who has none gains none."""

from __future__ import annotations

import aio_pika
import pytest

from rabbitray.actors.publisher import Publisher, PublisherConfig
from rabbitray.actors.rabbitmq.inspect import contact
from rabbitray.actors.rabbitmq.properties import Properties, priority_of
from rabbitray.actors.secret import Secret
from rabbitray.cluster.results.dead_letter_replay import Replay, ReplayPlan
from rabbitray.cluster.results.dead_letter_selection import Selection
from tests.kit.eventually import eventually
from tests.kit.intake_ways import RealWay
from tests.kit.plain_path import mixed
from tests.kit.queue_access import drained
from tests.kit.real_path import RealPath

pytestmark = pytest.mark.versions

GIVEN = {"high": 20, "low": 0, "none": None}
"""RabbitMQ 4.3 has 32 levels in a quorum queue; before, the figure travels all the same."""


async def publish(url: str) -> None:
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        for key, priority in GIVEN.items():
            message = aio_pika.Message(b"{}", message_id=key, delivery_mode=2, priority=priority)
            await channel.default_exchange.publish(message, "jobs")


async def all_fail(path: RealPath, verdict: str, attempt: int) -> None:
    """Each of the messages comes, and its run ends in this verdict."""
    ended: set[str] = set()
    while ended != GIVEN.keys():
        worker, batch = await path.batch()
        keys = path.keys(batch)
        worker.answer(batch, *mixed(keys, dict.fromkeys(range(len(keys)), verdict), [attempt] * len(keys)))
        ended |= set(keys)
        await eventually(lambda batch=batch: batch not in [name for _, name in path.running])
    await eventually(lambda: not path.intake.unacked or path.running)


async def test_a_priority_survives_a_rung_a_dead_letter_and_a_replay(amqp_url: str) -> None:
    path = RealPath(amqp_url)
    await path.start()
    await publish(amqp_url)
    await all_fail(path, "retry", 0)
    await all_fail(path, "reject", 1)
    await eventually(lambda: path.settler.tally.dead == 3)
    await path.stop()

    dead = await drained(amqp_url, "jobs.dead")
    assert {one.message_id: one.priority for one in dead} == GIVEN
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        for one in dead:
            await channel.default_exchange.publish(one, "jobs.dead")
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
