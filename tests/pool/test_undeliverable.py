"""A message that RabbitMQ cannot deliver, among good ones, and a whole pool: the good ones are worked, none is lost.

What it is and what the parts do about it: tests/broker/test_undeliverable.py.
"""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path

import pytest

from rabbitray.actors.message.job import Job
from rabbitray.actors.router.report import UNDELIVERABLE, RouterReport
from rabbitray.cluster.broker import PrivateBroker
from rabbitray.cluster.driver import compose
from tests.kit import amqp10
from tests.kit.eventually import eventually
from tests.kit.live_commands import DEGRADED, live_commands
from tests.kit.pool_settings import settings_for
from tests.kit.queue_access import declare, depth
from tests.kit.running_pool import RunningPool, pool_of

pytestmark = [
    pytest.mark.ray,
    pytest.mark.versions(since="4.0"),
    pytest.mark.each_rabbitmq,
    pytest.mark.timeout("540"),
]

HALF = 100


def poison(value: bytes) -> bytes:
    """A message with a property that a 0-9-1 table has no type for."""
    return amqp10.message(b"{}", message_id="poison", properties={"id": value})


async def publish(pool: RunningPool, value: bytes) -> None:
    """The poison between two halves of good jobs."""
    settings = pool.loaded.settings
    await pool.publish(Job(id=f"job-{n}", payload={}) for n in range(HALF))
    await amqp10.send(settings.rabbitmq_url.reveal(), settings.queue, [poison(value)])
    await pool.publish(Job(id=f"job-{n}", payload={}) for n in range(HALF, 2 * HALF))


async def held(pool: RunningPool) -> str | None:
    return (await pool.report()).holds.get(UNDELIVERABLE)


async def at_rest(pool: RunningPool) -> RouterReport | None:
    """The report once all good jobs are done and nothing is in the way."""
    report = await pool.report()
    quiet = not report.pool.held and UNDELIVERABLE not in report.holds
    return report if report.counts.done == 2 * HALF and quiet else None


def honest(pool: RunningPool, report: RouterReport) -> None:
    """Each good message has one row, of one run, however often it was delivered.

    What RabbitMQ closed the connection on before it read the ack comes again, as a duplicate: an ack that found no
    connection is not counted, one that was sent is. That can be no more than the first two windows, since afterwards
    one message is delivered at a time, and one for each connection.
    """
    counts = report.counts
    assert (counts.done, counts.retried, counts.dead) == (2 * HALF, 0, 0)
    assert 2 * HALF <= counts.acked <= 2 * HALF + counts.duplicates
    assert counts.duplicates <= 2 * (2 * HALF) + report.reconnects
    assert report.reconnects < 40, "with growing pauses"
    rows = pool.rows("SELECT count(*) AS rows, count(DISTINCT key) AS keys, max(attempts) AS runs FROM results")
    assert rows == [{"rows": 2 * HALF, "keys": 2 * HALF, "runs": 1}]


async def test_in_a_queue_of_ours_it_is_moved_aside_by_itself(amqp_url: str, ray_cluster: str, tmp_path: Path) -> None:
    """And stays where it was moved to, which `status` says, until somebody takes it with an AMQP 1.0 client."""
    loaded = settings_for(amqp_url, tmp_path)
    dropped, name = compose.topology(loaded.settings).dropped_queue, loaded.settings.queue
    async with pool_of(loaded) as pool:
        await publish(pool, amqp10.a_uuid())
        said = await eventually(lambda: held(pool), within_s=90, message="no hold")
        assert said is not None
        assert f"at the head of {name}: 541 INTERNAL_ERROR" in said
        report = await eventually(lambda: at_rest(pool), within_s=400, message="the limit of 20 did not move it")
        assert report is not None
        with live_commands({"RABBITMQ_URL": amqp_url, "RAY_ADDRESS": ray_cluster}) as live:
            await eventually(lambda: uncollected(pool), within_s=60, message="the collector says nothing")
            ran = await asyncio.to_thread(live.run, "status", "--queue", name)
            assert ran.code == DEGRADED
            assert "! 1 messages that RabbitMQ dropped are not collected: " in ran.out
            assert f"at the head of {dropped}: 541 INTERNAL_ERROR" in ran.out
            assert "dropped   1 messages that RabbitMQ moved are not collected yet" in ran.out
            assert b"poison" in await amqp10.take_one(amqp_url, dropped)
            await eventually(lambda: collects(pool), within_s=120, message="the collector does not go on")
            assert "healthy" in await asyncio.to_thread(live.ask, "status", "--queue", name)
        drained = await pool.stop()
        assert drained.clean
        honest(pool, report)


async def uncollected(pool: RunningPool) -> bool:
    return (await pool.report()).uncollected is not None


async def collects(pool: RunningPool) -> bool:
    return (await pool.report()).uncollected is None


async def test_a_queue_without_a_limit_is_cured_by_the_policy_that_the_hold_names(
    amqp_url: str, broker: PrivateBroker, tmp_path: Path
) -> None:
    """Such a queue was made by an earlier version. Its neighbours are worked before somebody acts."""
    loaded = settings_for(amqp_url, tmp_path)
    topology, name = compose.topology(loaded.settings), loaded.settings.queue
    await declare(amqp_url, name, x_queue_type="quorum", x_delivery_limit=-1)
    async with pool_of(loaded) as pool:
        await publish(pool, amqp10.a_char())
        said = await eventually(lambda: held(pool), within_s=90, message="no hold")
        assert said is not None
        assert await depth(amqp_url, topology.dropped_queue) == 0, "nothing moves it by itself"
        words = shlex.split(said.partition("rabbitmqctl ")[2].partition(". An")[0])
        await asyncio.to_thread(broker.ctl, words[0], "-p", amqp_url.rpartition("/")[2], *words[1:])
        report = await eventually(lambda: at_rest(pool), within_s=240, message="the policy did not move it")
        assert report is not None
        assert await depth(amqp_url, topology.dropped_queue) == 1
        await pool.stop()
        honest(pool, report)
