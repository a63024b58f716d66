"""Consumption: whether the queue is consumed now, and how many messages are prefetched."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

log = logging.getLogger(__name__)

OUTAGE: Final = "outage"
"""The name of the hold during which probes go out."""


class WindowedConsumer(Protocol):
    """Consumes one queue, as `Intake` does it. `window`: prefetch in messages."""

    async def consume(self, window: int) -> None: ...
    async def pause(self) -> None: ...


class Consumption:
    """Consumes while nothing holds and the end has not come.

    `on_hold` is called when a hold has stopped the consumer, `on_consume` when consuming begins or goes on.
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

    @property
    def flowing(self) -> bool:
        """Whether what arrives may go out in batches."""
        return not self.holds and not self.closing

    @property
    def probing(self) -> bool:
        """Whether what arrives may go out as a probe: an outage is the only hold."""
        return self.holds.keys() == {OUTAGE} and not self.closing

    @property
    def running(self) -> bool:
        """Whether a message may go to a worker at all: in a batch, as a probe, or alone as a suspect."""
        return self.flowing or self.probing

    async def start(self, window: int) -> None:
        """Begins to consume, unless something holds."""
        self.window = window
        if not self.holds and not self.closing:
            await self._consumer.consume(window)
            self._on_consume()

    async def set_window(self, window: int, *, hand_over: bool = False) -> None:
        """Prefetch in messages (>= 1); a change of it is a consumer hand-over, which `hand_over` wants in any case."""
        if hand_over or window != self.window or not self.window:
            self.window = window
            if not self.holds and not self.closing:
                await self._consumer.consume(window)

    async def hold(self, name: str, reason: str) -> None:
        """Stops consuming until `release(name)`, also the consuming of probes; where it is held already, the reason
        alone changes.
        """
        new = name not in self.holds
        self.holds[name] = reason
        if new:
            log.warning("Consuming is paused (%s): %s", name, reason)
            await self._consumer.pause()
            self._on_hold()

    async def release(self, name: str) -> None:
        """Ends one hold; consuming goes on when it was the last."""
        if self.holds.pop(name, None) is not None and not self.holds and not self.closing:
            log.info("Consuming goes on (%s is over)", name)
            await self._consumer.consume(self.window)
            self._on_consume()

    async def start_probing(self, most: int) -> None:
        """Lets up to `most` messages at a time come, where an outage is the only hold.

        Asked here and not by the caller: a task that was spawned for it may run after the next hold has begun.
        """
        if self.probing:
            await self._consumer.consume(most)

    async def stop_probing(self) -> None:
        """Lets no more messages come as probes; nothing where consuming goes on again by now."""
        if self.holds:
            await self._consumer.pause()

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
