"""Which messages RabbitMQ's `consumer_timeout` has taken back, and in what words that is told. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rabbitray.actors.router.delivery import Delivery

NEARLY = 0.95
"""Of the time: RabbitMQ's clock began before ours, and what is as old as that would be the next to be late."""


def late_among(held: Iterable[Delivery], now: float, timeout_s: float) -> list[Delivery]:
    """Those that RabbitMQ has taken back, or is about to, the oldest first. `now`: monotonic seconds."""
    moment = now - NEARLY * timeout_s
    return sorted((one for one in held if one.arrived_at <= moment), key=lambda one: one.arrived_at)


def late_words(late: Sequence[Delivery], now: float, timeout_s: float, queue: str) -> str:
    """Which message was late and for how long, in one sentence; `late`: the oldest first."""
    if not late:
        return f"a message of queue {queue} was not settled within RabbitMQ's consumer_timeout ({timeout_s:,g} s)"
    parcel = late[0].parcel
    more = f", and {len(late) - 1:,} more" if len(late) > 1 else ""
    return (
        f"message {parcel.key or parcel.message_id or 'without an id'} of queue {queue} was not settled for "
        f"{now - late[0].arrived_at:,.1f} s{more}: RabbitMQ's consumer_timeout is {timeout_s:,g} s"
    )
