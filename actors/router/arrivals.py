"""Arrivals: what has been delivered since the start."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from rabbitray.actors.router.delivery import SKEWED_MS, Delivery
from rabbitray.actors.router.settlement.outstanding import OutstandingRetries

log = logging.getLogger(__name__)

_SHARE = 0.01  # of the newest message in the smoothed means: they look back over about 100 messages


@dataclass(slots=True)
class Arrivals:
    """Counts of deliveries, and what a message looks like on average."""

    received: int = 0
    returned: int = 0  # of those: came back from a rung, or redelivered
    near_limit: int = 0  # came near the delivery limit of their queue
    outstanding: OutstandingRetries | None = None  # is told what came back from a rung
    mean_message_bytes: float | None = None  # smoothed
    records_per_message: float = 1.0  # smoothed
    ahead: int = 0  # messages whose producer's clock is ahead of ours
    ahead_ms: int = 0  # of the last of them
    newest_ms: int | None = None  # publish to arrival, of the last message that came for the first time

    def count(self, delivery: Delivery) -> None:
        """Counts one delivery."""
        self.received += 1
        if delivery.ahead_ms > SKEWED_MS:
            self._count_ahead(delivery.ahead_ms)
        if delivery.returned or delivery.redelivered:
            self.returned += 1
            self.near_limit += delivery.near_limit
            if delivery.returned and self.outstanding is not None:
                self.outstanding.came_back(delivery)
        elif (parcel := delivery.parcel).published_ms:
            self.newest_ms = parcel.received_ms - parcel.published_ms
        mean = self.mean_message_bytes
        if mean is None:
            self.mean_message_bytes, self.records_per_message = delivery.size, float(delivery.records)
        else:
            self.mean_message_bytes = mean + _SHARE * (delivery.size - mean)
            self.records_per_message += _SHARE * (delivery.records - self.records_per_message)

    def _count_ahead(self, ahead_ms: int) -> None:
        if not self.ahead:
            log.warning(
                "A producer's clock is %.0f s ahead of this machine's: its messages have no latency", ahead_ms / 1000
            )
        self.ahead += 1
        self.ahead_ms = ahead_ms
