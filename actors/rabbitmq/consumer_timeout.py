"""ConsumerTimeout: how long RabbitMQ leaves a message unsettled, and what a consumer asks for. Pure.

RabbitMQ ends whoever holds a message longer than its `consumer_timeout`, and does not tell that value over AMQP. From
4.3 on a consumer of a quorum queue may say its own; before, the pool has to fit into what the broker has, or is assumed
to have. What that is for one queue of one broker is a Leave.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from rabbitray.actors.rabbitmq.versions import Behaviour

DEFAULT_S: Final = 1800.0
"""RabbitMQ's default; assumed where nobody says what the broker has."""

ARGUMENT: Final = "x-consumer-timeout"
"""Of basic.consume: milliseconds, above what queue, policy and rabbitmq.conf say. A classic queue refuses it."""

_ROOM_WAITING: Final = 2.5
_ROOM: Final = 1.25
"""Times what a message needs: so much more is asked for, or advised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """`most_s`: how long a message may stay unsettled, as far as that is known. `asked`: the consumer asks for it."""

    most_s: float
    asked: bool = False

    @property
    def arguments(self) -> dict[str, int]:
        """Of basic.consume."""
        return {ARGUMENT: round(self.most_s * 1000)} if self.asked else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerTimeout:
    """`told_s`: what the broker has, as its owner says; None: nobody says. `hold_s`: how long a message waits at most
    before its run; `run_s`: how long that takes at most, until its row is committed.
    """

    told_s: float | None = None
    hold_s: float = 0.0
    run_s: float = 0.0

    @property
    def needed_s(self) -> float:
        """How long a message may be unsettled: it waits, then it runs."""
        return self.hold_s + self.run_s

    def on(self, broker: Behaviour, queue_type: str | None) -> Leave:
        """What holds for our consumer. `queue_type`: None where it is not known, since nobody may look."""
        if queue_type == "classic" and not broker.timeout_on_classic:
            return Leave(most_s=math.inf)
        if queue_type == "quorum" and broker.timeout_of_consumer:
            enough_s = max(DEFAULT_S, _ROOM_WAITING * self.hold_s, _ROOM * self.needed_s)
            return Leave(most_s=self.told_s or enough_s, asked=True)
        return Leave(most_s=self.told_s or DEFAULT_S)

    def refusal(self, broker: Behaviour, queue_type: str | None, queue: str = "QUEUE") -> str | None:
        """Why a pool cannot run on this broker: it may hold a message for longer than the broker lets it. What waits
        must be over by half of the broker's time, and what waits and then runs within it.
        """
        leave = self.on(broker, queue_type)
        source = "as consumer_timeout_s says" if self.told_s else "RabbitMQ's default is assumed"
        has = f"the broker's consumer_timeout ({leave.most_s:g} s, {source})"
        if self.hold_s >= leave.most_s / 2:
            return (
                f"max_hold_s {self.hold_s:g} is not below half of {has}; "
                "lower it, or raise the broker's and tell it here as consumer_timeout_s"
            )
        if self.needed_s < leave.most_s:
            return None
        return (
            f"a message that waits max_hold_s {self.hold_s:g} s and then runs {self.run_s:.0f} s (handler_timeout_s or "
            f"max_run_s, with the waits for batch and commit) is not settled within {has}; "
            f"{self._allowing(broker, queue, asked=leave.asked)}; or lower them"
        )

    def _allowing(self, broker: Behaviour, queue: str, *, asked: bool) -> str:
        """What allows a run of that length on a broker of this version."""
        wanted_s = math.ceil(_ROOM * max(self.needed_s, 2 * self.hold_s) / 60) * 60
        if asked:
            return f"raise consumer_timeout_s to {wanted_s}, for which the pool then asks"
        line = f"`consumer_timeout = {wanted_s * 1000}` in rabbitmq.conf allows it"
        if broker.timeout_of_queue:
            policy = f"'^{re.escape(queue)}$' '{{\"consumer-timeout\": {wanted_s * 1000}}}' --apply-to queues"
            line += f", or `rabbitmqctl set_policy long-jobs {policy}`"
        return f"{line}; tell it here as consumer_timeout_s {wanted_s}"

    def words(self, broker: Behaviour, queue_type: str | None) -> str:
        """What holds on this broker, what of it cannot be known, and what sets it."""
        leave = self.on(broker, queue_type)
        ends = "cancels the consumer" if broker.timeout_ends == "consumer" else "closes the channel"
        if math.isinf(leave.most_s):
            return "consumer_timeout: this RabbitMQ has none for a classic queue"
        if leave.asked:
            return (
                f"consumer_timeout: the pool asks for {leave.most_s:,g} s, whatever queue, policy and rabbitmq.conf "
                f"say; RabbitMQ {ends} that holds a message longer"
            )
        source = "as consumer_timeout_s says" if self.told_s else "its default, is assumed"
        policy = " or a policy consumer-timeout" if broker.timeout_of_queue else ""
        return (
            f"consumer_timeout cannot be asked over AMQP; {leave.most_s:,g} s, {source}. RabbitMQ {ends} that holds a "
            f"message longer. consumer_timeout (ms) in rabbitmq.conf{policy} sets it, consumer_timeout_s tells it here"
        )
