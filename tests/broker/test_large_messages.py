"""A message beyond the limits, on a real node: its neighbours run once, it is parked whole, memory is flat."""

from __future__ import annotations

import asyncio
import hashlib
import tracemalloc
from pathlib import Path
from typing import Any

import aiormq.connection
import pytest
from aio_pika.abc import AbstractIncomingMessage

from rabbitray.actors.errors import PublishFailedError, UnroutableError
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.publisher import EncodedMessage, PublisherConfig
from rabbitray.actors.publisher.large import LargePublisher
from rabbitray.actors.router.spool import Spool, SpooledBody
from tests.kit.eventually import eventually
from tests.kit.intake_ways import Wire
from tests.kit.parking import TOPOLOGY, Parking
from tests.kit.queue_access import declare, depth, drained

MIB = 1024 * 1024
SMALL = MessageLimits(max_message_bytes=MIB)
VOID = {f"{number:04x}": None for number in range(21_500)}
"""A header table of 129,000 bytes, which takes twenty times as much once it is read."""


def pattern(size: int) -> bytes:
    """A body of which no two parts are alike."""
    return b"".join(hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(size // 32))


async def send(parking: Parking, body: bytes, name: str, queue: str = "jobs", **headers: Any) -> None:
    message = EncodedMessage(body=body, message_id=name, routing_key=queue, headers=headers, content_type="text/plain")
    await parking.publisher.publish_message(message)


async def dead(url: str) -> AbstractIncomingMessage:
    """The only dead letter."""
    [found] = await drained(url, TOPOLOGY.dead_queue)
    return found


async def test_forty_mib_and_a_large_table_hold_up_nobody(amqp_url: str) -> None:
    body = pattern(40 * MIB)
    names = [f"good-{number}" for number in range(100)]
    async with Parking(amqp_url) as parking:
        await send(parking, body, "large", **VOID)
        await asyncio.gather(*(send(parking, b"{}", name) for name in names))
        tracemalloc.start()
        await parking.intake.consume(200)
        await eventually(lambda: len(parking.good) == 100 and parking.rows, within_s=100)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert parking.good == names, "each once, and in order"
        assert (parking.intake.generation, parking.lost) == (1, []), "over one connection"
        await eventually(lambda: parking.intake.unacked == 0)
    assert most < 20 * MIB
    assert await depth(amqp_url, "jobs") == 0
    found = await dead(amqp_url)
    assert hashlib.sha256(found.body).digest() == hashlib.sha256(body).digest()
    assert (found.message_id, found.content_type, found.headers[h.REASON]) == ("large", "text/plain", "too_large")
    [row] = parking.rows
    assert (row["reason"], row["message_id"], row["body"]) == ("too_large", "large", None)
    assert "body of 41,943,040 bytes, at most 16,777,216" in row["error"]
    assert "in jobs.dead only" in row["error"]
    assert found.headers[h.HEADERS_CUT], "what lies behind the first 8,192 is not looked at, and counts once"
    assert all(b"\x04" + name.encode() + b"V" in row["raw_properties"] for name in list(VOID)[::1_000])


async def test_a_queue_that_was_there_before_and_dead_letters_nowhere(amqp_url: str) -> None:
    await declare(amqp_url, "jobs", x_queue_type="classic")
    body = pattern(3 * MIB)
    async with Parking(amqp_url, limits=SMALL) as parking:
        await send(parking, body, "large", theirs="kept")
        await parking.intake.consume(10)
        await eventually(lambda: parking.rows)
        await eventually(lambda: parking.intake.unacked == 0)
        assert parking.spool.size == 0, "its file is gone"
    found = await dead(amqp_url)
    assert found.body == body
    assert found.headers["theirs"] == "kept"


async def test_what_rabbitmq_dropped_is_collected_in_the_same_way(amqp_url: str) -> None:
    body = pattern(3 * MIB)
    async with Parking(amqp_url, limits=SMALL) as parking:
        await send(parking, body, "large", queue=TOPOLOGY.dropped_queue)
        await parking.collector.start()
        await eventually(lambda: parking.rows)
        await eventually(lambda: parking.collector.collected == 1)
    [row] = parking.rows
    assert (row["body"], "3,145,728 bytes is in jobs.dead only" in row["error"]) == (None, True)
    assert (await dead(amqp_url)).body == body


async def test_where_no_room_is_it_stays_in_its_queue(amqp_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    async with Parking(amqp_url, limits=SMALL, folder=folder) as parking:
        await send(parking, pattern(2 * MIB), "large")
        await send(parking, b"{}", "good")
        await parking.intake.consume(1)  # the second comes once the first was given back
        await eventually(lambda: parking.settler.tally.given_back >= 2, within_s=20)
        assert not parking.rows
        folder.mkdir()
        await eventually(lambda: parking.rows and parking.good, within_s=30)
    assert parking.good == ["good"]
    assert len((await dead(amqp_url)).body) == 2 * MIB


async def test_large_ones_beyond_the_room_for_all_of_them_wait_for_it(amqp_url: str) -> None:
    async with Parking(amqp_url, limits=SMALL, spool_bytes=5 * MIB) as parking:
        for number in range(6):
            await send(parking, pattern(2 * MIB), f"large-{number}")
        await parking.intake.consume(10)
        await eventually(lambda: len(parking.rows) == 6, within_s=60)
    found = await drained(amqp_url, TOPOLOGY.dead_queue)
    assert sorted(str(one.message_id) for one in found) == [f"large-{number}" for number in range(6)]


async def test_a_body_that_takes_long_to_come_keeps_its_connection(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiormq drops a connection after 6 s without a frame here; both bodies take 9 s."""
    monkeypatch.setattr(aiormq.connection.Connection, "HEARTBEAT_GRACE_MULTIPLIER", 2)
    await asyncio.gather(*(_comes_slowly(amqp_url, limits) for limits in (MessageLimits(), SMALL)))


async def _comes_slowly(url: str, limits: MessageLimits) -> None:
    wire = Wire(url)
    parking = Parking(url, through=await wire.start(), limits=limits, heartbeat_s=2)
    async with parking:
        await send(parking, pattern(9 * MIB // 5), f"slow-{limits.max_message_bytes}")
        wire.bytes_per_s = MIB // 5
        await parking.intake.consume(1)
        await eventually(lambda: parking.rows or parking.good, within_s=60)
        assert (parking.intake.generation, parking.lost) == (1, [])
    await wire.stop()


# -- the publisher of large messages


class Bytes:
    """A body in memory that acts as one in a file."""

    def __init__(self, body: bytes) -> None:
        self.size = len(body)
        self._body = body

    def read(self, at: int, count: int) -> bytes:
        return self._body[at : at + count]


async def test_a_large_message_that_no_queue_takes_comes_back_without_its_body(amqp_url: str) -> None:
    large = LargePublisher(PublisherConfig(url=amqp_url, queue="jobs"))
    message = EncodedMessage(body=b"", message_id="m", routing_key="nowhere")
    body = Bytes(b"x" * 20 * MIB)
    tracemalloc.start()
    with pytest.raises(UnroutableError, match=r"message m: no queue takes it \(RabbitMQ: 312 NO_ROUTE\)"):
        await large.publish(message, body)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10 * MIB


async def test_a_body_that_cannot_be_read_to_its_end_is_not_published(amqp_url: str, tmp_path: Path) -> None:
    await declare(amqp_url, "jobs")
    large = LargePublisher(PublisherConfig(url=amqp_url, queue="jobs"))
    message = EncodedMessage(body=b"", message_id="m", routing_key="jobs")
    body: SpooledBody = Spool(tmp_path).begin(3 * MIB)
    body.write([b"x" * 2 * MIB])
    with pytest.raises(PublishFailedError, match="ends early"):
        await large.publish(message, body)
    body.write([b"x" * MIB])
    await large.publish(message, body)
    [found] = await drained(amqp_url, "jobs")
    assert found.body == b"x" * 3 * MIB
