"""Baselines: a bare client that takes messages and acks them, and does nothing else.

Both ack every 50 messages with one `multiple` frame, which is the fastest that their documentation offers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import aio_pika
import aiormq
from aio_pika.abc import AbstractIncomingMessage
from aiormq.abc import DeliveredMessage

ACK_EVERY = 50
PREFETCH = 500

Drain = Callable[[str, str, int], Awaitable[float]]
"""url, queue, count -> seconds from consuming to the last ack."""


async def declare(url: str, queue: str, kind: str = "quorum") -> None:
    """Makes the durable queue that the baselines drain."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": kind})


async def delete(url: str, queue: str) -> None:
    """Removes a queue with all that is in it."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        await channel.queue_delete(queue)


async def aio_pika_drain(url: str, queue: str, count: int) -> float:
    """Takes `count` messages through `Queue.consume`."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=PREFETCH)
        found = await channel.get_queue(queue, ensure=False)
        left, done = count, asyncio.Event()

        async def take(message: AbstractIncomingMessage) -> None:
            nonlocal left
            left -= 1
            if left % ACK_EVERY == 0:
                await message.ack(multiple=True)
                if left <= 0:
                    done.set()

        began = time.perf_counter()
        await found.consume(take)
        await done.wait()
        return time.perf_counter() - began


async def aiormq_drain(url: str, queue: str, count: int) -> float:
    """Takes `count` messages through the channel of aiormq."""
    connection = await aiormq.connect(url)
    try:
        channel = await connection.channel(publisher_confirms=False)
        await channel.basic_qos(prefetch_count=PREFETCH)
        left, done = count, asyncio.Event()

        async def take(message: DeliveredMessage) -> None:
            nonlocal left
            left -= 1
            if left % ACK_EVERY == 0:
                await channel.basic_ack(message.delivery_tag or 0, multiple=True)
                if left <= 0:
                    done.set()

        began = time.perf_counter()
        await channel.basic_consume(queue, take)
        await done.wait()
        return time.perf_counter() - began
    finally:
        await connection.close()


async def drained(drain: Drain, url: str, queue: str, count: int) -> float:
    """Messages per second of one drain, which ends when the last message is acked."""
    return count / await drain(url, queue, count)
