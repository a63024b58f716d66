"""Topology: names and arguments of the queues and exchanges: main queue, retry rungs, dead letters. Pure."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field, replace
from typing import Any

from rabbitray.actors.message.properties.route import route_of
from rabbitray.actors.rabbitmq.versions import Behaviour, Version, behaviour

Arguments = dict[str, Any]  # Any: AMQP field-table values
DELIVERY_LIMIT = "x-delivery-limit"
MAIN_LIMIT = 20
"""Of the main queue that we make: what cannot be delivered at all ends in the dropped queue by itself."""


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
        """The same on a server of this version: RabbitMQ 4 limits deliveries, which our queues say themselves."""
        return replace(self, broker=behaviour(version))

    @property
    def exchange(self) -> str:
        """The direct exchange for retries and dead letters: no write right on `amq.default` is needed."""
        return self.dead_letter_exchange or f"{self.queue}.rabbitray"

    @property
    def copies_come_by(self) -> frozenset[bytes]:
        """The routes (see `route_of`) by which our copies come to the main queue: through our exchange, or out of a
        rung or a replay by the default exchange."""
        return _routes_to(self.queue, self.exchange)

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
        kind = self._durable_kind() | self._limit(MAIN_LIMIT)
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
        return {"x-queue-type": self.queue_type} | self._limit(self.broker.unlimited)

    def queues(self) -> dict[str, Arguments]:
        """Every queue with the arguments that we would create it with: main, dead letters, dropped, rungs."""
        rungs = {self.rung(delay): self.rung_arguments(delay) for delay in self.rung_delays_ms}
        dead = {name: self.dead_arguments() for name in (self.dead_queue, self.dropped_queue)}
        return {self.queue: self.main_arguments(), **dead, **rungs}

    def limit_policy(self, limit: int) -> str:
        """The command that gives the main queue, however it was made, a delivery limit (-1: none) and a place behind.

        Of several policies RabbitMQ applies one to a queue, that of the highest priority.
        """
        place = {"dead-letter-exchange": self.exchange, "dead-letter-routing-key": self.dropped_queue}
        pattern = "^" + self.queue.replace(".", r"\.") + "$"
        given = json.dumps({"delivery-limit": limit} | place)
        return f"rabbitmqctl set_policy --apply-to queues rabbitray-limit '{pattern}' '{given}'"

    def shielding_policy(self, priority: int = 100) -> str:
        """The command that keeps other policies of a lower priority away from all queues but the main one.

        RabbitMQ applies one policy to a queue, and it must define something: this one defines a length that is never
        met. An operator policy applies all the same.
        """
        pattern = "^" + self.queue.replace(".", r"\.") + r"\.(dead|dropped|retry\.[0-9]+)$"
        given = json.dumps({"max-length": 1_000_000_000, "overflow": "reject-publish"})
        return f"rabbitmqctl set_policy --priority {priority} --apply-to queues rabbitray-own '{pattern}' '{given}'"

    def _limit(self, limit: int | None) -> Arguments:
        """The delivery limit, where RabbitMQ sets one for queues that say nothing."""
        return {DELIVERY_LIMIT: limit} if self.queue_type == "quorum" and self.broker.delivery_limit is not None else {}

    def _durable_kind(self) -> Arguments:
        if self.queue_type != "quorum":
            return {"x-queue-type": self.queue_type}
        return {
            "x-queue-type": "quorum",
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }


@functools.lru_cache(maxsize=8)  # asked for each copy
def _routes_to(queue: str, exchange: str) -> frozenset[bytes]:
    return frozenset((route_of(exchange, queue), route_of("", queue)))
