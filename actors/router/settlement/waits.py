"""Waits: how long a message may be put back without a charge, and where a failed job goes.

Whoever publishes can write our headers, and a service may be away for ever: what charges no attempt must end all the
same. A message is put back so for 30 days after it was first seen, or replayed, and so often at most as fits into that
time (`RetryLimits.hops_most`). After that it runs before its due time, and its failures are charged.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from rabbitray.actors.message.parcel import Record, whole_message
from rabbitray.actors.message.reply import Failure
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.holds.outage import of_a_service
from rabbitray.actors.router.settlement.copies import hops_before, may_wait_until_ms, spared_before
from rabbitray.actors.router.settlement.retries import RetryLimits, Rung, Settlement, settlement, spare, wait_until
from rabbitray.actors.telemetry.rate_limit import LogThrottle

log = logging.getLogger(__name__)

SAID_FROM_MS = 60_000
"""A wait that is cut by less than a minute is not worth a line."""


class Waits:
    """Decides within the limits of one queue; says at most once a minute that a handler's wait was cut."""

    def __init__(self, limits: RetryLimits) -> None:
        self._limits = limits
        self._cut_line = LogThrottle()

    def must_wait(self, delivery: Delivery) -> bool:
        """Whether it came before its due time. Put back too often, or where there is no rung, it runs at once."""
        return delivery.due_ms > time.time() * 1000 and hops_before(delivery) < self._limits.hops_most

    def next_hop(self, delivery: Delivery) -> tuple[Record, Rung]:
        """The rung that a message goes into which `must_wait`, as a whole and at no charge."""
        record = whole_message(delivery.parcel)
        rung = wait_until(delivery.due_ms, self._limits.rungs_ms, _now_ms(), record.attempt)
        return record, replace(rung, hops=hops_before(delivery) + 1)

    def after_failure(self, delivery: Delivery, failure: Failure, spared_s: float | None) -> Settlement:
        """Where a failed job goes. `spared_s`: see `Settler.publish`."""
        limits, now_ms = self._limits, _now_ms()
        latest_ms, hops = may_wait_until_ms(delivery), hops_before(delivery)
        spares = spared_s is not None and limits.rungs_ms and of_a_service(failure)
        if not spares or now_ms >= latest_ms or hops >= limits.hops_most:
            self._say_cut(failure, latest_ms - now_ms)
            return settlement(failure, limits, now_ms, latest_ms=latest_ms)
        rung = spare(failure, spared_before(delivery), limits, now_ms, least_ms=round((spared_s or 0.0) * 1000))
        return replace(rung, hops=hops + 1)

    def _say_cut(self, failure: Failure, most_ms: int) -> None:
        """A handler asked for a longer wait than the message may have."""
        asked_ms = (failure.after_s or 0.0) * 1000
        if asked_ms > max(most_ms, 0) + SAID_FROM_MS and self._cut_line.due():
            log.warning(
                "Message %s waits %.0f s instead of the %.0f s that its handler asked for: a message may wait for 30 "
                "days after it was first seen, or replayed",
                failure.message_id,
                max(most_ms, 0) / 1000,
                asked_ms / 1000,
            )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
