"""What the autoscaler sees of the queue: its depth, and how many messages entered it. Pure."""

from __future__ import annotations

from typing import Final

from rabbitray.actors.telemetry import kpi
from rabbitray.actors.telemetry.metrics import Recorder
from rabbitray.autoscale.policy.signals import Snapshot

BELOW_MOST: Final = 5
"""Looks in a row below the mark after which messages must have been purged, and counting starts afresh."""


class QueueMeter:
    """Records depth and arrivals, whoever published.

    Entered = ready + first deliveries; the two are not read in the same instant, and a message that returns from a
    rung is ready once more for a moment, so only what rises above the highest mark counts.
    """

    def __init__(self, metrics: Recorder) -> None:
        self._metrics = metrics
        self._mark: int | None = None
        self._epoch = 0
        self._below = 0

    def look(self, seen: Snapshot) -> None:
        """Records one look."""
        if seen.ready is None:
            return
        self._metrics.record(kpi.QUEUE_DEPTH.name, seen.ready)
        self._metrics.record(kpi.PUBLISHED.name, self._entered(seen.ready + seen.pool.received, seen.pool.epoch))

    def _entered(self, entered: int, epoch: int) -> int:
        """How many came since the last look; 0 at the first look of a router."""
        if self._mark is None or epoch != self._epoch:
            self._mark, self._epoch, self._below = entered, epoch, 0
            return 0
        self._below = self._below + 1 if entered < self._mark else 0
        if self._below > BELOW_MOST:
            self._mark, self._below = entered, 0
        grown = max(0, entered - self._mark)
        self._mark += grown
        return grown
