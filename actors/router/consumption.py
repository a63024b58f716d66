"""Consumption: whether the queue is consumed now, and how many messages are prefetched."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)


class WindowedConsumer(Protocol):
    """Consumes one queue, as `Intake` does it. `window`: prefetch in messages."""

    async def consume(self, window: int) -> None: ...
    async def pause(self) -> None: ...


class Consumption:
    """Consumes while nothing holds and the end has not come.

    `on_hold` is called when the first hold has stopped the consumer, `on_consume` when consuming begins or goes on.
    """

    def __init__(
        self, consumer: WindowedConsumer, *, on_hold: Callable[[], None], on_consume: Callable[[], None]
    ) -> None:
        self._consumer = consumer
        self._on_hold = on_hold
        self._on_consume = on_consume
        self.window = 1
        self.holds: dict[str, str] = {}  # why nothing is consumed now: name -> reason in words
        self.closing = False
        self.fenced = asyncio.Event()

    async def start(self, window: int) -> None:
        """Begins to consume, unless something holds."""
        self.window = window
        if not self.holds:
            await self._consumer.consume(window)
            self._on_consume()

    async def set_window(self, window: int) -> None:
        """Prefetch in messages (>= 1); a change of it is a consumer hand-over."""
        if window != self.window or not self.window:
            self.window = window
            if not self.holds and not self.closing:
                await self._consumer.consume(window)

    async def hold(self, name: str, reason: str) -> None:
        """Stops consuming until `release(name)`."""
        first = not self.holds
        self.holds[name] = reason
        if first:
            log.warning("Consuming is paused (%s): %s", name, reason)
            await self._consumer.pause()
            self._on_hold()

    async def release(self, name: str) -> None:
        """Ends one hold; consuming goes on when it was the last."""
        if self.holds.pop(name, None) is not None and not self.holds and not self.closing:
            log.info("Consuming goes on (%s is over)", name)
            await self._consumer.consume(self.window)
            self._on_consume()

    async def close(self) -> None:
        """Stops consuming for good."""
        self.closing = True
        await self._consumer.pause()

    async def fence(self, why: str) -> None:
        """Another router has taken over: nothing more is consumed, published or acked by this one."""
        if not self.fenced.is_set():
            log.error("This router is fenced and stops: %s", why)
            self.closing = True
            self.fenced.set()
            await self._consumer.pause()
