"""What real clients wrote on a message is on it after a retry, as a dead letter, and after its replay: each property.

Real: the clients, what RabbitMQ keeps and adds, the way through a rung, and `dlq replay`.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import aio_pika
import kombu
import msgspec
import pika
import pytest
from aio_pika.abc import AbstractChannel

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.message import Message, message_of
from rabbitray.actors.message.parcel import whole_message
from rabbitray.actors.message.properties import fields as f
from rabbitray.actors.message.properties.fields import Fields, fields_of
from rabbitray.actors.message.properties.property_list import Properties
from rabbitray.actors.publisher import Publisher, PublisherConfig
from rabbitray.actors.rabbitmq.frame_guard import original
from rabbitray.actors.rabbitmq.inspect import contact
from rabbitray.actors.router.delivery import Delivery, message_failure
from rabbitray.actors.router.settlement.dropped import Collector
from rabbitray.actors.router.settlement.retries import RetryLimits, Rung
from rabbitray.actors.secret import Secret
from rabbitray.cluster.results.dead_letter_replay import Replay, ReplayPlan
from rabbitray.cluster.results.dead_letter_selection import Selection
from tests.kit.eventually import eventually
from tests.kit.intake_ways import TOPOLOGY, all_got
from tests.kit.queue_access import depth
from tests.kit.raw_amqp import headers_of, taken
from tests.kit.settling_pool import SettlingPool, settling_pool

EXCHANGE, KEY = "shop", "order.created"
BODY = b'{"order":1}'
AT = dt.datetime(2026, 1, 2, 12, tzinfo=dt.UTC)
HEADERS: dict[str, Any] = {"tenant": "a", "count": 2**40, "nested": {"a": [1, "b", None]}}
LONG_MS = 600_000
EXPECTED = Message(
    body=BODY, content_type="application/vnd.shop.order+json", content_encoding="utf-8", headers=HEADERS,
    exchange=EXCHANGE, routing_key=KEY, message_id="m-1", type="order", correlation_id="c-1", reply_to="answers",
    app_id="shop", user_id="guest", priority=7, timestamp=int(AT.timestamp()),
)  # fmt: skip
AMQP = {
    "content_type": EXPECTED.content_type, "content_encoding": "utf-8", "headers": HEADERS, "message_id": "m-1",
    "correlation_id": "c-1", "reply_to": "answers", "app_id": "shop", "user_id": "guest", "priority": 7,
}  # fmt: skip


def by_pika(url: str, expires: bool) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    own = {"type": "order", "timestamp": int(AT.timestamp()), "delivery_mode": 2}
    own |= {"expiration": str(LONG_MS)} if expires else {}
    connection.channel().basic_publish(EXCHANGE, KEY, BODY, pika.BasicProperties(**AMQP, **own))
    connection.close()


def by_kombu(url: str, expires: bool) -> None:
    """It has its own ways: `message_id` and its like are passed through."""
    own: dict[str, Any] = {name: value for name, value in AMQP.items() if name != "headers"}
    own |= {"type": "order", "timestamp": int(AT.timestamp()), "delivery_mode": 2}
    own |= {"expiration": LONG_MS / 1_000} if expires else {}
    with kombu.Connection(url) as connection:
        producer = kombu.Producer(connection, serializer=None)
        producer.publish(BODY, exchange=EXCHANGE, routing_key=KEY, headers=HEADERS, **own)


async def by_aio_pika(url: str, expires: bool) -> None:
    own: dict[str, Any] = {"type": "order", "timestamp": AT, "delivery_mode": 2}
    own |= {"expiration": LONG_MS / 1_000} if expires else {}
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        exchange = await channel.get_exchange(EXCHANGE)
        await exchange.publish(aio_pika.Message(BODY, **AMQP, **own), KEY)


Client = Callable[[str, bool], Awaitable[None] | None]


async def bound(url: str) -> None:
    """The producer's exchange leads to the queue."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        assert isinstance(channel, AbstractChannel)
        exchange = await channel.declare_exchange(EXCHANGE, aio_pika.ExchangeType.TOPIC, durable=True)
        await (await channel.get_queue(TOPOLOGY.queue)).bind(exchange, "order.*")


def told(delivery: Delivery) -> Message:
    """What a handler that asks for the whole message is told of it."""
    parcel = delivery.with_envelope(TOPOLOGY.copies_come_by)
    assert parcel.envelope is not None
    return message_of(parcel.envelope, parcel.body, parcel.received_ms)


def apart(properties: Properties) -> Fields:
    """All properties but those that change on purpose."""
    found = fields_of(properties.raw)
    assert found is not None
    return {flag: raw for flag, raw in found.items() if flag not in (f.HEADERS, f.DELIVERY_MODE, f.PRIORITY)}


def theirs(properties: Properties) -> dict[bytes, bytes]:
    """The producer's headers, each as it stands there; RabbitMQ writes an `l` for an `L` when a rung lets it go."""
    found = {name: value for name, value in headers_of(properties).items() if not name.startswith(b"x-")}
    return {name: b"l" + value[1:] if value[:1] == b"L" else value for name, value in found.items()}


def came(one: Delivery) -> Properties:
    assert isinstance(one.properties, Properties)
    return one.properties


async def retried_parked_and_replayed(url: str, pool: SettlingPool) -> tuple[Properties, bytes]:
    """The dead letter that there was; the three times that the message came are in `pool.way.got`."""
    got = pool.way.got
    await all_got(pool.way, 1)
    await pool.outbox.retry(got[0], whole_message(got[0].parcel), Rung(delay_ms=TOPOLOGY.rung_delays_ms[0], attempt=1))
    pool.way.intake.finish([got[0]])
    await all_got(pool.way, 2)
    await pool.settler.park(got[1], message_failure(got[1], "rejected", "no", "Reject"))
    await eventually(lambda: pool.way.intake.unacked == 0)
    async with contact(Secret(url), within_s=5) as connection, Publisher(PublisherConfig(url=url, queue="jobs")) as own:

        async def replay(*ids: str) -> int:
            plan = ReplayPlan(selection=Selection(ids=frozenset(ids)))
            found = await Replay(connection, own, queue=TOPOLOGY.queue, dead_queue=TOPOLOGY.dead_queue).run(plan)
            return found.replayed

        async def there_again() -> bool:
            return await depth(url, TOPOLOGY.dead_queue) == 1

        assert await replay("another") == 0, "it is put back"
        async with connection.channel(publisher_confirms=False) as channel:
            dead = await (await channel.get_queue(TOPOLOGY.dead_queue)).get(fail=True)
            assert dead is not None
            letter = dead
            await dead.nack(requeue=True)
        await eventually(there_again)
        assert await replay("m-1") == 1
    await all_got(pool.way, 3)
    return original(letter), letter.body


@pytest.mark.parametrize(("client", "expires"), [(by_pika, True), (by_kombu, False), (by_aio_pika, True)])
async def test_each_property_is_what_it_was_after_a_retry_and_a_replay(
    amqp_url: str, client: Client, expires: bool
) -> None:
    async with settling_pool(amqp_url, RetryLimits(max_retries=3, rungs_ms=TOPOLOGY.rung_delays_ms)) as pool:
        await bound(amqp_url)
        await pool.way.intake.consume(5)
        if (sending := client(amqp_url, expires)) is not None:
            await sending
        letter, body = await retried_parked_and_replayed(amqp_url, pool)
        first, second, third = pool.way.got
        pool.way.intake.finish([third])
    until = told(first).expires_at
    assert (until is not None) == expires
    if until is not None:
        assert abs(until.timestamp() - time.time() - LONG_MS / 1_000) < 20
    for one in (first, second, third):
        sent = told(one)
        assert msgspec.structs.replace(sent, expires_at=None, delivery_count=0, redelivered=False) == EXPECTED
        assert sent.expires_at == until, "counted from the first delivery"
    sent_with = {f.EXPIRATION, f.USER_ID}
    before = {flag: raw for flag, raw in apart(came(first)).items() if flag not in sent_with}
    for after in (came(second), letter, came(third)):
        assert apart(after) == before
        assert theirs(after) == theirs(came(first))
    assert body == BODY
    assert [(one.headers or {}).get(h.PRIORITY) for one in (came(second), letter, came(third))] == [None, 7, None]
    [row] = pool.rows
    assert row["raw_properties"] == came(second).raw, "the table has all of them, too"
    assert await taken(amqp_url, TOPOLOGY.dead_queue) == []


async def test_what_expired_is_worked_when_its_copy_comes_back_from_a_rung(amqp_url: str) -> None:
    """Its expiry passes while it waits there: nobody drops it, its handler is told."""
    async with settling_pool(amqp_url) as pool:
        await pool.way.intake.consume(5)
        async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
            message = aio_pika.Message(BODY, message_id="m-1", expiration=0.3)
            await channel.default_exchange.publish(message, TOPOLOGY.queue)
        await all_got(pool.way, 1)
        await pool.outbox.retry(pool.way.got[0], whole_message(pool.way.got[0].parcel), Rung(delay_ms=1_000, attempt=1))
        pool.way.intake.finish([pool.way.got[0]])
        await all_got(pool.way, 2)
        until = told(pool.way.got[1]).expires_at
        assert until is not None
        assert until < dt.datetime.now(dt.UTC)
        pool.way.intake.finish([pool.way.got[1]])


async def test_what_rabbitmq_dropped_is_a_dead_letter_with_all_of_it(amqp_url: str) -> None:
    """Its record of the death tells the way and the expiry, which it took off."""
    async with settling_pool(amqp_url) as pool:
        await bound(amqp_url)
        async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
            own = AMQP | {"expiration": 0.01, "type": "order", "timestamp": AT, "delivery_mode": 2}
            await (await channel.get_exchange(EXCHANGE)).publish(aio_pika.Message(BODY, **own), KEY)
        sent_ms = time.time() * 1_000
        collector = Collector(replace(pool.way.config, queue=TOPOLOGY.dropped_queue), pool.settler_for)
        await collector.start()
        await eventually(lambda: collector.collected == 1)
        await collector.close()
    [(letter, body)] = await taken(amqp_url, TOPOLOGY.dead_queue)
    ours = letter.headers or {}
    assert (ours[h.EXCHANGE], ours[h.ROUTING_KEY], ours[h.USER_ID], ours[h.PRIORITY]) == (EXCHANGE, KEY, "guest", 7)
    assert abs(ours[h.EXPIRES] - sent_ms) < 5_000
    assert (body, ours[h.REASON]) == (BODY, "broker_expired")
    fields = fields_of(letter.raw) or {}
    texts = {f.CORRELATION_ID: "c-1", f.REPLY_TO: "answers", f.TYPE: "order", f.APP_ID: "shop", f.MESSAGE_ID: "m-1"}
    assert {flag: f.text_in(fields, flag) for flag in texts} == texts
    assert f.number_in(fields, f.TIMESTAMP) == int(AT.timestamp())
