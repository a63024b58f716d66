"""Queues and exchanges on a real node: what is created, what is taken as it is, what is refused."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit

import aio_pika
import pytest

from rabbitray.actors.errors import TopologyError
from rabbitray.actors.rabbitmq.declare import TopologyBuilder, server_of
from rabbitray.actors.rabbitmq.inspect import examine, exchange_refused
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.cluster.broker import PrivateBroker
from tests.kit.jobs_topology import JOBS

pytestmark = pytest.mark.versions

DLX = {"x-dead-letter-exchange": JOBS.exchange, "x-dead-letter-routing-key": JOBS.dead_queue}


@pytest.fixture
async def connection(amqp_url: str) -> AsyncIterator[aio_pika.abc.AbstractConnection]:
    """A connection into a fresh vhost."""
    async with await aio_pika.connect(amqp_url) as opened:
        yield opened


async def declare(connection: aio_pika.abc.AbstractConnection, name: str, **flags: Any) -> None:
    """An existing queue, made by somebody else."""
    async with connection.channel() as channel:
        await channel.declare_queue(name, **{"durable": True} | flags)


async def build(connection: aio_pika.abc.AbstractConnection, topology: Topology = JOBS) -> list[str]:
    return await TopologyBuilder(connection, topology).build()


async def refused(connection: aio_pika.abc.AbstractConnection, topology: Topology = JOBS) -> str:
    """The one line of the refusal."""
    with pytest.raises(TopologyError) as caught:
        await build(connection, topology)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


async def test_a_limit_of_queues_that_is_reached_is_told_with_the_way_out(
    connection: aio_pika.abc.AbstractConnection, broker: PrivateBroker, amqp_url: str
) -> None:
    vhost = quote(urlsplit(amqp_url).path.lstrip("/"), safe="")
    broker.api("PUT", f"/api/vhost-limits/{vhost}/max-queues", {"value": 3})
    said = await refused(connection)
    assert said.startswith(f"queue {JOBS.rung(JOBS.rung_delays_ms[0])!r} cannot be declared: PRECONDITION_FAILED")
    assert "(3) is reached; raise it, or have one rung with --retry-backoff fixed" in said


async def test_everything_is_created_as_quorum_queues(connection: aio_pika.abc.AbstractConnection) -> None:
    assert await build(connection) == []
    assert await build(connection) == [], "a second time nothing is different"
    for name, arguments in JOBS.on(server_of(connection).version).queues().items():
        assert arguments["x-queue-type"] == "quorum"
        await declare(connection, name, arguments=arguments)
    assert JOBS.main_arguments()["x-dead-letter-strategy"] == "at-least-once"
    assert JOBS.rung_arguments(1_000)["x-message-ttl"] == 1_000


async def test_a_message_in_a_rung_comes_back_to_the_main_queue(connection: aio_pika.abc.AbstractConnection) -> None:
    topology = Topology(queue="jobs", rung_delays_ms=(50,))
    await build(connection, topology)
    async with connection.channel() as channel:
        exchange = await channel.get_exchange(topology.exchange)
        for key in (topology.rung(50), topology.dead_queue):
            await exchange.publish(aio_pika.Message(key.encode()), routing_key=key)
        queue = await channel.get_queue(topology.queue)
        async with queue.iterator(timeout=20) as messages:
            message = await anext(messages)
        assert message.body == topology.rung(50).encode()
        await message.ack()
        dead = await channel.get_queue(topology.dead_queue)
        assert (await dead.get(no_ack=True, timeout=10)).body == topology.dead_queue.encode()


async def test_classic_queues_on_wish(connection: aio_pika.abc.AbstractConnection) -> None:
    topology = Topology(queue="jobs", queue_type="classic", rung_delays_ms=(1_000,))
    assert await build(connection, topology) == []
    await declare(connection, "jobs", arguments={"x-queue-type": "classic", **topology.main_arguments()})


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, ["x-queue-type={plain}", "x-dead-letter-exchange=None"]),
        ({"x-queue-type": "quorum", **DLX}, ["x-dead-letter-strategy=None"]),
        ({"x-max-length": 7, "x-overflow": "drop-head"}, ["x-max-length=7", "x-overflow='drop-head'"]),
        ({"x-queue-type": "quorum", "x-single-active-consumer": True, **DLX}, ["x-single-active-consumer=True"]),
        ({"x-queue-type": "quorum", "x-delivery-limit": 5, **DLX}, ["x-delivery-limit=5"]),
        ({"x-max-priority": 3}, ["x-max-priority=3"]),
        ({"x-queue-mode": "lazy"}, ["x-queue-mode='lazy'"]),
    ],
)
async def test_an_existing_queue_is_taken_as_it_is(
    connection: aio_pika.abc.AbstractConnection, arguments: dict[str, Any], told: list[str]
) -> None:
    does = server_of(connection).behaviour
    await declare(connection, "jobs", arguments=arguments)
    (warning,) = await build(connection)
    assert warning.startswith("queue 'jobs' exists with ")
    assert warning.endswith("; taken as it is")
    for difference in told:
        assert difference.format(plain="'classic'" if does.default_type_told else None) in warning
    await declare(connection, "jobs", arguments=arguments)  # unchanged


@pytest.mark.parametrize("limit", [{}, {"x-delivery-limit": -1}])
async def test_a_quorum_queue_without_dead_letters_is_taken_where_it_drops_nothing(
    connection: aio_pika.abc.AbstractConnection, limit: dict[str, Any]
) -> None:
    """Before RabbitMQ 4 nothing is dropped by default, and -1 is a limit that the first requeue exceeds."""
    await declare(connection, "jobs", arguments={"x-queue-type": "quorum", **limit})
    if bool(limit) is (server_of(connection).behaviour.unlimited == -1):
        (warning,) = await build(connection)
        assert "x-dead-letter-exchange=None" in warning
    else:
        assert "no dead-letter exchange" in await refused(connection)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"durable": False}, "is not durable"),
        ({"auto_delete": True}, "is auto-delete"),
        ({"durable": False, "auto_delete": True}, "'jobs' is"),
        ({"arguments": {"x-queue-type": "stream"}}, "is a stream, which keeps what was worked"),
        (
            {"arguments": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "jobs.retry.1000"}},
            "dead-letters into the retry rung 'jobs.retry.1000'",
        ),
        ({"arguments": {"x-queue-type": "quorum", "x-delivery-limit": 3}}, "has x-delivery-limit=3 and no dead-letter"),
    ],
)
async def test_what_would_lose_messages_is_refused(
    connection: aio_pika.abc.AbstractConnection, flags: dict[str, Any], says: str
) -> None:
    await declare(connection, "jobs", **flags)
    assert says in await refused(connection)


async def test_a_queue_of_another_connection_is_refused(
    amqp_url: str, connection: aio_pika.abc.AbstractConnection
) -> None:
    async with await aio_pika.connect(amqp_url) as other:
        await declare(other, "jobs", durable=False, exclusive=True)
        assert "is exclusive to another connection" in await refused(connection)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"x-message-ttl": 1_500}, ["x-message-ttl=1500", "we need x-message-ttl=1000"]),
        ({"x-dead-letter-routing-key": "elsewhere"}, ["x-dead-letter-routing-key='elsewhere'", "'jobs'"]),
        ({"x-expires": 60_000}, ["x-expires=60000", "we need x-expires=None"]),
    ],
)
async def test_a_rung_with_other_arguments_is_refused_with_the_difference(
    connection: aio_pika.abc.AbstractConnection, changes: dict[str, Any], says: list[str]
) -> None:
    await declare(connection, JOBS.rung(1_000), arguments=JOBS.rung_arguments(1_000) | changes)
    line = await refused(connection)
    assert "'jobs.retry.1000'" in line
    for part in says:
        assert part in line


async def test_a_rung_without_its_time_is_refused(connection: aio_pika.abc.AbstractConnection) -> None:
    arguments = JOBS.rung_arguments(1_000)
    del arguments["x-message-ttl"]
    await declare(connection, JOBS.rung(1_000), arguments=arguments)
    assert "x-message-ttl=None" in await refused(connection)


@pytest.mark.versions
@pytest.mark.parametrize("name", [JOBS.dead_queue, JOBS.dropped_queue, JOBS.rung(1_000)])
@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
async def test_a_stream_is_refused_in_each_place(
    connection: aio_pika.abc.AbstractConnection, name: str, queue_type: str
) -> None:
    await declare(connection, name, arguments={"x-queue-type": "stream"})
    line = await refused(connection, replace(JOBS, queue_type=queue_type))
    assert f"queue {name!r} is a stream" in line


@pytest.mark.versions
async def test_a_queue_that_became_a_stream_by_the_vhosts_default_is_refused(
    broker: PrivateBroker, amqp_url: str
) -> None:
    """3.10 knows no such default: the queue is a classic one there, and is taken."""
    vhost = urlsplit(amqp_url).path.lstrip("/")
    broker.api("PUT", f"/api/vhosts/{quote(vhost, safe='')}", {"default_queue_type": "stream"})
    async with await aio_pika.connect(amqp_url) as connection:
        await declare(connection, "jobs")
        queue = broker.api("GET", f"/api/queues/{quote(vhost, safe='')}/jobs")
        assert isinstance(queue, dict)
        if queue["type"] == "stream":
            assert "queue 'jobs' is a stream" in await refused(connection)
        else:
            assert "taken as it is" in (await build(connection))[0]


@pytest.mark.versions
@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
async def test_where_the_vhosts_default_is_a_stream_ours_are_none(
    broker: PrivateBroker, amqp_url: str, queue_type: str
) -> None:
    """What we make names its type, so that such a vhost may be used; `check` passes while the queues are not there."""
    vhost, topology = urlsplit(amqp_url).path.lstrip("/"), replace(JOBS, queue_type=queue_type)
    broker.api("PUT", f"/api/vhosts/{quote(vhost, safe='')}", {"default_queue_type": "stream"})
    async with await aio_pika.connect(amqp_url) as connection:
        assert (await examine(connection, topology)).refused == []
        assert await build(connection, topology) == []
        assert (await examine(connection, topology)).refused == []
    queues = broker.api("GET", f"/api/queues/{quote(vhost, safe='')}")
    assert isinstance(queues, list)
    assert {queue["name"]: queue["type"] for queue in queues} == dict.fromkeys(topology.queues(), queue_type)


async def test_a_lazy_dead_letter_queue_is_only_told(connection: aio_pika.abc.AbstractConnection) -> None:
    await declare(connection, JOBS.dead_queue, arguments={"x-queue-type": "classic", "x-queue-mode": "lazy"})
    (warning,) = await build(connection)
    assert "x-queue-mode='lazy'" in warning


async def test_a_classic_rung_is_only_weaker(connection: aio_pika.abc.AbstractConnection) -> None:
    classic = Topology(queue="jobs", queue_type="classic", rung_delays_ms=(1_000,))
    await declare(connection, JOBS.rung(1_000), arguments=classic.rung_arguments(1_000))
    (warning,) = await build(connection)
    assert "weaker than what we would create" in warning


async def exchange(connection: aio_pika.abc.AbstractConnection, **flags: Any) -> None:
    """Our exchange, made by somebody else."""
    async with connection.channel() as channel:
        plain: dict[str, Any] = {"type": aio_pika.ExchangeType.DIRECT, "durable": True}
        await channel.declare_exchange(JOBS.exchange, **plain | flags)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"type": aio_pika.ExchangeType.FANOUT}, "exists with type='fanout', but retries and dead letters need one"),
        ({"type": aio_pika.ExchangeType.TOPIC}, "type='topic'"),
        ({"type": aio_pika.ExchangeType.HEADERS}, "type='headers'"),
        ({"durable": False}, "durable='false'"),
        ({"auto_delete": True}, "auto_delete='true'"),
        ({"internal": True}, "internal='true'"),
        ({"arguments": {"alternate-exchange": "amq.fanout"}}, "alternate-exchange='amq.fanout'"),
        ({"type": aio_pika.ExchangeType.FANOUT, "durable": False, "auto_delete": True}, "'jobs.rabbitray' exists with"),
    ],
)
async def test_an_exchange_that_would_multiply_or_lose_copies_is_refused(
    connection: aio_pika.abc.AbstractConnection, flags: dict[str, Any], says: str
) -> None:
    await exchange(connection, **flags)
    line = await refused(connection)
    assert says in line
    assert "--dead-letter-exchange" in line
    assert await exchange_refused(connection, JOBS) == line, "`check` says the same"


async def test_an_exchange_as_we_would_make_it_is_taken(connection: aio_pika.abc.AbstractConnection) -> None:
    assert await exchange_refused(connection, JOBS) is None, "there is none, and looking makes none"
    await exchange(connection)
    assert await build(connection) == []
    assert await build(connection, replace(JOBS, queue="others", dead_letter_exchange="amq.direct")) == []


async def test_an_exchange_that_this_user_may_not_compare_is_taken_as_it_is(
    broker: PrivateBroker, amqp_url: str, connection: aio_pika.abc.AbstractConnection
) -> None:
    """What it brings to the wrong queue is not worked there, see test_strays."""
    await build(connection)
    async with connection.channel() as channel:
        await channel.exchange_delete(JOBS.exchange)
    await exchange(connection, type=aio_pika.ExchangeType.FANOUT)
    vhost, user = urlsplit(amqp_url).path.lstrip("/"), f"worker-{uuid.uuid4().hex[:8]}"
    broker.api("PUT", f"/api/users/{user}", {"password": user, "tags": ""})
    rights = {"configure": "^$", "write": ".*", "read": ".*"}
    broker.api("PUT", f"/api/permissions/{quote(vhost, safe='')}/{user}", rights)
    async with await aio_pika.connect(amqp_url.replace("guest:guest@", f"{user}:{user}@")) as poor:
        await build(poor)
        assert await exchange_refused(poor, JOBS) is None
    broker.api("DELETE", f"/api/users/{user}")
