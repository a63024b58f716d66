"""ConsumerTimeout: how long RabbitMQ leaves a message unsettled, and what a consumer asks for. Pure.

RabbitMQ ends whoever holds a message longer than its `consumer_timeout`, and does not tell that value over AMQP. From
4.3 on a consumer may say its own; before, the pool must fit into what the broker has, or is assumed to have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rabbitray.actors.rabbitmq.versions import Behaviour

DEFAULT_S: Final = 1800.0
"""RabbitMQ's default; assumed where nobody says what the broker has."""

ARGUMENT: Final = "x-consumer-timeout"
"""Of basic.consume: milliseconds, above what queue, policy and rabbitmq.conf say."""

_ROOM: Final = 2.5
"""Of what a message is held: it waits, runs, and its row is committed, each for less than that, and some is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerTimeout:
    """`told_s`: what the broker has, as its owner says; None: nobody says. `hold_s`: how long a message is held at most
    before its run, which takes less than that.
    """

    told_s: float | None = None
    hold_s: float = 0.0

    @property
    def asked_s(self) -> float:
        """What a consumer asks for where it may: enough for the longest run, and never less than the default."""
        return self.told_s or max(DEFAULT_S, _ROOM * self.hold_s)

    def arguments(self, broker: Behaviour) -> dict[str, int]:
        """What is added to basic.consume; nothing where the broker knows no such argument."""
        return {ARGUMENT: round(self.asked_s * 1000)} if broker.timeout_of_consumer else {}

    def of(self, broker: Behaviour) -> float:
        """What holds for our consumer, as far as that can be known."""
        return self.asked_s if broker.timeout_of_consumer else self.told_s or DEFAULT_S

    def words(self, broker: Behaviour) -> str:
        """What holds on this broker, what cannot be known of it, and what would change it."""
        ends = "cancels the consumer" if broker.timeout_ends == "consumer" else "closes the channel"
        if broker.timeout_of_consumer:
            return (
                f"consumer_timeout: the pool asks for {self.asked_s:,g} s on a quorum queue, above what queue, policy "
                f"and rabbitmq.conf say; RabbitMQ {ends} of who holds a message longer. On a classic queue there is none"
            )
        whence = (
            "as consumer_timeout_s says" if self.told_s else "its default, is assumed: it cannot be asked over AMQP"
        )
        policy = ", or a policy consumer-timeout" if broker.timeout_of_queue else ""
        return (
            f"consumer_timeout: {self.of(broker):,g} s, {whence}. RabbitMQ {ends} of who holds a message longer; "
            f"rabbitmq.conf (consumer_timeout = {self.of(broker) * 1000:.0f}){policy} sets it, and consumer_timeout_s "
            "tells the pool"
        )

    def refusal(self, broker: Behaviour) -> str | None:
        """Why a pool cannot run on this broker: it may hold a message for longer than the broker lets it."""
        if self.hold_s < self.of(broker) / 2:
            return None
        had = (
            f"{self.of(broker):g} s, the setting consumer_timeout_s" if self.told_s else f"{DEFAULT_S:g} s, its default"
        )
        return (
            f"max_hold_s {self.hold_s:g} is not below half of the broker's consumer_timeout ({had}); lower it (or "
            "handler_timeout_s), or raise consumer_timeout in rabbitmq.conf and tell it here: consumer_timeout_s"
        )
