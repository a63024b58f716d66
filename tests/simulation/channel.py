"""SimOpener and SimChannel: the router's side of its connections for consuming, with the real Generation on top.

A connection can be cut on both sides at different times: an ack that is written in between never arrives, and what
RabbitMQ has given to others is still in hand here.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from struct import Struct
from typing import Any

import aiormq
from aiormq.abc import ChannelFrame
from pamqp import commands as spec

from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.generation import Generation
from rabbitray.actors.router.intake.scanner import Scanned
from rabbitray.actors.telemetry.tracing import Tracing
from tests.kit.deliveries import as_it_came
from tests.simulation.broker import Message, SimBroker
from tests.simulation.faults import Faults

_ACK = Struct(">BHIHHQB")  # frame, channel, size, class, method, tag, bits
_FRAME_BYTES = _ACK.size + 1
_NACK = 120
HANG_S = 15.0


class SimChannel:
    """One channel on one connection, as aiormq has it."""

    def __init__(self, broker: SimBroker, faults: Faults, router: int) -> None:
        self.number = 1
        self.is_closed = False
        self.connection = self.write_queue = self
        self.on_delivery: Callable[[Scanned], object] = lambda _: None
        self.closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed_at: float | None = None
        self._broker, self._faults = broker, faults
        self._prefetch = 1
        self._inbox: deque[tuple[str, int, Message]] = deque()
        self._context = contextvars.copy_context()  # of its process: whoever caused a delivery may be another one
        self._side = broker.open(self, router)

    # what the broker says

    def deliver(self, consumer: str, tag: int, message: Message) -> None:
        if not self._inbox:
            asyncio.get_running_loop().call_soon(self._read, context=self._context)
        self._inbox.append((consumer, tag, message))

    def broken(self, why: str) -> None:
        """The client hears that its channel is gone."""
        if not self.is_closed:
            self.is_closed = True
            self.closed_at = asyncio.get_running_loop().time()
            if not self.closing.done():
                self.closing.set_result(None)

    def held(self, tag: int) -> Message | None:
        """The message of a delivery, while the broker counts it as unacknowledged here."""
        return self._side.unacked[tag][0] if tag in self._side.unacked else None

    def _read(self) -> None:
        inbox, self._inbox = self._inbox, deque()
        for consumer, tag, message in inbox:
            if self.is_closed:
                return
            self._broker.checker.received(message)
            properties = as_it_came(
                message.headers, message_id=message.message_id, content_type=message.content_type or None
            )
            self.on_delivery(Scanned(consumer, tag, message.returns > 0, properties, message.body))

    def cut(self, *, client_s: float = 0.0, broker_s: float = 0.0) -> None:
        """The connection dies; each side hears of it so many seconds later."""
        loop = asyncio.get_running_loop()
        if broker_s:
            loop.call_later(broker_s, self._broker.close, self._side)
        else:
            self._broker.close(self._side)
        if client_s:
            loop.call_later(client_s, self.broken, "no heartbeat")
        else:
            self.broken("reset")

    def die(self, broker_s: float) -> None:
        """Its process dies; the broker hears of it so many seconds later."""
        self.is_closed = True
        asyncio.get_running_loop().call_later(broker_s, self._broker.close, self._side)

    # what the client does

    def full(self) -> bool:
        """Of the write queue."""
        return False

    def put_nowait(self, frames: ChannelFrame) -> None:
        """Of the write queue: acks and nacks."""
        if self.is_closed:
            return
        data = frames.payload
        for at in range(0, len(data), _FRAME_BYTES):
            _, _, _, _, method, tag, bits = _ACK.unpack_from(data, at)
            if method == _NACK:
                self._broker.nack(self._side, tag)
            else:
                self._broker.ack(self._side, tag, multiple=bool(bits & 1))

    async def basic_qos(self, *, prefetch_count: int) -> None:
        def act() -> None:
            self._prefetch = prefetch_count

        await self._call("qos", act)

    async def basic_consume(self, queue: str, _: Any, *, consumer_tag: str, arguments: Mapping[str, int]) -> None:
        await self._call("consume", lambda: self._broker.consume(self._side, consumer_tag, queue, self._prefetch))

    async def basic_cancel(self, consumer_tag: str) -> spec.Basic.CancelOk:
        await self._call("cancel", lambda: self._broker.cancel(self._side, consumer_tag))
        return spec.Basic.CancelOk(consumer_tag)

    async def close(self) -> None:
        """Of the channel and of the connection."""
        await asyncio.sleep(0)
        self.cut()

    def closing_within(self, within_s: float) -> AbstractContextManager[None]:
        """Of the connection, whose end takes no time."""
        return nullcontext()

    async def _call(self, place: str, act: Callable[[], None]) -> None:
        """One RPC; the fault says when it is done and when it is answered."""
        fault = self._faults.take(place)
        kind, value = (fault.kind, fault.value) if fault else ("", 0.0)
        if self.is_closed:
            raise aiormq.exceptions.ChannelInvalidStateError("the channel is closed")
        if kind == "refused":
            self.cut()
        if kind == "late":
            await self._pause(value)
        if not self.is_closed:
            act()
        await self._answer(kind, value)
        if self.is_closed:
            raise aiormq.exceptions.ConnectionClosed(0, "the connection is closed")

    async def _answer(self, kind: str, value: float) -> None:
        if kind == "late_answer":
            await self._pause(value)
        elif kind == "lost_answer":
            asyncio.get_running_loop().call_later(value, self.cut)
            await asyncio.shield(self.closing)
        elif kind == "thrown":
            await asyncio.sleep(0)
            self.cut()
            raise asyncio.CancelledError
        else:
            await asyncio.sleep(0)

    async def _pause(self, seconds: float) -> None:
        await asyncio.wait([self.closing], timeout=seconds)


@dataclass(frozen=True, slots=True)
class DeliveryOrigin:
    """One delivery, as the checker asks after it."""

    channel: SimChannel
    tag: int

    @property
    def closed_at(self) -> float | None:
        return self.channel.closed_at

    @property
    def held(self) -> Message | None:
        return self.channel.held(self.tag)


class SimOpener:
    """Opens generations for one router process; `channels`: those that it opened, newest last."""

    def __init__(self, config: IntakeConfig, broker: SimBroker, faults: Faults, router: int) -> None:
        self._config, self._broker, self._faults, self._router = config, broker, faults, router
        self.channels: list[SimChannel] = []
        self.opened_at: deque[float] = deque(maxlen=500)
        self.flaky_s = 0.0  # each new connection dies so soon; 0: it does not
        self.alive = True

    def origin(self, delivery: Delivery) -> DeliveryOrigin:
        """The delivery with the channel that it came on."""
        return DeliveryOrigin(self.channels[delivery.generation - 1], delivery.tag)

    async def first(self) -> Generation:
        return await self._open(1)

    async def next(self, old: Generation) -> Generation:
        await old.drop()
        return await self._open(old.number + 1)

    async def _open(self, number: int) -> Generation:
        if not self.alive:
            raise ConnectionRefusedError("this process is dead")
        loop = asyncio.get_running_loop()
        self.opened_at.append(loop.time())
        fault = self._faults.take("connect")
        match fault.kind if fault else "":
            case "refused":
                raise ConnectionRefusedError("nobody listens")
            case "thrown":
                raise asyncio.CancelledError
            case "hang":
                await asyncio.sleep(HANG_S)
                raise TimeoutError
            case "late":
                await asyncio.sleep(fault.value if fault else 0)
            case _:
                await asyncio.sleep(0)
        return self._generation(number)

    def _generation(self, number: int) -> Generation:
        loop = asyncio.get_running_loop()
        channel: Any = SimChannel(self._broker, self._faults, self._router)
        lost = asyncio.Event()
        generation = Generation(
            number,
            self._config,
            connection=channel,
            holder=channel,
            channel=channel,
            tracing=Tracing(queue="jobs", clock=loop.time),
            lost=lost,
            clock=loop.time,
        )
        channel.closing.add_done_callback(lambda _: lost.set())
        channel.on_delivery = generation.consumers.take_scanned
        self.channels.append(channel)
        if self.flaky_s:
            loop.call_later(self.flaky_s, channel.cut)
        return generation
