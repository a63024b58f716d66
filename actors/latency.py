"""Latency: a histogram of durations with bounded memory and 5 % resolution. Pure."""

from __future__ import annotations

import math
from collections import Counter

_STEP = math.log(1.05)


class Latency:
    """Counts durations in milliseconds in buckets that grow by 5 %; memory is bounded by the range, not the count."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0

    def add(self, milliseconds: float) -> None:
        """Counts one duration; anything below 0.1 ms counts as 0.1 ms, above a day as a day."""
        bounded = min(max(milliseconds, 0.1), 86_400_000.0)
        self._buckets[round(math.log(bounded) / _STEP)] += 1
        self.count += 1

    def summary(self) -> dict[str, float | None]:
        """The 50th, 95th and 99th percentile in ms, ready for JSON; None where nothing was counted."""
        return {"p50": self.percentile(0.5), "p95": self.percentile(0.95), "p99": self.percentile(0.99)}

    def percentile(self, share: float) -> float | None:
        """The duration in ms below which `share` (0..1) of the counted ones lie; None when nothing was counted."""
        rank = share * self.count
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                return round(math.exp(bucket * _STEP), 1)
        return None
