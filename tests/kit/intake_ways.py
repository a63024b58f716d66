"""An intake with its broker: over the FakeBroker, and over a real node with a wire that can be cut or go dark."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Any, Protocol
from urllib.parse import urlsplit

import aio_pika

from rabbitray.actors.backoff import Backoff
from rabbitray.actors.message.keys import DEFAULT_RULE, KeyRule
from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.rabbitmq.consumer_timeout import ConsumerTimeout
from rabbitray.actors.rabbitmq.reconnect import RECONNECT
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.consumer import Intake
from rabbitray.actors.router.intake.generation import Generation
from rabbitray.actors.router.intake.opener import GenerationOpener
from rabbitray.actors.secret import Secret
from rabbitray.actors.telemetry.tracing import Tracing
from tests.kit.eventually import eventually
from tests.kit.fake_broker import FakeBroker
from tests.kit.fake_intake import FakeIntake

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
        self.broker.ack(self.intake.channel, 1_000_000, multiple=False)

    async def close(self) -> None:
        await self.intake.close()


CHANNEL_OPEN = b"\x00\x14\x00\x0a"


class Wire:
    """A TCP proxy that can be cut, the reset that a network gives, or go dark: open, but nothing passes any more.

    `dark_at`: a connection whose client sends these bytes goes dark with them; `darkened` counts those. `dark`: all
    do, new ones too. `cut_at`: all are cut when the broker sends these bytes; `cuts` counts how often. `bytes_per_s`:
    so slowly comes what the broker sends; 0: at once.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._writers: list[asyncio.StreamWriter] = []
        self.dark = False
        self.dark_at: bytes | None = None
        self.darkened = 0
        self.cut_at: bytes | None = None
        self.cuts = 0
        self.bytes_per_s = 0

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
                if not out and self._wire.cut_at and self._wire.cut_at in data:
                    self._wire.cuts += 1
                    self._wire.cut()
                elif not self._is_dark:
                    writer.write(data)
                    if not out and self._wire.bytes_per_s:
                        await asyncio.sleep(len(data) / self._wire.bytes_per_s)
        if not self._is_dark:  # in the dark an end does not come through, either
            writer.close()

    @property
    def _is_dark(self) -> bool:
        self._dark = self._dark or self._wire.dark
        return self._dark


class RecordingOpener:
    """Opens generations on a real node and keeps them."""

    def __init__(self, config: IntakeConfig) -> None:
        self._opener = GenerationOpener(config, Tracing(queue=config.source))
        self.opened: list[Generation] = []

    async def first(self) -> Generation:
        self.opened.append(await self._opener.first())
        return self.opened[-1]

    async def next(self, old: Generation) -> Generation:
        self.opened.append(await self._opener.next(old))
        return self.opened[-1]


class RealWay:
    """Over a real node; publishes and looks through a connection of its own."""

    def __init__(
        self,
        url: str,
        through: str | None = None,
        *,
        heartbeat_s: int = 10,
        connect_timeout_s: float = 15.0,
        steady_s: float = 5.0,
        pauses: Backoff = RECONNECT,
        take_limited: bool = False,
        timeout: ConsumerTimeout | None = None,
        key: KeyRule = DEFAULT_RULE,
    ) -> None:
        self.late: list[Delivery] = []
        self.got: list[Delivery] = []
        self.lost: list[int] = []
        self.wire: Wire | None = None
        self.config = config = IntakeConfig(
            url=Secret(through or url),
            topology=replace(TOPOLOGY, take_limited=take_limited),
            limits=MessageLimits(),
            single_after_s=SINGLE_AFTER_S,
            heartbeat_s=heartbeat_s,
            connect_timeout_s=connect_timeout_s,
            steady_s=steady_s,
            pauses=pauses,
            timeout=timeout or ConsumerTimeout(),
            key=key,
            name="test",
        )
        self.opener = RecordingOpener(config)
        self.intake = Intake(
            config,
            on_delivery=self.got.append,
            on_lost=self.lost.append,
            held=lambda: self.got,
            on_late=self.late.extend,
            opener=self.opener,
        )
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
        await self.opener.opened[-1].channel.basic_ack(1_000_000)

    async def close(self) -> None:
        await self.intake.close()
        await self._own.close()
        if self.wire is not None:
            await self.wire.stop()


async def all_got(way: Way, count: int) -> None:
    await eventually(lambda: len(way.got) == count, message=f"{count} deliveries")
