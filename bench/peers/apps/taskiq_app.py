"""taskiq with taskiq-aio-pika: prefetch of 500, uvloop, two processes."""

from __future__ import annotations

import asyncio
import os
import sys

from taskiq_aio_pika import AioPikaBroker, Queue

QUEUE = os.environ["BENCH_QUEUE"]
PART = 500
broker = AioPikaBroker(os.environ["BENCH_URL"], qos=500, task_queues=[Queue(name=QUEUE, routing_key=QUEUE)])


@broker.task(task_name="noop", queue_name=QUEUE)
async def noop() -> None:
    """Does nothing."""


async def publish(count: int) -> None:
    """In parts, each one at once."""
    await broker.startup()
    for _ in range(0, count, PART):
        await asyncio.gather(*(noop.kiq() for _ in range(PART)))
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(publish(int(sys.argv[1])))
