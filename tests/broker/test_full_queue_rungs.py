"""Rungs whose time is over while the main queue takes nothing: RabbitMQ keeps such a copy and tells nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import aio_pika
import pytest
from aio_pika.exceptions import DeliveryError

from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.cluster.broker import PrivateBroker
from rabbitray.cluster.driver.until_empty import Sight
from tests.kit.eventually import eventually
from tests.kit.plain_path import mixed
from tests.kit.pool_status import QUIET_REPORT
from tests.kit.real_path import RealPath

pytestmark = pytest.mark.versions

FULL = {"pattern": "^jobs$", "apply-to": "queues", "definition": {"max-length": 1, "overflow": "reject-publish"}}


async def ready(url: str, queue: str) -> int:
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        found = await channel.declare_queue(queue, passive=True)
        return found.declaration_result.message_count or 0


async def publish(url: str, *keys: str) -> None:
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        for key in keys:
            message = aio_pika.Message(b"{}", message_id=key, delivery_mode=2)
            await channel.default_exchange.publish(message, "jobs")


async def fill(url: str) -> list[str]:
    """Publishes until the queue takes no more; what it took."""
    for number in range(1_000):
        try:
            await publish(url, f"filler{number}")
        except DeliveryError:
            return [f"filler{taken}" for taken in range(number)]
    raise AssertionError("it never says that it is full")


def rungs(topology: Topology) -> list[str]:
    return [topology.rung(delay) for delay in topology.rung_delays_ms]


def rungs_empty(url: str, topology: Topology) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return not any([await ready(url, rung) for rung in rungs(topology)])

    return look


def worked(path: RealPath, keys: list[str]) -> Callable[[], bool]:
    """Works what comes, until these are done and nothing is held."""

    def look() -> bool:
        for worker, batch in path.running:
            worker.done(batch)
        return path.rows() == dict.fromkeys(keys, 1) and not path.intake.unacked

    return look


async def test_a_retry_that_a_full_queue_refused_is_out_until_it_comes_back(
    amqp_url: str, broker: PrivateBroker
) -> None:
    path = RealPath(amqp_url)
    await path.start(workers=1, window=5)
    await publish(amqp_url, "k0")
    worker, batch = await path.batch()
    await path.router.hold("paused", "while the queue is full")
    broker.api("PUT", f"/api/policies/{amqp_url.rpartition('/')[2]}/full", FULL)
    fillers = await fill(amqp_url)
    worker.answer(batch, *mixed(["k0"], {0: "retry"}, [0]))
    await eventually(lambda: path.outstanding.out == 1)
    await eventually(rungs_empty(amqp_url, path.topology), message="the rung does not say that it is empty")
    await asyncio.sleep(0.5)
    await path.router.release("paused")
    await eventually(worked(path, fillers))
    assert await ready(amqp_url, "jobs") == 0
    seen = Sight(report=replace(QUIET_REPORT, retries_out=path.outstanding.out), ready=0, rungs=0)
    assert not seen.empty, "a retry is out, which no rung tells of"
    assert replace(seen, report=QUIET_REPORT).empty
    assert path.outstanding.state() is not None, "the next router knows of it"
    await eventually(lambda: path.running, within_s=40, message="RabbitMQ did not try again")
    assert path.keys(path.running[0][1]) == ["k0"]
    assert path.outstanding.out == 0
    path.running[0][0].done(path.running[0][1])
    await eventually(lambda: not path.intake.unacked)
    assert path.rows() == dict.fromkeys(["k0", *fillers], 1)
    await path.stop()
