"""A queue of the test's broker, seen through aio-pika: declare, count, empty."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue


@asynccontextmanager
async def opened(url: str, name: str, **arguments: Any) -> AsyncIterator[AbstractQueue]:
    """The durable queue `name`, declared; `x_max_length=3` is the argument `x-max-length`."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        yield await channel.declare_queue(name, durable=True, arguments=named or None)


async def declare(url: str, name: str, **arguments: Any) -> None:
    """Declare the durable queue `name`."""
    async with opened(url, name, **arguments):
        pass


def declare_now(url: str, name: str, **arguments: Any) -> None:
    """The same for synchronous tests."""
    asyncio.run(declare(url, name, **arguments))


async def depth(url: str, name: str) -> int:
    """Ready messages in `name`."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(name, passive=True)
        return queue.declaration_result.message_count or 0


async def drained(url: str, name: str) -> list[AbstractIncomingMessage]:
    """Take everything out of `name`."""
    taken: list[AbstractIncomingMessage] = []
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(name, passive=True)
        while (message := await queue.get(no_ack=True, fail=False)) is not None:
            taken.append(message)
    return taken
