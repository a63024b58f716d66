"""ArrivalForecast: how many messages a free worker's batch is worth waiting for. Pure."""

from __future__ import annotations

from typing import Final

RUSH_MS: Final = 15.0
"""The longest that a free worker waits for company."""

RUSH_LEAST: Final = 15  # deliveries within RUSH_MS below which an idle worker is sent to at once: 1,000 a second
FREE_LEAST: Final = 2  # the same for a worker that is busy and has slots free: 133 a second
_LOOK_BACK_S: Final = 0.1


class ArrivalForecast:
    """What is about to arrive, by the rate over the last tenth of a second or more, and by the beginning of a burst."""

    def __init__(self, now: float) -> None:
        self._rate = 0.0
        self._since = now
        self._from = 0
        self._looked_at = 0  # `received` at the last look
        self._burst_until = 0.0

    def look(self, received: int, now: float) -> None:
        """RUSH_LEAST deliveries since the last look are the beginning of a flood, which no rate shows yet."""
        if received - self._looked_at >= RUSH_LEAST:
            self.expect(now)
        self._looked_at = received

    def expect(self, now: float) -> None:
        """A burst may begin: consuming begins."""
        self._burst_until = now + RUSH_MS / 1000

    def wanted(self, full: int, received: int, now: float, *, idle: bool) -> float:
        """How many deliveries are waited for: what comes within RUSH_MS, at most a `full` batch, 1 where little comes.

        `idle`: the worker has nothing to do; else it is busy and has slots free.
        """
        if now < self._burst_until:
            return full
        passed_s = now - self._since
        if passed_s > _LOOK_BACK_S:
            self._rate = (received - self._from) / passed_s
            self._since, self._from = now, received
        coming = self._rate * RUSH_MS / 1000
        return min(full, coming) if coming >= (RUSH_LEAST if idle else FREE_LEAST) else 1
