"""The baselines of the throughput bench drain a queue of a real node."""

from __future__ import annotations

import pytest

from bench import raw
from rabbitray.actors.message.job import Job
from rabbitray.actors.publisher import Publisher, PublisherConfig
from rabbitray.actors.secret import Secret


@pytest.mark.parametrize("drain", [raw.aio_pika_drain, raw.aiormq_drain])
async def test_the_baselines_drain_everything(drain: raw.Drain, amqp_url: str) -> None:
    await raw.declare(amqp_url, "raw")
    async with Publisher(PublisherConfig(url=Secret(amqp_url), queue="raw")) as publisher:
        assert (await publisher.publish_many(Job() for _ in range(120))).ok
    assert await raw.drained(drain, amqp_url, "raw", 120) > 0
    connection = await raw.aio_pika.connect(amqp_url)
    async with connection:
        queue = await (await connection.channel()).declare_queue("raw", passive=True)
        assert queue.declaration_result.message_count == 0
