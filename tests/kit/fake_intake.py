"""FakeIntake: the router's intake over a FakeBroker, with the real AckLedger."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable

from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.intake.ack_ledger import AckLedger
from rabbitray.actors.router.intake.reading import read_delivery
from tests.kit.deliveries import received
from tests.kit.fake_broker import FakeBroker, FakeChannel, Stored


class FakeIntake:
    """Intake over a FakeBroker, with the same surface and the real AckLedger. Reconnects at once when it can."""

    def __init__(
        self,
        broker: FakeBroker,
        *,
        on_delivery: Callable[[Delivery], None],
        on_lost: Callable[[int], None],
        single_after_s: float = 0.2,
        limits: MessageLimits | None = None,
    ) -> None:
        self._broker = broker
        self._on_delivery = on_delivery
        self._on_lost = on_lost
        self._single_after_s = single_after_s
        self._limits = limits or MessageLimits()
        self._consumers = itertools.count(1)
        self._consumer: int | None = None
        self._wanted: int | None = None
        self._closed = False
        self._flusher: asyncio.TimerHandle | None = None
        self.generation = 0
        self.connected = False
        self.reconnects = 0
        self.stale = 0

    async def open(self) -> list[str]:
        self._open_channel()
        return []

    async def close(self) -> None:
        self._closed = True
        if self._flusher is not None:
            self._flusher.cancel()
        if self.connected:
            self._send(float("inf"))
            self._broker.close(self._channel)

    async def consume(self, window: int) -> None:
        if window < 1:
            raise ValueError(f"window {window} is not allowed")
        self._wanted = window
        if self.connected:
            self._consumer = next(self._consumers)
            self._broker.consume(self._channel, window)

    async def pause(self) -> None:
        self._wanted = None
        self._consumer = None
        if self.connected:
            self._channel.consuming = False

    def finish(self, deliveries: Iterable[Delivery]) -> None:
        self._ledger.finish(self._current(deliveries), asyncio.get_running_loop().time())
        self._flush()

    def give_back(self, deliveries: Iterable[Delivery]) -> None:
        for tag in self._ledger.give_back(self._current(deliveries)):
            self._broker.nack(self._channel, tag)
        self._flush()

    def still_ours(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        return [one for one in deliveries if one.generation == self.generation and self.connected]

    @property
    def unacked(self) -> int:
        return self._ledger.unacked

    @property
    def consuming(self) -> bool:
        return self._consumer is not None

    def lose(self) -> None:
        """The connection breaks."""
        self._broker.close(self._channel)

    def reconnect(self) -> None:
        """What the watcher of the real one does by itself."""
        if self.connected or self._closed or not self._broker.up:
            return
        self._open_channel()
        self.reconnects += 1
        if self._wanted is not None:
            self._consumer = next(self._consumers)
            self._broker.consume(self._channel, self._wanted)

    def _open_channel(self) -> None:
        self.generation += 1
        self._ledger = AckLedger(single_after_s=self._single_after_s)
        generation = self.generation
        self._channel = FakeChannel(take=self._take, closed=lambda: self._on_closed(generation))
        self._broker.open(self._channel)
        self.connected = True

    def _on_closed(self, generation: int) -> None:
        self.connected = False
        self._consumer = None
        if not self._closed:
            self._on_lost(generation)
            asyncio.get_running_loop().call_soon(self.reconnect)

    def _take(self, message: Stored, tag: int) -> None:
        self._ledger.delivered(tag)
        got = received(
            message.body,
            message.headers,
            tag=tag,
            redelivered=message.redelivered,
            message_id=message.message_id,
            content_type=message.content_type or None,
        )
        self._on_delivery(
            read_delivery(got, generation=self.generation, consumer=self._consumer or 0, limits=self._limits)
        )

    def _current(self, deliveries: Iterable[Delivery]) -> list[int]:
        found = list(deliveries)
        ours = self.still_ours(found)
        self.stale += len(found) - len(ours)
        return [one.tag for one in ours]

    def _flush(self) -> None:
        now = asyncio.get_running_loop().time()
        self._send(now)
        due = self._ledger.next_due()
        if due is not None and self._flusher is None:
            self._flusher = asyncio.get_running_loop().call_later(max(0.0, due - now) + 0.01, self._flush_later)

    def _flush_later(self) -> None:
        self._flusher = None
        if self.connected:
            self._flush()

    def _send(self, now: float) -> None:
        for ack in self._ledger.due(now):
            self._broker.ack(self._channel, ack.tag, multiple=ack.multiple)
