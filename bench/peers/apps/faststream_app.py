"""FastStream: prefetch of 500, uvloop, two processes."""

from __future__ import annotations

import asyncio
import os
import sys

from faststream import FastStream
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue

QUEUE = RabbitQueue(os.environ["BENCH_QUEUE"], durable=True)
PART = 500
broker = RabbitBroker(os.environ["BENCH_URL"], logger=None)
app = FastStream(broker, logger=None)


@broker.subscriber(QUEUE, channel=Channel(prefetch_count=500))
async def noop(body: str) -> None:
    """Does nothing."""


async def publish(count: int) -> None:
    """In parts, each one at once."""
    async with broker:
        await broker.declare_queue(QUEUE)
        for _ in range(0, count, PART):
            await asyncio.gather(*(broker.publish("x", queue=QUEUE, persist=True) for _ in range(PART)))


if __name__ == "__main__":
    asyncio.run(publish(int(sys.argv[1])))
