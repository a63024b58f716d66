"""The intake when a queue, a connection or the whole node goes away under it."""

from __future__ import annotations

import asyncio

import aio_pika

from rabbitray.cluster.broker import PrivateBroker
from tests.kit.eventually import eventually
from tests.kit.intake_ways import CHANNEL_OPEN, TOPOLOGY, RealWay, Wire, all_got


async def test_closing_before_opening(amqp_url: str) -> None:
    await RealWay(amqp_url).intake.close()


async def test_a_deleted_queue_is_declared_again(amqp_url: str) -> None:
    way = RealWay(amqp_url)
    await way.start()
    await way.intake.open()
    await way.intake.consume(5)
    async with way._own.channel() as channel:
        await channel.queue_delete(TOPOLOGY.queue)

    async def consumed() -> bool:
        return way.intake.reconnects >= 1 and way.intake.consuming

    await eventually(consumed, within_s=20)
    await way.publish(2)
    await all_got(way, 2)
    assert way.intake.generation < 6, "no storm of reconnects"
    await way.close()


async def test_closed_connections_are_recovered(broker: PrivateBroker, amqp_url: str) -> None:
    way = RealWay(amqp_url)
    await way.start()
    await way.intake.open()
    await way.intake.consume(5)
    await way.publish(3)
    await all_got(way, 3)
    listed = await asyncio.to_thread(broker.ctl, "list_connections", "pid", "client_properties")
    pid = next(line.split("\t")[0] for line in listed.splitlines() if '"connection_name","test"' in line)
    await asyncio.to_thread(broker.ctl, "close_connection", pid, "the operator says so")
    await all_got(way, 6)
    assert way.got[-1].generation == 2
    await way.close()


async def test_closing_while_the_broker_is_away_does_not_hang(own_broker: PrivateBroker, own_url: str) -> None:
    way = RealWay(own_url)
    await way.intake.open()
    await way.intake.consume(5)
    await asyncio.to_thread(own_broker.kill)
    await eventually(lambda: not way.intake.connected)
    await asyncio.wait_for(way.intake.close(), 10)


async def test_a_killed_broker_that_comes_back_is_found_again(own_broker: PrivateBroker, own_url: str) -> None:
    way = RealWay(own_url)
    await way.start()
    await way.intake.open()
    await way.intake.consume(5)
    await way.publish(3)
    await all_got(way, 3)
    await way._own.close()
    await asyncio.to_thread(own_broker.kill)
    await asyncio.to_thread(own_broker.start)
    await eventually(lambda: len(way.got) == 6, within_s=60)
    way.intake.finish(way.got[3:])
    await way.intake.close()


async def test_a_line_that_goes_dark_is_recovered_and_every_message_is_settled_once(amqp_url: str) -> None:
    """Fault 5, and once more in the middle of the recovery: there the RPC ends with CancelledError."""
    wire = Wire(amqp_url)
    way = RealWay(amqp_url, await wire.start(), heartbeat_s=2, connect_timeout_s=3)
    way.wire = wire
    await way.start()
    await way.intake.open()
    await way.intake.consume(5)
    await way.publish(3)
    await all_got(way, 3)
    wire.dark_at = CHANNEL_OPEN  # the next connection gets through its handshake and no further
    wire.dark = True
    await eventually(lambda: not way.intake.connected, within_s=30)
    wire.dark = False
    await eventually(lambda: wire.darkened > 0, within_s=60)
    wire.dark_at = None
    await eventually(lambda: len(way.got) >= 6, within_s=60)
    again = [one for one in way.got if one.generation == way.intake.generation]
    assert sorted(str(one.parcel.message_id) for one in again) == ["m0", "m1", "m2"]
    way.intake.finish(way.got)
    await way.publish(1)
    await eventually(lambda: way.got[-1].parcel.message_id == "m3")
    way.intake.finish(way.got[-1:])
    await eventually(lambda: way.intake.unacked == 0)
    assert way.intake.stale == 3
    await way.close()
    assert await left(amqp_url) == 0


async def left(url: str) -> int:
    """Messages that are ready once nobody is connected."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        queue = await channel.declare_queue(TOPOLOGY.queue, passive=True)
        return queue.declaration_result.message_count or 0
