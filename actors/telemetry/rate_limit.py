"""Bounds: LogThrottle, at most one log line a minute; Allowance, so many spans a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

EVERY_S: Final = 60.0


class LogThrottle:
    """At most one log line in `EVERY_S` seconds: `due()` is True for the first who asks, then once in that time.

    Two threads that ask at the same moment may both get True.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = float("-inf")

    def due(self) -> bool:
        """Whether it is time for a line."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + EVERY_S
        return True


class Allowance:
    """At most `per_s` in a second: `take()` is True while there is room; `refused` counts the others."""

    def __init__(self, per_s: int, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._clock = clock
        self._left = float(per_s)
        self._at = clock()
        self.refused = 0

    def take(self) -> bool:
        now = self._clock()
        self._left = min(float(self._per_s), self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            self.refused += 1
            return False
        self._left -= 1
        return True
