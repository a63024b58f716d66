"""A stop that meets a broker in alarm, or one whose messages take long to come: it ends in its time, and what waits
for a confirm is back in its queue.
"""

from __future__ import annotations

import asyncio
import gc

import pytest

from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.publisher import EncodedMessage, Publisher, PublisherConfig
from rabbitray.actors.router.spool import Spool
from rabbitray.cluster.broker import PrivateBroker
from tests.kit.eventually import eventually
from tests.kit.intake_ways import Wire
from tests.kit.memory_alarm import memory_alarm
from tests.kit.parking import TOPOLOGY, Parking
from tests.kit.plain_path import mixed
from tests.kit.queue_access import declare, depth
from tests.kit.real_path import RealPath

MIB = 1024 * 1024
MESSAGES = 12
DEADLINE_S = 1.0
GRACE_S = 20.0
"""How long the driver waits for a router beyond its deadline."""


async def fill(url: str, queue: str, size: int) -> None:
    """MESSAGES of `size` bytes into a queue."""
    async with Publisher(PublisherConfig(url=url, queue=queue)) as publisher:
        for number in range(MESSAGES):
            message = EncodedMessage(body=b"x" * size, message_id=f"m{number}", routing_key=queue, headers={})
            await publisher.publish_message(message)


async def all_back(url: str, queue: str) -> None:
    """Every one of them is in its queue, and in no other: none was confirmed."""
    await eventually(lambda: depth_is(url, queue, MESSAGES))
    assert await depth(url, "jobs.dead") == 0


async def depth_is(url: str, queue: str, count: int) -> bool:
    return await depth(url, queue) == count


def kept(spool: Spool) -> int:
    """Bytes that somebody can still reach."""
    gc.collect()
    return spool.size


async def stopped_in_time(path: RealPath) -> None:
    async with asyncio.timeout(DEADLINE_S + GRACE_S):
        await path.stop(DEADLINE_S)
    assert path.settler.tally.acked == 0


@pytest.mark.parametrize("mib", [2, 8, pytest.param(60, marks=pytest.mark.long)])
async def test_large_messages_that_wait_for_a_confirm_are_given_back(
    own_broker: PrivateBroker, own_url: str, mib: int
) -> None:
    """2 MiB are in the sockets when it stops, of more a part is still in its file."""
    await declare(own_url, "jobs", x_queue_type="quorum")
    await fill(own_url, "jobs", mib * MIB)
    path = RealPath(own_url, most_bytes=MIB)
    with memory_alarm(own_broker):
        await path.start(workers=0, window=MESSAGES)
        await eventually(lambda: path.intake.unacked == MESSAGES, within_s=60)
        await stopped_in_time(path)
        assert kept(path.spool) == 0, "their files are gone"
        await all_back(own_url, "jobs")


@pytest.mark.parametrize("verdict", ["retry", "reject"])
async def test_copies_that_wait_for_a_confirm_are_given_back(
    own_broker: PrivateBroker, own_url: str, verdict: str
) -> None:
    """More of them than the sockets hold."""
    await declare(own_url, "jobs", x_queue_type="quorum")
    await fill(own_url, "jobs", 2 * MIB)
    path = RealPath(own_url)
    await path.start(window=MESSAGES, batch_size=MESSAGES)
    seen: set[str] = set()
    with memory_alarm(own_broker):
        for worker, batch in await eventually(lambda: path.intake.unacked == MESSAGES and path.running):
            keys = path.keys(batch)
            seen.update(keys)
            worker.answer(batch, *mixed(keys, dict.fromkeys(range(len(keys)), verdict), [0] * len(keys)))
        await eventually(lambda: path.sender.outstanding == len(seen))
        await stopped_in_time(path)
        await all_back(own_url, "jobs")


@pytest.mark.parametrize("begun", [MESSAGES, 2], ids=["all are there", "most come while it closes"])
async def test_what_the_broker_dropped_and_waits_for_a_confirm_is_given_back(
    own_broker: PrivateBroker, own_url: str, begun: int
) -> None:
    """Giving up the first message, which is being sent, takes seconds, in which others come."""
    parking = Parking(own_url, limits=MessageLimits(max_message_bytes=MIB))
    await parking.intake.open()
    await parking.publisher.open()
    await fill(own_url, TOPOLOGY.dropped_queue, 8 * MIB)
    with memory_alarm(own_broker):
        await parking.collector.start()
        await eventually(lambda: parking.spool.size >= begun * 8 * MIB)
        async with asyncio.timeout(GRACE_S):
            await asyncio.gather(parking.collector.close(), parking.publisher.close(), parking.intake.close())
        assert kept(parking.spool) == 0, "their files are gone, and nobody goes on with them"
        await all_back(own_url, TOPOLOGY.dropped_queue)
    assert not parking.rows


async def test_messages_that_are_still_on_their_way_do_not_delay_a_stop(amqp_url: str) -> None:
    """The answer to a cancel is behind 24 MiB, which take four minutes."""
    await declare(amqp_url, "jobs", x_queue_type="quorum")
    await fill(amqp_url, "jobs", 2 * MIB)
    wire = Wire(amqp_url)
    path = RealPath(amqp_url, through=await wire.start())
    wire.bytes_per_s = MIB // 10
    await path.start(workers=0, window=MESSAGES)
    await stopped_in_time(path)
    await wire.stop()
    await all_back(amqp_url, "jobs")
