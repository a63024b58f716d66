"""Arrivals: what has been delivered since the start. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.settlement.outstanding import OutstandingRetries

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

    def count(self, delivery: Delivery) -> None:
        """Counts one delivery."""
        self.received += 1
        if delivery.returned or delivery.redelivered:
            self.returned += 1
            self.near_limit += delivery.near_limit
            if delivery.returned and self.outstanding is not None:
                self.outstanding.came_back(delivery)
        mean = self.mean_message_bytes
        if mean is None:
            self.mean_message_bytes, self.records_per_message = delivery.size, float(delivery.records)
        else:
            self.mean_message_bytes = mean + _SHARE * (delivery.size - mean)
            self.records_per_message += _SHARE * (delivery.records - self.records_per_message)
