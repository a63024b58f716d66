"""Topology: names and arguments of the queues and exchanges: main queue, retry rungs, dead letters. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from rabbitray.actors.rabbitmq.versions import Behaviour, Version, behaviour

Arguments = dict[str, Any]  # Any: AMQP field-table values
DELIVERY_LIMIT = "x-delivery-limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Everything that rabbitray declares for one queue. Delays in milliseconds.

    `broker`: what the server does that it is declared on; see `on`.
    `take_limited`: an existing main queue that would drop messages at its limit is only warned about.
    """

    queue: str
    queue_type: str = "quorum"
    rung_delays_ms: tuple[int, ...] = ()
    dead_letter_exchange: str = ""
    broker: Behaviour = field(default_factory=Behaviour)
    take_limited: bool = False

    def on(self, version: Version) -> Topology:
        """The same on a server of this version: RabbitMQ 4 limits deliveries, so our queues switch that off."""
        return replace(self, broker=behaviour(version))

    @property
    def exchange(self) -> str:
        """The direct exchange for retries and dead letters: no write right on `amq.default` is needed."""
        return self.dead_letter_exchange or f"{self.queue}.rabbitray"

    @property
    def dead_queue(self) -> str:
        """The dead-letter queue."""
        return f"{self.queue}.dead"

    @property
    def dropped_queue(self) -> str:
        """Where RabbitMQ puts what it dead-letters by itself; the router collects it into the dead letters."""
        return f"{self.queue}.dropped"

    def rung(self, delay_ms: int) -> str:
        """The retry queue that holds a message for `delay_ms`."""
        return f"{self.queue}.retry.{delay_ms}"

    def main_arguments(self) -> Arguments:
        """Arguments of the main queue when we create it: its DLX is the dead letters, never a rung."""
        kind = self._durable_kind() | self._main_limit()
        return kind | {"x-dead-letter-exchange": self.exchange, "x-dead-letter-routing-key": self.dropped_queue}

    def rung_arguments(self, delay_ms: int) -> Arguments:
        """Arguments of one rung: fixed TTL, then back to the main queue."""
        return self._durable_kind() | {
            "x-message-ttl": delay_ms,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.queue,
        }

    def dead_arguments(self) -> Arguments:
        """Arguments of the dead-letter queue and of the dropped queue: nothing behind them could catch a drop."""
        return {"x-queue-type": self.queue_type} | self._no_limit()

    def queues(self) -> dict[str, Arguments]:
        """Every queue with the arguments that we would create it with: main, dead letters, dropped, rungs."""
        rungs = {self.rung(delay): self.rung_arguments(delay) for delay in self.rung_delays_ms}
        dead = {name: self.dead_arguments() for name in (self.dead_queue, self.dropped_queue)}
        return {self.queue: self.main_arguments(), **dead, **rungs}

    def _main_limit(self) -> Arguments:
        """A limit only where giving back is not counted: what ends its connection at each delivery, and is held by
        nobody, goes to the dropped queue by itself then, alone, see `router/intake/steadiness`."""
        if self.queue_type == "quorum" and not self.broker.nack_counts:
            return {DELIVERY_LIMIT: self.broker.delivery_limit}
        return self._no_limit()

    def _no_limit(self) -> Arguments:
        """Giving back is no failure: a pause, a drain or a look at the dead letters must not use a message up."""
        if self.queue_type != "quorum" or self.broker.delivery_limit is None:
            return {}
        return {DELIVERY_LIMIT: self.broker.unlimited}

    def _durable_kind(self) -> Arguments:
        if self.queue_type != "quorum":
            return {"x-queue-type": self.queue_type}
        return {
            "x-queue-type": "quorum",
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
