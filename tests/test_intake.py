"""The contract of the way in, on the fake broker and on a real node: consume, hand over, ack, give back, recover."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Protocol
from urllib.parse import urlsplit

import aio_pika
import pytest

from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.consumer import Intake
from rabbitray.actors.router.intake.reading import BodyLimits
from rabbitray.actors.secret import Secret
from rabbitray.cluster.broker import PrivateBroker
from tests.eventually import eventually
from tests.fakes import FakeBroker, FakeIntake

TOPOLOGY = Topology(queue="jobs", rung_delays_ms=(1_000,))
SINGLE_AFTER_S = 0.1


class Way(Protocol):
    """An intake with its broker, as the contract needs them."""

    intake: Any  # Intake or FakeIntake: the same surface
    got: list[Delivery]
    lost: list[int]

    async def publish(self, count: int) -> None: ...
    async def ready(self) -> int: ...
    async def break_connection(self) -> None: ...
    async def close_channel(self) -> None: ...
    async def close(self) -> None: ...


class FakeWay:
    """Over the FakeBroker."""

    def __init__(self) -> None:
        self.got: list[Delivery] = []
        self.lost: list[int] = []
        self.broker = FakeBroker(TOPOLOGY)
        self.intake = FakeIntake(
            self.broker, on_delivery=self.got.append, on_lost=self.lost.append, single_after_s=SINGLE_AFTER_S
        )
        self._sent = 0

    async def publish(self, count: int) -> None:
        for _ in range(count):
            self.broker.publish(b"{}", message_id=f"m{self._sent}")
            self._sent += 1

    async def ready(self) -> int:
        return self.broker.ready

    async def break_connection(self) -> None:
        self.intake.lose()

    async def close_channel(self) -> None:
        self.broker.ack(self.intake._channel, 1_000_000, multiple=False)

    async def close(self) -> None:
        await self.intake.close()


CHANNEL_OPEN = b"\x00\x14\x00\x0a"


class Wire:
    """A TCP proxy that can be cut, the reset that a network gives, or go dark: open, but nothing passes any more.

    `dark_at`: a connection whose client sends these bytes goes dark with them; `darkened` counts those. `dark`: all
    do, new ones too.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._writers: list[asyncio.StreamWriter] = []
        self.dark = False
        self.dark_at: bytes | None = None
        self.darkened = 0

    async def start(self) -> str:
        """The URL through this proxy."""
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return self._target._replace(netloc=f"guest:guest@127.0.0.1:{port}").geturl()

    def cut(self) -> None:
        """Resets every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def stop(self) -> None:
        self.cut()
        self._server.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._target.hostname is not None
        far_reader, far_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._writers += [writer, far_writer]
        line = Line(wire=self)
        await asyncio.gather(line.pump(reader, far_writer, out=True), line.pump(far_reader, writer, out=False))


class Line:
    """One connection through the proxy."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._dark = False

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, out: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                if out and self._wire.dark_at and self._wire.dark_at in data and not self._dark:
                    self._dark = True
                    self._wire.darkened += 1
                if not self._is_dark:
                    writer.write(data)
        if not self._is_dark:  # in the dark an end does not come through, either
            writer.close()

    @property
    def _is_dark(self) -> bool:
        self._dark = self._dark or self._wire.dark
        return self._dark


class RealWay:
    """Over a real node; publishes and looks through a connection of its own."""

    def __init__(
        self, url: str, through: str | None = None, *, heartbeat_s: int = 10, connect_timeout_s: float = 15.0
    ) -> None:
        self.got: list[Delivery] = []
        self.lost: list[int] = []
        self.wire: Wire | None = None
        config = IntakeConfig(
            url=Secret(through or url),
            topology=TOPOLOGY,
            limits=BodyLimits(),
            single_after_s=SINGLE_AFTER_S,
            heartbeat_s=heartbeat_s,
            connect_timeout_s=connect_timeout_s,
            name="test",
        )
        self.intake = Intake(config, on_delivery=self.got.append, on_lost=self.lost.append)
        self._url = url
        self._sent = 0

    async def start(self) -> None:
        self._own = await aio_pika.connect(self._url)
        self._channel = await self._own.channel()

    async def publish(self, count: int) -> None:
        for _ in range(count):
            message = aio_pika.Message(b"{}", message_id=f"m{self._sent}", delivery_mode=2)
            await self._channel.default_exchange.publish(message, routing_key=TOPOLOGY.queue)
            self._sent += 1

    async def ready(self) -> int:
        async with self._own.channel() as channel:
            queue = await channel.declare_queue(TOPOLOGY.queue, passive=True)
            return queue.declaration_result.message_count or 0

    async def break_connection(self) -> None:
        assert self.wire is not None
        self.wire.cut()

    async def close_channel(self) -> None:
        await self.intake._channel.basic_ack(1_000_000)

    async def close(self) -> None:
        await self.intake.close()
        await self._own.close()
        if self.wire is not None:
            await self.wire.stop()


@pytest.fixture(params=["fake", "real"])
async def way(request: pytest.FixtureRequest) -> AsyncIterator[Way]:
    """An opened intake; nothing is consumed yet."""
    if request.param == "fake":
        found: Any = FakeWay()
    else:
        url = request.getfixturevalue("amqp_url")
        wire = Wire(url)
        found = RealWay(url, await wire.start())
        found.wire = wire
        await found.start()
    await found.intake.open()
    yield found
    await found.close()


async def _is(way: Way, count: int) -> bool:
    return await way.ready() == count


async def all_got(way: Way, count: int) -> None:
    await eventually(lambda: len(way.got) == count, message=f"{count} deliveries")


async def test_it_consumes_within_its_window(way: Way) -> None:
    await way.publish(5)
    assert not way.intake.consuming
    await way.intake.consume(3)
    await all_got(way, 3)
    assert way.intake.consuming
    assert [one.tag for one in way.got] == [1, 2, 3]
    assert [one.parcel.message_id for one in way.got] == ["m0", "m1", "m2"]
    assert {(one.generation, one.redelivered) for one in way.got} == {(1, False)}
    assert way.intake.unacked == 3
    way.intake.finish(way.got)
    await all_got(way, 5)


async def test_a_window_of_nothing_is_refused(way: Way) -> None:
    with pytest.raises(ValueError, match="window 0"):
        await way.intake.consume(0)


async def test_finished_messages_never_come_again(way: Way) -> None:
    await way.publish(20)
    await way.intake.consume(20)
    await all_got(way, 20)
    way.intake.finish(way.got[10:])
    way.intake.finish(reversed(way.got[:10]))
    assert way.intake.unacked == 0
    await way.publish(1)
    await all_got(way, 21)  # the window was full: the broker has read the acks
    way.intake.finish(way.got[20:])
    await way.intake.close()
    assert await way.ready() == 0


async def test_acks_overtake_a_slow_one(way: Way) -> None:
    await way.publish(6)
    await way.intake.consume(3)
    await all_got(way, 3)
    way.intake.finish(way.got[1:3])
    await all_got(way, 5)
    way.intake.finish(way.got[3:5])
    await all_got(way, 6)
    way.intake.finish([way.got[0], way.got[5]])
    await eventually(lambda: way.intake.unacked == 0)
    assert (way.intake.generation, way.intake.stale) == (1, 0), "no ack was refused"


async def test_a_wider_window_takes_over_from_the_narrow_one(way: Way) -> None:
    await way.publish(10)
    await way.intake.consume(2)
    await all_got(way, 2)
    await way.intake.consume(4)
    await all_got(way, 6)
    way.intake.finish(way.got[:2])
    way.intake.finish(way.got[2:6])
    await all_got(way, 10)
    way.intake.finish(way.got[6:])
    await eventually(lambda: way.intake.unacked == 0)
    assert sorted(str(one.parcel.message_id) for one in way.got) == [f"m{n}" for n in range(10)]
    assert way.intake.generation == 1


async def test_many_hand_overs_lose_and_double_nothing(way: Way) -> None:
    await way.publish(60)
    finished = 0
    for window in (1, 7, 2, 9, 3, 30) * 2:
        await way.intake.consume(window)
        ready = way.got[finished:]
        finished += len(ready)
        way.intake.finish(ready)
    while len(way.got) < 60:
        ready = way.got[finished:]
        finished += len(ready)
        way.intake.finish(ready)
        await asyncio.sleep(0)
    way.intake.finish(way.got[finished:])
    assert sorted(str(one.parcel.message_id) for one in way.got) == sorted(f"m{n}" for n in range(60))
    await eventually(lambda: way.intake.unacked == 0)
    assert way.intake.generation == 1


async def test_a_pause_stops_the_flow_and_keeps_what_is_here(way: Way) -> None:
    await way.publish(5)
    await way.intake.consume(2)
    await all_got(way, 2)
    await way.intake.pause()
    assert not way.intake.consuming
    way.intake.finish(way.got)
    await eventually(lambda: way.intake.unacked == 0)
    assert await eventually(way.ready) == 3
    assert len(way.got) == 2
    await way.intake.pause()
    await way.intake.consume(5)
    await all_got(way, 5)


async def test_what_is_given_back_comes_again(way: Way) -> None:
    await way.publish(3)
    await way.intake.consume(3)
    await all_got(way, 3)
    await way.intake.pause()
    way.intake.finish(way.got[2:])
    way.intake.give_back(way.got[:2])
    way.intake.give_back(way.got[:2])
    await eventually(lambda: way.intake.unacked == 0)
    await way.intake.consume(3)
    await all_got(way, 5)
    assert {one.parcel.message_id for one in way.got[3:]} == {"m0", "m1"}
    assert all(one.redelivered for one in way.got[3:])
    assert way.intake.generation == 1, "giving back twice is no error"


async def test_a_lost_connection_is_a_new_generation_and_everything_comes_again(way: Way) -> None:
    await way.publish(3)
    await way.intake.consume(3)
    await all_got(way, 3)
    old = list(way.got)
    await way.break_connection()
    await all_got(way, 6)
    assert way.lost == [1]
    assert [one.generation for one in way.got] == [1, 1, 1, 2, 2, 2]
    assert all(one.redelivered for one in way.got[3:])
    assert way.intake.still_ours(way.got) == way.got[3:]
    way.intake.finish(old)
    way.intake.give_back(old)
    assert way.intake.stale == 6, "late settlements are counted, not raised"
    way.intake.finish(way.got[3:])
    await eventually(lambda: way.intake.unacked == 0)
    assert way.intake.generation == 2


async def test_a_refused_ack_closes_the_channel_and_is_survived(way: Way) -> None:
    await way.publish(2)
    await way.intake.consume(2)
    await all_got(way, 2)
    await way.close_channel()
    await all_got(way, 4)
    assert way.got[-1].generation == 2
    way.intake.finish(way.got[2:])
    await eventually(lambda: way.intake.unacked == 0)


async def test_closing_sends_every_ack_that_is_safe(way: Way) -> None:
    await way.publish(40)
    await way.intake.consume(40)
    await all_got(way, 40)
    for one in way.got[1:]:
        way.intake.finish([one])
    await way.intake.close()
    await way.intake.close()
    await eventually(lambda: _is(way, 1), message="only the one that was not finished comes again")


async def test_closing_before_opening(amqp_url: str) -> None:
    await RealWay(amqp_url).intake.close()


async def test_a_pause_outlives_a_reconnect(way: Way) -> None:
    await way.publish(2)
    await way.intake.consume(1)
    await all_got(way, 1)
    await way.intake.pause()
    await way.break_connection()
    await eventually(lambda: way.intake.reconnects == 1)
    assert not way.intake.consuming
    assert len(way.got) == 1


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


async def test_closing_while_the_broker_is_away_does_not_hang(own_broker: PrivateBroker) -> None:
    way = RealWay(own_broker.url)
    await way.intake.open()
    await way.intake.consume(5)
    await asyncio.to_thread(own_broker.kill)
    await eventually(lambda: not way.intake.connected)
    await asyncio.wait_for(way.intake.close(), 10)


async def test_a_killed_broker_that_comes_back_is_found_again(own_broker: PrivateBroker) -> None:
    way = RealWay(own_broker.url)
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
