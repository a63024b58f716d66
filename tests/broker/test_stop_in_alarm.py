"""scratch"""

from __future__ import annotations

import asyncio
import time

import pytest

from rabbitray.actors.publisher import EncodedMessage
from rabbitray.actors.publisher import Publisher, PublisherConfig
from rabbitray.cluster.broker import PrivateBroker
from tests.broker.test_publisher_losses import memory_alarm
from tests.kit.eventually import eventually
from tests.kit.queue_access import depth
from tests.kit.real_path import RealPath

MIB = 1024 * 1024


async def fill(url: str, path: RealPath, count: int, size: int) -> None:
    for number in range(count):
        await path.sender.publish_message(
            EncodedMessage(body=b"x" * size, message_id=f"m{number}", routing_key="jobs", headers={})
        )


@pytest.mark.parametrize("mib", [2, 60])
async def test_stop(own_broker: PrivateBroker, own_url: str, mib: int) -> None:
    path = RealPath(own_url, most_bytes=MIB)
    t = time.monotonic()
    def say(*a): print(f"{time.monotonic()-t:.2f}", *a, flush=True)
    await path.start(workers=0, window=1)
    await path.router.hold("test", "fill")
    await fill(own_url, path, 12, mib * MIB)
    say("filled")
    with memory_alarm(own_broker):
        say("alarm")
        await path.router.set_window(50, 10)
        await path.router.release("test")
        await asyncio.sleep(1)
        say("unacked", path.intake.unacked, path.spool.size)
        await asyncio.sleep(4)
        say("unacked", path.intake.unacked, path.spool.size)
        async def step(name, c):
            t0 = time.monotonic()
            try:
                async with asyncio.timeout(30):
                    r = await c
            except TimeoutError:
                r = "TIMEOUT"
            say(name, f"{time.monotonic()-t0:.2f}", r)
        await step("drain", path.router.drain(2.0))
        await step("sender", path.sender.close())
        await step("intake", path.intake.close())
        say("tally", path.settler.tally.acked, path.spool.size)
    say("alarm over")
    await asyncio.sleep(2)
    say(await depth(own_url, "jobs"), await depth(own_url, "jobs.dead"))
