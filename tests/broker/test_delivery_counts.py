"""What RabbitMQ counts of the messages that a pool gives back, which must never use one up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import aio_pika
import pytest

from rabbitray.actors.message.properties.property_list import from_raw
from rabbitray.actors.rabbitmq.declare import server_of
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.intake.consumer import Intake
from rabbitray.actors.router.settlement.dropped import dropped as dropped_failure
from tests.kit import raw_amqp
from tests.kit.deliveries import delivery
from tests.kit.eventually import eventually
from tests.kit.intake_ways import TOPOLOGY
from tests.kit.raw_amqp import ONE_OF_EACH, entry, headers_of, long, scalar, short, table, taken
from tests.kit.real_path import RealPath
from tests.kit.settling_pool import settling_pool

pytestmark = pytest.mark.versions

GIVEN_BACK = 25
"""RabbitMQ 4.0 drops at the 21st return, by default."""

QUORUM: dict[str, Any] = {"x-queue-type": "quorum"}


async def existing(url: str, *, count: int) -> bool:
    """A quorum queue as people have them, with messages; whether this broker counts what is given back."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        await channel.declare_queue("jobs", durable=True, arguments=QUORUM)
        for number in range(count):
            message = aio_pika.Message(b"{}", message_id=f"k{number}", delivery_mode=2)
            await channel.default_exchange.publish(message, "jobs")
        return server_of(connection).behaviour.nack_counts


async def ready(url: str, queue: str = "jobs") -> int:
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        found = await channel.declare_queue(queue, passive=True)
        return found.declaration_result.message_count or 0


async def test_holds_use_up_no_message_of_an_existing_queue(amqp_url: str) -> None:
    """Neither argument nor dead-letter exchange: at its limit RabbitMQ would drop it without a word."""
    counted = await existing(amqp_url, count=5)
    path = RealPath(amqp_url, take_limited=True)
    await path.start(workers=0, window=10)
    for _ in range(GIVEN_BACK):
        await eventually(lambda: len(path.router.buffer) == 5)
        await path.router.hold("paused", "a test")
        await path.router.release("paused")
    await eventually(lambda: len(path.router.buffer) == 5)
    assert path.settler.tally.renewed == (10 if counted else 0), "at the 10th return and at the 21st"
    assert path.router.arrivals.near_limit == path.settler.tally.renewed
    path.pool.resize(1)
    await eventually(_worked(path))
    assert path.rows() == {f"k{number}": 1 for number in range(5)}
    assert await ready(amqp_url) == 0
    await path.stop()


def _worked(path: RealPath) -> Any:
    def look() -> bool:
        for worker, batch in path.running:
            worker.done(batch)
        return len(path.store.results) == 5 and not path.intake.unacked

    return look


KEPT = {name: value for name, value in ONE_OF_EACH.items() if name not in (b"L", b"V")}
OURS = {
    b"x-rabbitray-attempt": scalar("l", 2),
    b"x-rabbitray-key": long("S", b"the-key"),
    b"x-rabbitray-due": scalar("l", 1),
    b"x-rabbitray-hops": scalar("l", 3),
}
GONE = {
    b"x-delivery-count": scalar("l", 10),
    b"x-acquired-count": scalar("l", 11),
    b"CC": long("A", long("S", b"jobs.dead")),
}


async def test_a_fresh_copy_is_the_same_message(amqp_url: str) -> None:
    """Body, all properties and all headers, byte by byte; as headers what it was sent with and no copy can be."""
    flags = b"\xff\xf8"  # all but the cluster id
    raw = b"".join(
        [
            flags,
            short(b"text/x;v=\xff"),
            short(b"gzip"),
            table(KEPT | OURS | GONE),
            b"\x01\x05",  # transient, priority 5
            *map(short, (b"correlation", b"reply.to", b"600000", b"m-\xff")),
            (1_700_000_000).to_bytes(8, "big"),
            *map(short, (b"order", b"guest", b"shop")),
        ]
    )
    body = bytes(range(256)) * 3
    async with settling_pool(amqp_url) as pool:
        await pool.way.intake.consume(1)
        await raw_amqp.publish(amqp_url, "jobs", [(raw, body)])
        await eventually(lambda: pool.way.got)
        assert await pool.settler.whole.renew(pool.way.got[0])
        await eventually(lambda: len(pool.way.got) == 2 and not pool.settler.tally.given_back)
        assert pool.settler.tally.renewed == 1
        assert pool.settler.tally.acked == 1
        copy = pool.way.got[1]
        await pool.way.intake.pause()
        pool.way.intake.give_back([copy])
        ((found, found_body),) = await _taken(amqp_url)
    assert found_body == body
    headers = headers_of(found)
    headers.pop(b"x-delivery-count", None)  # of the copy itself
    headers.pop(b"x-acquired-count", None)
    expires = headers.pop(b"x-rabbitray-expires")
    assert expires == scalar("l", pool.way.got[0].parcel.received_ms + 600_000), "it would be dropped, or deleted"
    sent = {b"user-id": b"guest", b"exchange": b"", b"routing-key": b"jobs"}
    assert headers == KEPT | OURS | {b"x-rabbitray-" + name: long("S", value) for name, value in sent.items()}
    before, after = raw.replace(table(KEPT | OURS | GONE), b""), _without_headers(found)
    for gone in (short(b"guest"), short(b"600000")):
        before = before.replace(gone, b"")
    assert after == b"\xfe\xe8" + before[2:].replace(b"\x01\x05", b"\x02\x05")


async def test_a_dropped_message_is_renewed_where_it_lies_and_keeps_why_it_was_dropped(amqp_url: str) -> None:
    death = long("F", entry(b"reason", long("S", b"expired")) + entry(b"queue", long("S", b"jobs")))
    raw = raw_amqp.properties(table({b"x-death": long("A", death)} | GONE))
    async with settling_pool(amqp_url) as pool:
        dropped: list[Delivery] = []
        config = replace(pool.way.config, queue=TOPOLOGY.dropped_queue)
        intake = Intake(config, on_delivery=dropped.append, on_lost=lambda _: None)
        await intake.open()
        await intake.consume(1)
        await raw_amqp.publish(amqp_url, TOPOLOGY.dropped_queue, [(raw, b"{}")])
        await eventually(lambda: dropped)
        assert await pool.settler_for(intake).whole.renew(dropped[0], dropped=True)
        await eventually(lambda: len(dropped) == 2)
        assert dropped_failure(dropped[1]).reason == "broker_expired"
        await intake.close()


def _without_headers(found: Any) -> bytes:
    raw: bytes = found.raw
    return raw[: found.table_at - 4] + raw[found.table_at + found.header_bytes :]


async def _taken(url: str) -> Any:
    return await eventually(lambda: taken(url, "jobs"), message="it did not come back")


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\x10\x00\x02", id="no key"),
        pytest.param(b"\x30\x00" + table([entry(b"x" * 3, b"Z")]) + b"\x02", id="unreadable"),
    ],
)
async def test_what_cannot_be_the_same_is_worked_as_it_is(amqp_url: str, raw: bytes) -> None:
    async with settling_pool(amqp_url) as pool:
        one = delivery(1, body=b"?", message_id=None, properties=from_raw(raw))
        one.generation = pool.way.intake.generation
        assert not await pool.settler.whole.renew(one)
        assert pool.settler.tally.renewed == 0
    assert await ready(amqp_url) == 0
