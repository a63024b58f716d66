"""A copy that comes to a queue which it was not meant for, on a real node: it is not worked, whatever is bound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aio_pika
import pytest

from rabbitray.actors.message import headers as h
from rabbitray.actors.publisher import Publisher, PublisherConfig
from rabbitray.actors.rabbitmq.inspect import contact
from rabbitray.actors.secret import Secret
from rabbitray.cluster.results.dead_letter_replay import Replay, Replayed, ReplayPlan
from rabbitray.cluster.results.dead_letter_selection import Selection
from tests.kit.eventually import eventually
from tests.kit.node_path import NodePath
from tests.kit.queue_access import depth

EXCHANGE = "dlx"


@asynccontextmanager
async def started(*paths: NodePath) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for path in paths:
            await path.start()
            stack.push_async_callback(path.stop)
        yield


@pytest.fixture
async def channel(amqp_url: str) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as opened:
        yield opened


async def send(channel: aio_pika.abc.AbstractChannel, queue: str, name: str, **headers: str | int) -> None:
    """By the default exchange, as the management page moves a message."""
    message = aio_pika.Message(b"{}", message_id=name, delivery_mode=2, headers=dict(headers))
    await channel.default_exchange.publish(message, routing_key=queue)


async def bind_all(channel: aio_pika.abc.AbstractChannel, kind: str, *paths: NodePath) -> None:
    """Each queue of each pool gets what was meant for any of them."""
    names = [name for path in paths for name in path.topology.queues()]
    if kind == "fanout":  # made behind the back of pools that run: at a start it would be refused
        await channel.exchange_delete(EXCHANGE)
        await channel.declare_exchange(EXCHANGE, aio_pika.ExchangeType.FANOUT, durable=True)
    for name in names:
        queue = await channel.get_queue(name)
        for key in names:
            await queue.bind(EXCHANGE, routing_key=key)


async def replayed(url: str, path: NodePath) -> Replayed:
    plan, names = ReplayPlan(selection=Selection()), path.topology
    config = PublisherConfig(url=url, queue="jobs")
    async with contact(Secret(url), within_s=5) as connection, Publisher(config) as publisher:
        replay = Replay(connection, publisher, queue="jobs", dead_queue=names.dead_queue, exchange=names.exchange)
        return await replay.run(plan)


@pytest.mark.parametrize("kind", ["direct", "fanout"])
async def test_a_message_that_fails_runs_once_for_each_try_and_in_its_own_pool_alone(
    amqp_url: str, channel: aio_pika.abc.AbstractChannel, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    jobs, others = NodePath(amqp_url, "jobs", exchange=EXCHANGE), NodePath(amqp_url, "others", exchange=EXCHANGE)
    async with started(jobs, others):
        await bind_all(channel, kind, jobs, others)
        await send(channel, "jobs", "fails")
        await eventually(lambda: jobs.store.dead)
        # 3 copies to 10 queues: what is for a main or a dropped queue, and what comes back from a rung, is noticed
        await eventually(lambda: (jobs.strays, others.strays) == (10, 12), within_s=20)
        await asyncio.sleep(3 * max(jobs.topology.rung_delays_ms) / 1000)
        assert [key for _, key in jobs.service.calls] == ["fails"] * 3
        assert others.service.calls == []
        assert (jobs.strays, others.strays) == (10, 12)
        assert len(jobs.store.dead) == 1
        assert others.store.dead == []
        assert [await depth(amqp_url, name) for name in ("jobs", "others", "jobs.dropped", "others.dropped")] == [0] * 4
        assert caplog.text.count("meant for another queue than jobs;") == 2, "once by each consumer"
    found = await replayed(amqp_url, jobs)
    assert (found.strays, found.replayed) == (2, 1), "retry copies lie among its dead letters, too"
    assert await depth(amqp_url, "jobs.dead") == 0


async def test_what_a_person_moves_is_worked_like_any_message(
    amqp_url: str, channel: aio_pika.abc.AbstractChannel
) -> None:
    """A shovel and the management page publish by the default exchange, with the headers that the message has."""
    old = NodePath(amqp_url, "old", exchange=EXCHANGE, ends="dead")
    new = NodePath(amqp_url, "new", exchange=EXCHANGE, ends="done")
    async with started(old):
        await send(channel, "old", "parked")
        await eventually(lambda: old.store.dead)
    rung = await channel.get_queue(old.topology.rung(50))
    async with started(new):
        parked = await (await channel.get_queue("old.dead")).get(no_ack=True)
        moved = aio_pika.Message(parked.body, headers=parked.headers, message_id=parked.message_id)
        await channel.default_exchange.publish(moved, "new")
        in_a_rung = {h.ATTEMPT: 1, "x-death": [
            {"queue": rung.name, "exchange": EXCHANGE, "routing-keys": [rung.name], "reason": "expired", "count": 1}
        ]}  # fmt: skip
        await channel.default_exchange.publish(aio_pika.Message(b"{}", headers=in_a_rung, message_id="renamed"), "new")  # type: ignore[dict-item]
        await eventually(lambda: len(new.service.done) == 2)
        assert new.strays == 0
