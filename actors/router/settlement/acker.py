"""Acker: finished messages are acked, and those that are not safe are given back after a pause."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from rabbitray.actors.backoff import Backoff
from rabbitray.actors.router.delivery import SKEWED_MS, Delivery
from rabbitray.actors.router.settlement.tally import Tally
from rabbitray.actors.telemetry.tracing import Tracing

GIVE_BACK = Backoff(first_s=0.5, most_s=30.0)


class Acks(Protocol):
    """The way back to RabbitMQ, as `Intake` does it. `finish` returns how many can be acked."""

    def finish(self, deliveries: Sequence[Delivery]) -> int: ...
    def give_back(self, deliveries: Iterable[Delivery]) -> None: ...
    def still_ours(self, deliveries: Iterable[Delivery]) -> list[Delivery]: ...


class Acker:
    """Acks with a span and counts, and keeps the back-off of what is given back."""

    def __init__(self, acks: Acks, tally: Tally, tracing: Tracing) -> None:
        self._acks = acks
        self._tally = tally
        self._tracing = tracing
        self._backoff = GIVE_BACK

    def still_ours(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Those of them that RabbitMQ will not deliver again."""
        return self._acks.still_ours(deliveries)

    def ack(self, deliveries: list[Delivery], span: str | None = None) -> None:
        """Acks what is finished. `span`: the traceparent of their batch's span."""
        if not deliveries:
            return
        with self._tracing.settle_span("ack", len(deliveries), batches=(span,)):
            self._tally.acked += self._acks.finish(deliveries)
        self._backoff = GIVE_BACK
        now_ms = time.time() * 1000
        self._tally.acked_at = now_ms / 1000
        for delivery in deliveries:
            if delivery.parcel.published_ms and delivery.ahead_ms <= SKEWED_MS:
                self._tally.latency.add(now_ms - delivery.parcel.published_ms)

    def give_back_later(self, deliveries: list[Delivery]) -> None:
        """With back-off, so that a full or missing queue does not make a busy loop."""
        delay_s, self._backoff = self._backoff.delay_s(), self._backoff.failed()
        self._tally.given_back += len(deliveries)
        asyncio.get_running_loop().call_later(delay_s, self._acks.give_back, deliveries)
