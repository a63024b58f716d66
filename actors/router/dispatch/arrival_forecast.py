"""ArrivalForecast: how many records a free worker's batch should wait for, and how long. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

LEAST_FOR_IDLE: Final = 15
"""Deliveries within `wait_ms` below which an idle worker does not wait for more: at 15 ms, 1,000 a second."""

LEAST_FOR_BUSY: Final = 2
"""The same for a worker that is busy and has slots free, and for each one under load: there is a backlog, or the router
is loaded."""

LOADED: Final = 0.5
"""Share of a core that the router's event loop takes, from which on what a batch costs bounds how much is worked."""

PACE: Final = 4.0
"""Under load a batch waits so many times what one has cost the router, as commits do: a fifth of its time at most goes
into what a batch costs, whatever is in it."""

_LOOK_BACK_S: Final = 0.1


class ArrivalForecast:
    """What arrives while a batch waits, by the rate over the last tenth of a second or more, and by the start of a
    burst.

    It waits `wait_ms`; up to `most_ms` under load. `received` is everywhere the number of deliveries
    since the start, and `now` monotonic seconds. `cpu`: seconds of CPU that the event loop has taken.
    """

    def __init__(self, wait_ms: float, now: float, *, most_ms: float, cpu: Callable[[], float]) -> None:
        self._least_s, self._most_s = wait_ms / 1000, max(wait_ms, most_ms) / 1000
        self._cpu = cpu
        self._rate = 0.0  # deliveries a second
        self._under_load = False
        self._since = now
        self._from = 0  # `received` at `_since`
        self._spent_s = cpu()  # likewise
        self._batches = 0  # since then
        self._looked_at = 0  # `received` at the last look
        self._burst_until = 0.0
        self.wait_s = self._least_s

    def look(self, received: int, now: float) -> None:
        """LEAST_FOR_IDLE deliveries since the last look are the start of a burst, which no rate shows yet."""
        if received - self._looked_at >= LEAST_FOR_IDLE:
            self.expect_burst(now)
        self._looked_at = received

    def expect_burst(self, now: float) -> None:
        """A burst may start now: for `wait_ms` a free worker waits for a full batch."""
        self._burst_until = now + self._least_s

    def sent(self) -> None:
        """A batch goes out."""
        self._batches += 1

    def wanted(self, full: float, received: int, now: float, *, idle: bool, backlog: bool) -> float:
        """How many deliveries are waited for: what arrives within `wait_s`, at most a `full` batch; 1 where it is
        little.

        `idle`: the worker has nothing to do; else it is busy and has slots free. `backlog`: the queue holds so much
        that a wait delays nothing but itself.
        """
        if now - self._since > _LOOK_BACK_S:
            self._measure(received, now, backlog=backlog)
        if now < self._burst_until:
            return full
        coming = self._rate * self.wait_s
        least = LEAST_FOR_IDLE if idle and not self._under_load else LEAST_FOR_BUSY
        return min(full, coming) if coming >= least else 1

    def _measure(self, received: int, now: float, *, backlog: bool) -> None:
        passed_s, spent_s = now - self._since, self._cpu()
        took_s = spent_s - self._spent_s
        self._rate = (received - self._from) / passed_s
        self._under_load = backlog or took_s > LOADED * passed_s
        cost_s = took_s / self._batches if self._under_load and self._batches else 0.0
        self.wait_s = min(self._most_s, max(self._least_s, PACE * cost_s))
        self._since, self._from, self._spent_s, self._batches = now, received, spent_s, 0
