"""Declares a pool's queues before it starts, at the node where their leaders shall be."""

from __future__ import annotations

import aio_pika

from rabbitray.actors.rabbitmq.declare import TopologyBuilder
from rabbitray.cluster.driver import compose
from rabbitray.cluster.settings.model import Settings


async def declare_at(url: str, settings: Settings) -> None:
    """The node of `url` becomes the leader of each quorum queue (RabbitMQ's default, `client-local`)."""
    async with await aio_pika.connect(url) as connection:
        await TopologyBuilder(connection, compose.topology(settings)).build()
