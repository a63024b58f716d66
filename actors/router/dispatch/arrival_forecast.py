"""ArrivalForecast: how many records a free worker's batch should wait for. Pure."""

from __future__ import annotations

from typing import Final

LEAST_FOR_IDLE: Final = 15
"""Deliveries within `wait_ms` below which an idle worker does not wait for more: at 15 ms, 1,000 a second."""

LEAST_FOR_BUSY: Final = 2
"""The same for a worker that is busy and has slots free: at 15 ms, 133 a second."""

_LOOK_BACK_S: Final = 0.1


class ArrivalForecast:
    """What arrives within `wait_ms`, by the rate over the last tenth of a second or more, and by the start of a burst.

    `received` is everywhere the number of deliveries since the start, and `now` monotonic seconds.
    """

    def __init__(self, wait_ms: float, now: float) -> None:
        self._wait_s = wait_ms / 1000
        self._rate = 0.0  # deliveries a second
        self._since = now
        self._from = 0  # `received` at `_since`
        self._looked_at = 0  # `received` at the last look
        self._burst_until = 0.0

    def look(self, received: int, now: float) -> None:
        """LEAST_FOR_IDLE deliveries since the last look are the start of a burst, which no rate shows yet."""
        if received - self._looked_at >= LEAST_FOR_IDLE:
            self.expect_burst(now)
        self._looked_at = received

    def expect_burst(self, now: float) -> None:
        """A burst may start now: for `wait_ms` a free worker waits for a full batch."""
        self._burst_until = now + self._wait_s

    def wanted(self, full: int, received: int, now: float, *, idle: bool) -> float:
        """How many records are waited for: what arrives within `wait_ms`, at most a `full` batch; 1 where it is little.

        `idle`: the worker has nothing to do; else it is busy and has slots free.
        """
        if now < self._burst_until:
            return full
        passed_s = now - self._since
        if passed_s > _LOOK_BACK_S:
            self._rate = (received - self._from) / passed_s
            self._since, self._from = now, received
        coming = self._rate * self._wait_s
        return min(full, coming) if coming >= (LEAST_FOR_IDLE if idle else LEAST_FOR_BUSY) else 1
