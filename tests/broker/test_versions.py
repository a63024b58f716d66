"""What versions of RabbitMQ do otherwise: the table of actors/rabbitmq/versions, tried on this run's broker."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelAccessRefused

from rabbitray.actors.rabbitmq.declare import server_of
from rabbitray.actors.rabbitmq.versions import Behaviour
from rabbitray.cluster.broker import PrivateBroker

pytestmark = pytest.mark.versions

MORE_THAN_THE_LIMIT = 25
QUORUM = {"x-queue-type": "quorum"}


@pytest.fixture
async def connection(amqp_url: str) -> AsyncIterator[AbstractConnection]:
    """Into a fresh vhost."""
    async with await aio_pika.connect(amqp_url) as opened:
        yield opened


@pytest.fixture
async def channel(connection: AbstractConnection) -> AsyncIterator[AbstractChannel]:
    async with connection.channel() as opened:
        yield opened


@pytest.fixture
def does(connection: AbstractConnection) -> Behaviour:
    """What the table says of this broker."""
    return server_of(connection).behaviour


def test_it_runs_the_version_that_was_chosen(broker: PrivateBroker, connection: AbstractConnection) -> None:
    assert str(server_of(connection)) == f"RabbitMQ {broker.version}"
    assert server_of(connection).note is None


async def returned(channel: AbstractChannel, way: str, times: int, **arguments: int) -> int:
    """How often a message could be got and returned by nack or reject, at most so many times."""
    queue = await channel.declare_queue(uuid.uuid4().hex, durable=True, arguments=QUORUM | arguments)
    await channel.default_exchange.publish(aio_pika.Message(b"once", delivery_mode=2), queue.name)
    for got in range(times):
        try:
            message = await queue.get(timeout=20)
        except aio_pika.exceptions.QueueEmpty:
            return got
        await (message.nack(requeue=True) if way == "nack" else message.reject(requeue=True))
        await channel.set_qos(0)  # its reply comes after RabbitMQ has taken the return
    return times


@pytest.mark.parametrize("way", ["nack", "reject"])
async def test_the_default_delivery_limit(channel: AbstractChannel, does: Behaviour, way: str) -> None:
    counts = does.nack_counts or way == "reject"
    most = does.delivery_limit + 1 if does.delivery_limit is not None and counts else MORE_THAN_THE_LIMIT
    assert await returned(channel, way, MORE_THAN_THE_LIMIT) == most


async def test_no_limit_can_be_asked_for(channel: AbstractChannel, does: Behaviour) -> None:
    most = MORE_THAN_THE_LIMIT if does.unlimited == -1 else 1
    assert await returned(channel, "reject", MORE_THAN_THE_LIMIT, **{"x-delivery-limit": -1}) == most


async def test_a_look_without_a_right(
    broker: PrivateBroker, amqp_url: str, channel: AbstractChannel, does: Behaviour
) -> None:
    await channel.declare_queue("looked-at", durable=True)
    vhost, user = urlsplit(amqp_url).path.lstrip("/"), f"user-{uuid.uuid4().hex[:8]}"
    broker.api("PUT", f"/api/users/{user}", {"password": user, "tags": ""})
    none = {"configure": "^$", "write": "^$", "read": "^$"}
    broker.api("PUT", f"/api/permissions/{quote(vhost, safe='')}/{user}", none)
    refused = pytest.raises(ChannelAccessRefused) if does.look_needs_right else contextlib.nullcontext()
    async with await aio_pika.connect(amqp_url.replace("guest:guest@", f"{user}:{user}@")) as poor:
        with refused:
            await (await poor.channel()).declare_queue("looked-at", passive=True)
    broker.api("DELETE", f"/api/users/{user}")


async def test_what_is_returned_can_be_held_back(channel: AbstractChannel, does: Behaviour) -> None:
    """Earlier versions take the arguments, and do nothing."""
    arguments = {"x-delayed-retry-type": "all", "x-delayed-retry-min": 600_000, "x-delayed-retry-max": 600_000}
    back = await returned(channel, "nack", 2, **arguments)
    assert (back == 1) is does.delayed_retry


async def test_a_lazy_queue_is_taken_by_every_version(channel: AbstractChannel) -> None:
    await channel.declare_queue("lazy", durable=True, arguments={"x-queue-mode": "lazy"})


async def test_a_queue_without_a_type(
    broker: PrivateBroker, amqp_url: str, channel: AbstractChannel, does: Behaviour
) -> None:
    await channel.declare_queue("plain", durable=True)
    queue: Any = broker.api("GET", f"/api/queues{urlsplit(amqp_url).path}/plain")
    assert (queue["arguments"].get("x-queue-type") == "classic") is does.default_type_told


async def published_order(channel: AbstractChannel, *priorities: int) -> list[int]:
    """In which order messages of these priorities come out of a quorum queue."""
    queue = await channel.declare_queue(uuid.uuid4().hex, durable=True, arguments=QUORUM)
    for priority in priorities:
        message = aio_pika.Message(str(priority).encode(), delivery_mode=2, priority=priority)
        await channel.default_exchange.publish(message, queue.name)
    return [int((await queue.get(no_ack=True, timeout=20)).body) for _ in priorities]


async def test_priorities_of_a_quorum_queue(channel: AbstractChannel, does: Behaviour) -> None:
    assert (await published_order(channel, 1, 9) == [9, 1]) is (does.quorum_priorities >= 2)
    assert (await published_order(channel, 1, 2, 3) == [3, 2, 1]) is (does.quorum_priorities > 2)
    assert (await published_order(channel, 30, 31) == [31, 30]) is (does.quorum_priorities == 32)


async def test_mirrors_of_classic_queues(broker: PrivateBroker, amqp_url: str, does: Behaviour) -> None:
    policy = {"pattern": "^mirrored$", "definition": {"ha-mode": "all"}, "apply-to": "queues"}
    taken = True
    try:
        broker.api("PUT", f"/api/policies{urlsplit(amqp_url).path}/mirrors", policy)
    except HTTPError as refusal:
        with refusal:
            taken = refusal.code != 400
    assert taken is does.mirrored_classic


async def test_an_x_death_that_a_client_wrote(channel: AbstractChannel, does: Behaviour) -> None:
    arguments = {"x-message-ttl": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "after"}
    after = await channel.declare_queue("after", durable=True)
    await channel.declare_queue("before", durable=True, arguments=arguments)
    forged = {"queue": "before", "reason": "expired", "count": 6, "exchange": "", "routing-keys": ["before"]}
    message = aio_pika.Message(b"forged", headers={"x-death": [forged]})
    await channel.default_exchange.publish(message, "before")

    async with after.iterator(no_ack=True, timeout=20) as messages:
        deaths: Any = (await anext(messages)).headers["x-death"]
    assert [death["count"] for death in deaths] == [7 if does.reads_x_death else 1]


@pytest.mark.long
def test_the_largest_message(does: Behaviour) -> None:
    """The tests' nodes are told to take more."""
    with PrivateBroker() as node:
        assert str(does.max_message_bytes) in node.ctl("eval", "application:get_env(rabbit, max_message_size).")
