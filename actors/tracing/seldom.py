"""Seldom: lets a line about something that goes on into the log now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

EVERY_S: Final = 60.0


class Seldom:
    """Says yes to the first who asks, and then at most once in EVERY_S seconds. Two threads at once may both get it."""

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
