"""Budget: the bound on unconfirmed messages and bytes; callers wait for room, first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque


class Budget:
    """Counts messages and bytes that are outstanding; first come, first served. For one event loop.

    A message larger than the whole byte bound is let in alone, so that nothing waits for ever.
    """

    __slots__ = ("_max_bytes", "_max_messages", "_waiting", "bytes", "messages")

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self.messages = 0
        self.bytes = 0

    def try_take(self, size: int) -> bool:
        """Take room for one message of `size` bytes if there is some and nobody waits; never waits."""
        if self._waiting or not self._fits(size):
            return False
        self.messages += 1
        self.bytes += size
        return True

    async def take(self, size: int) -> None:
        """Wait for room and take it. Cancelled: takes nothing."""
        if self.try_take(size):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, size))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(size)
            raise

    def give(self, size: int) -> None:
        """Give room back, and to whoever waits first."""
        self.messages -= 1
        self.bytes -= size
        waiting = self._waiting
        while waiting:
            turn, wanted = waiting[0]
            if not turn.done():
                if not self._fits(wanted):
                    return
                self.messages += 1
                self.bytes += wanted
                turn.set_result(None)
            waiting.popleft()

    def _fits(self, size: int) -> bool:
        if self.messages == 0:
            return True
        return self.messages < self._max_messages and self.bytes + size <= self._max_bytes
