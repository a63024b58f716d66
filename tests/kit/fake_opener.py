"""FakeOpener: generations of the intake over channels in memory, without a broker."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from aiormq.abc import ChannelFrame
from pamqp import commands as spec
from pamqp.frame import unmarshal

from rabbitray.actors.message.properties.property_list import Properties
from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.rabbitmq.versions import Behaviour
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.generation import Generation
from rabbitray.actors.router.intake.scanner import Scanned
from rabbitray.actors.secret import Secret
from rabbitray.actors.telemetry.tracing import Tracing

Step = Callable[[], Awaitable[object]]


async def nothing() -> None:
    """A step that succeeds."""


def intake_config() -> IntakeConfig:
    """Of a broker that is not there."""
    return IntakeConfig(url=Secret("amqp://127.0.0.1:1/"), topology=Topology(queue="jobs"), limits=MessageLimits())


class FakeAmqpChannel:
    """What an intake needs of an aiormq channel. `on_qos` and `on_consume`: what the broker does in these calls.

    `windows`: the prefetch of each consumer, in order.
    """

    def __init__(self, *, on_qos: Step = nothing, on_consume: Step = nothing) -> None:
        self.number = 1
        self.is_closed = False
        self.connection = self
        self.write_queue = self
        self.sent = b""
        self.consumer_tags: list[str] = []
        self.cancelled: list[str] = []  # tags of consumers
        self.windows: list[int] = []
        self._on_qos, self._on_consume = on_qos, on_consume

    def full(self) -> bool:
        """Of the write queue: there is always room."""
        return False

    def put_nowait(self, frames: ChannelFrame) -> None:
        """Of the write queue."""
        self.sent += frames.payload

    def returned(self) -> list[int]:
        """Tags that were given back, in order."""
        tags, rest = [], self.sent
        while rest:
            used, _, found = unmarshal(rest)
            rest = rest[used:]
            tags += [found.delivery_tag] if isinstance(found, spec.Basic.Nack) else []
        return tags

    async def basic_qos(self, *, prefetch_count: int) -> None:
        self.windows.append(prefetch_count)
        await self._on_qos()

    async def basic_consume(self, *_: Any, consumer_tag: str, arguments: Mapping[str, int]) -> None:
        self.consumer_tags.append(consumer_tag)
        await self._on_consume()

    async def basic_cancel(self, consumer_tag: str) -> spec.Basic.CancelOk:
        self.cancelled.append(consumer_tag)
        return spec.Basic.CancelOk(consumer_tag)

    async def close(self) -> None:
        self.is_closed = True

    def closing_within(self, within_s: float) -> AbstractContextManager[None]:
        """Of the connection, whose end takes no time."""
        return nullcontext()


class FakeOpener:
    """Opens a generation over each of `channels` in turn, then over plain ones, at `addresses` in turn."""

    def __init__(
        self, *channels: FakeAmqpChannel, addresses: Sequence[str] = ("",), broker: Behaviour | None = None
    ) -> None:
        self._channels = list(channels)
        self._addresses, self._broker = itertools.cycle(addresses), broker
        self.opened: list[Generation] = []

    async def first(self) -> Generation:
        return self._open(1)

    async def next(self, old: Generation) -> Generation:
        return self._open(old.number + 1)

    def channel(self) -> FakeAmqpChannel:
        """The channel of the next generation."""
        return self._channels.pop(0) if self._channels else FakeAmqpChannel()

    def _open(self, number: int) -> Generation:
        channel: Any = self.channel()
        generation = Generation(
            number,
            intake_config(),
            connection=channel,
            holder=channel,
            channel=channel,
            tracing=Tracing(queue="jobs"),
            lost=asyncio.Event(),
            address=next(self._addresses),
            broker=self._broker,
        )
        self.opened.append(generation)
        return generation


def deliver(generation: Generation, tag: int, *, redelivered: bool = False) -> bool:
    """A message stands in the bytes of this generation's connection; False when nobody took it."""
    channel: Any = generation.channel
    found = Scanned(channel.consumer_tags[-1], tag, redelivered, Properties(message_id=f"m{tag}"), b"{}")
    return generation.consumers.take_scanned(found)
