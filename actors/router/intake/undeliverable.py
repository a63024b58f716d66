"""A message that RabbitMQ closes the connection for at each delivery, and what a person can do about it. Pure.

RabbitMQ 4 cannot write an AMQP 1.0 property of type uuid or char for an AMQP 0-9-1 client. It closes the connection, so
nobody is ever shown the message, nor its id. Only where it lies is known: one message is consumed at a time by then
(`steadiness.py`), so it is the one at the head.
"""

from __future__ import annotations

from aiormq.exceptions import ConnectionInternalError

from rabbitray.actors.rabbitmq.errors import describe
from rabbitray.actors.rabbitmq.topology import Topology

LIMIT = 5
"""Deliveries after which the policy that is named moves the message."""


def closing_words(cause: BaseException | None, *, narrow: bool, settled: bool) -> str | None:
    """What RabbitMQ said, where the end of a connection means that the message at the head cannot be delivered.

    `cause`: what ended the connection; `narrow`: one message was consumed at a time; `settled`: one of them was worked.
    """
    if not narrow or settled or not isinstance(cause, ConnectionInternalError):
        return None
    return f"541 {' '.join(describe(cause).split())}"


def way_out(topology: Topology, source: str, words: str) -> str:
    """What a hold says: RabbitMQ's own words, which message it is, and how it can be moved. `source`: its queue."""
    said = f"RabbitMQ closes the connection as it delivers the message at the head of {source}: {words}."
    if source != topology.queue:
        return f"{said} Take it out with an AMQP 1.0 client; what lies behind it waits"
    return (
        f"{said} It has not been shown to anybody, nor its id. A policy moves it, and no other, from a quorum queue to "
        f"{topology.dropped_queue}: {topology.limit_policy(LIMIT)}. An AMQP 1.0 client can take it from any queue"
    )
