"""Strays: copies that came to a queue although they were meant for another one. Pure.

Our own exchange is a direct one, and each of our queues is bound to it under its own name. Where it is a fanout all
the same, or a queue is bound under another one's name, which cannot be seen over AMQP, each copy would arrive in
several queues, fail there, and be copied again, without end. So a message that came through that exchange under
another queue's name is not worked: the queue that it was meant for has it, too.

What came by another way is nobody's stray: what a producer sends through an exchange of his own, and what a person
moves (a shovel, "move messages" of the management page), which comes by the default exchange.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from rabbitray.actors.message.headers import ATTEMPT, DEATHS
from rabbitray.actors.message.properties.route import short_text

_DEATHS_READ = 20  # entries; RabbitMQ writes one for each queue that a copy died in
_OF_OURS = re.compile(r".+\.(?:dead|dropped|retry\.[0-9]+)", re.DOTALL)


class Strays:
    """Knows the strays of one queue. `exchange`: our own, for retries and dead letters."""

    def __init__(self, exchange: str, queue: str) -> None:
        self._exchange, self._queue = exchange, queue
        self.way = short_text(exchange)
        """The route of what came through our exchange begins so, see `route_of`. Only such a message, and one with
        DEATHS among its headers, is worth asking `holds` for."""

    def holds(self, exchange: str, routing_key: str, table: Mapping[str, object] | None) -> bool:
        """Whether a message that came to the queue by this way is a stray. Raises nothing on any table."""
        table = table or {}
        copied = ATTEMPT in table
        if exchange == self._exchange and _means_another(routing_key, self._queue, copied=copied):
            return True
        deaths = table.get(DEATHS)
        return isinstance(deaths, list) and any(
            self._strayed_before(death, copied=copied) for death in deaths[:_DEATHS_READ] if isinstance(death, Mapping)
        )

    def _strayed_before(self, death: Mapping[str, object], *, copied: bool) -> bool:
        """Whether it was a stray in the queue that RabbitMQ moved it out of, a rung as a rule."""
        keys = death.get("routing-keys")
        if _text(death.get("exchange")) != self._exchange or not isinstance(keys, list) or not keys:
            return False
        return _means_another(_text(keys[0]), _text(death.get("queue")), copied=copied)


def _means_another(key: str, queue: str, *, copied: bool) -> bool:
    """Whether a routing key of our own exchange means another queue than this one.

    A copy of ours is sent to one queue under its name. What has no header of a copy may be of a producer who uses the
    exchange too, with keys of his own: then only a name as we give them to queues means another queue.
    """
    return key != queue and (copied or _OF_OURS.fullmatch(key) is not None)


def _text(value: object) -> str:
    return bytes(value).decode("utf-8", "replace") if isinstance(value, bytes | bytearray) else str(value)
