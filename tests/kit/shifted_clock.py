"""ShiftedClock: a monotonic clock that a test sets ahead or back."""

from __future__ import annotations

import time


class ShiftedClock:
    """Tells `time.monotonic()` plus `ahead_s`."""

    def __init__(self, ahead_s: float = 0.0) -> None:
        self.ahead_s = ahead_s

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s
