"""Queue depth from a real node."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

import aio_pika
import psutil
import pytest

from rabbitray.actors.rabbitmq.depth import DepthLink, DepthProbe
from rabbitray.cluster.broker import PrivateBroker
from rabbitray.cluster.telemetry.logs import NotSaidByUs
from tests.kit.eventually import eventually
from tests.kit.stopping import stop


async def _publish(url: str, queue: str, count: int) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(queue, durable=True)
        for _ in range(count):
            await channel.default_exchange.publish(aio_pika.Message(b"x"), queue)


async def test_it_counts_ready_messages(amqp_url: str) -> None:
    await _publish(amqp_url, "jobs", 7)
    probe = DepthProbe(amqp_url, "jobs")
    assert await probe.ready() == 7
    await _publish(amqp_url, "jobs", 3)
    assert await eventually(lambda: _is(probe, 10))
    await probe.close()


async def test_a_missing_queue_is_unknown_until_it_exists(amqp_url: str) -> None:
    probe = DepthProbe(amqp_url, "later")
    assert await probe.ready() is None
    assert await probe.ready() is None
    await _publish(amqp_url, "later", 2)
    assert await eventually(lambda: _is(probe, 2))
    await probe.close()


async def test_an_unreachable_broker_is_unknown_and_asked_again_only_after_a_while() -> None:
    now = [0.0]
    probe = DepthProbe("amqp://guest:secret-word@127.0.0.1:1/", "jobs", timeout_s=2.0, clock=lambda: now[0])
    assert await probe.ready() is None
    assert probe.retry_in_s > 0.2
    first = probe.retry_in_s
    now[0] += first + 0.01
    assert await probe.ready() is None
    assert 0.5 <= probe.retry_in_s <= 1.0
    await probe.close()


async def test_the_address_is_not_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    probe = DepthProbe("amqp://guest:secret-word@127.0.0.1:1/", "jobs", timeout_s=2.0)
    assert await probe.ready() is None
    assert "is unknown" in caplog.text
    assert "secret-word" not in "".join(
        r.getMessage() for r in caplog.records if r.name == "rabbitray.actors.rabbitmq.depth"
    )


async def test_a_silent_and_a_killed_broker_are_unknown_until_they_come_back(
    own_broker: PrivateBroker, own_url: str
) -> None:
    await _publish(own_url, "jobs", 1)
    probe = DepthProbe(own_url, "jobs", timeout_s=2.0)
    assert await probe.ready() == 1
    stop(own_broker.pid)
    try:
        assert await asyncio.wait_for(probe.ready(), timeout=30) is None
    finally:
        os.kill(own_broker.pid, signal.SIGCONT)
    assert await eventually(lambda: _known(probe), within_s=60)
    own_broker.kill()
    assert await probe.ready() is None
    own_broker.start()
    assert await eventually(lambda: _known(probe), within_s=60)
    await probe.close()


async def test_a_broker_that_restarts_is_told_lost_once_and_found_once(
    own_broker: PrivateBroker, own_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As the driver looks at the queue and each of its rungs twice a second."""
    names = ["jobs", *(f"jobs.retry.{n}" for n in range(6))]
    for name in names:
        await _publish(own_url, name, 1)
    link = DepthLink(own_url, "how much waits", timeout_s=2.0)
    probes = [DepthProbe(own_url, name, link=link) for name in names]
    caplog.set_level(logging.INFO)
    client_library, known_better = logging.getLogger("aiormq.connection"), NotSaidByUs()  # as in each process of ours
    client_library.addFilter(known_better)
    try:
        assert await asyncio.gather(*(probe.ready() for probe in probes)) == [1] * len(names)
        assert connections(own_broker) == 1
        own_broker.kill()
        lost = await asyncio.gather(*(probe.ready() for probe in probes))
        assert set(lost) == {None}
        own_broker.start()

        async def all_known() -> bool:
            found = await asyncio.gather(*(probe.ready() for probe in probes))
            return None not in found

        await eventually(all_known, within_s=60)
        assert connections(own_broker) == 1
    finally:
        await link.close()
        client_library.removeFilter(known_better)
    said = [line.getMessage() for line in caplog.records if line.levelno >= logging.INFO]
    assert len([line for line in said if "how much waits is" in line]) == 2, said
    assert len(said) <= 3, said


def connections(broker: PrivateBroker) -> int:
    """How many clients are connected to it."""
    own = psutil.Process(os.getpid()).net_connections("tcp")
    return sum(one.status == psutil.CONN_ESTABLISHED and one.raddr and one.raddr.port == broker.port for one in own)


async def test_close_works_twice_and_before_the_first_look(amqp_url: str) -> None:
    probe = DepthProbe(amqp_url, "jobs")
    await probe.close()
    assert await probe.ready() is None, "what comes after the close opens nothing"
    await probe.close()
    await probe.close()


async def _is(probe: DepthProbe, count: int) -> bool:
    return await probe.ready() == count


async def _known(probe: DepthProbe) -> bool:
    return await probe.ready() is not None
