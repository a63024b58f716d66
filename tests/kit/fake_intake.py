"""FakeIntake: the router's intake over a FakeBroker, with the real AckSender."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence

from pamqp import commands as spec

from rabbitray.actors.message.keys import DEFAULT_RULE, KeyRule
from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.intake.ack_sender import AckSender
from rabbitray.actors.router.intake.frame_writer import Frame
from rabbitray.actors.router.intake.reading import read_delivery
from rabbitray.actors.telemetry.tracing import Tracing
from tests.kit.deliveries import as_it_came, received
from tests.kit.fake_broker import FakeBroker, FakeChannel, Stored


class FakeIntake:
    """Intake over a FakeBroker, with the same surface and the real AckSender. Reconnects at once when it can."""

    def __init__(
        self,
        broker: FakeBroker,
        *,
        on_delivery: Callable[[Delivery], None],
        on_lost: Callable[[int], None],
        single_after_s: float = 0.2,
        limits: MessageLimits | None = None,
        rule: KeyRule = DEFAULT_RULE,
    ) -> None:
        self._broker = broker
        self._on_delivery = on_delivery
        self._on_lost = on_lost
        self._single_after_s = single_after_s
        self._limits = limits or MessageLimits()
        self._rule = rule
        self._consumers = itertools.count(1)
        self._consumer: int | None = None
        self._wanted: int | None = None
        self._closed = False
        self.generation = 0
        self.connected = False
        self.reconnects = 0
        self.address = ""
        self.stale = 0

    async def open(self) -> list[str]:
        self._open_channel()
        return []

    async def close(self) -> None:
        self._closed = True
        if self.connected:
            self._acks.settle_all()
            self._broker.close(self.channel)

    async def consume(self, window: int) -> None:
        if window < 1:
            raise ValueError(f"window {window} is not allowed")
        self._wanted = window
        if self.connected:
            self._consumer = next(self._consumers)
            self._broker.consume(self.channel, window)

    async def pause(self) -> None:
        self._wanted = None
        self._consumer = None
        if self.connected:
            self.channel.consuming = False

    def finish(self, deliveries: Iterable[Delivery]) -> int:
        ours = self._current(deliveries)
        self._acks.finish([one.tag for one in ours])
        return len(ours)

    def give_back(self, deliveries: Iterable[Delivery]) -> None:
        ours = self._current(deliveries)
        self._acks.give_back([one.tag for one in ours], [one.parcel for one in ours])

    def still_ours(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        return [one for one in deliveries if one.generation == self.generation and self.connected]

    @property
    def counts_returns(self) -> bool:
        return True

    @property
    def unacked(self) -> int:
        return self._acks.unacked

    @property
    def consuming(self) -> bool:
        return self._consumer is not None

    def lose(self) -> None:
        """The connection breaks."""
        self._broker.close(self.channel)

    def kill(self) -> None:
        """The process that it runs in dies: the connection breaks and nobody is told."""
        self._closed = True
        self.lose()

    def reconnect(self) -> None:
        """What the watcher of the real one does by itself."""
        if self.connected or self._closed or not self._broker.up:
            return
        self._open_channel()
        self.reconnects += 1
        if self._wanted is not None:
            self._consumer = next(self._consumers)
            self._broker.consume(self.channel, self._wanted)

    def _open_channel(self) -> None:
        self.generation += 1
        self._acks = AckSender(
            self._write,
            single_after_s=self._single_after_s,
            tracing=Tracing(queue="jobs"),
            clock=asyncio.get_running_loop().time,
        )
        generation = self.generation
        self.channel = FakeChannel(take=self._take, closed=lambda: self._on_closed(generation))
        self._broker.open(self.channel)
        self.connected = True

    def _on_closed(self, generation: int) -> None:
        self.connected = False
        self._acks.stop()
        self._consumer = None
        if not self._closed:
            self._on_lost(generation)
            asyncio.get_running_loop().call_soon(self.reconnect)

    def _take(self, message: Stored, tag: int) -> None:
        self._acks.delivered(tag)
        got = received(
            message.body,
            message.headers,
            tag=tag,
            redelivered=message.redelivered,
            message_id=message.message_id,
            content_type=message.content_type or None,
        )
        got.header.properties = as_it_came(
            message.headers, message_id=message.message_id, content_type=message.content_type or None
        )
        consumer = self._consumer or 0
        self._on_delivery(
            read_delivery(got, generation=self.generation, consumer=consumer, limits=self._limits, rule=self._rule)
        )

    def _current(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        found = list(deliveries)
        ours = self.still_ours(found)
        self.stale += len(found) - len(ours)
        return ours

    def _write(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            if isinstance(frame, spec.Basic.Nack):
                self._broker.nack(self.channel, frame.delivery_tag or 0)
            else:
                self._broker.ack(self.channel, frame.delivery_tag or 0, multiple=bool(frame.multiple))
