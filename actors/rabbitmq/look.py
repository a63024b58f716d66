"""A look at one queue or exchange that changes nothing.

From RabbitMQ 4.2.6 and 4.3.1 on a look needs a right on what is looked at. Who has none gets a 403, whether it is there
or not: it is *hidden* then, which is no error, for one may well publish to what one may not look at.
"""

from __future__ import annotations

from dataclasses import dataclass

import aio_pika
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource, ChannelNotFoundEntity

from rabbitray.actors.errors import TopologyError


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """`there`: None where this user may not look (hidden). `ready`: messages, `consumers`: how many it has; None where
    that is not known. `down`: what RabbitMQ says of a queue that is there, on a node that is not.

    A quorum queue whose leader is away is told as empty and without a consumer, whatever it holds (tried on 4.3.6).
    """

    there: bool | None
    ready: int | None = None
    consumers: int | None = None
    down: str | None = None

    @property
    def hidden(self) -> bool:
        """Whether this user may not look at it."""
        return self.there is None


async def look(connection: AbstractConnection, queue: str) -> Seen:
    """One queue as it is now. Raises TopologyError where it is exclusive to another connection."""
    async with connection.channel() as channel:
        try:
            found = await channel.declare_queue(queue, passive=True)
        except ChannelNotFoundEntity as answer:
            return Seen(there=True, down=str(answer)) if node_is_down(answer) else Seen(there=False)
        except ChannelAccessRefused:
            return Seen(there=None)
        except ChannelLockedResource as refusal:
            raise TopologyError(f"queue {queue!r} is exclusive to another connection; use another name") from refusal
        told = found.declaration_result
        return Seen(there=True, ready=told.message_count or 0, consumers=told.consumer_count)


async def look_at_exchange(connection: AbstractConnection, exchange: str) -> Seen:
    """Whether an exchange is there."""
    async with connection.channel() as channel:
        try:
            await channel.declare_exchange(exchange, aio_pika.ExchangeType.DIRECT, passive=True)
        except ChannelNotFoundEntity:
            return Seen(there=False)
        except ChannelAccessRefused:
            return Seen(there=None)
        return Seen(there=True)


def node_is_down(answer: ChannelNotFoundEntity) -> bool:
    """Whether a 404 is about a durable queue that is there, on a node that is not: nothing of it has vanished."""
    return "down or inaccessible" in str(answer)


def hidden(kind: str, name: str) -> str:
    """One line about what this user may not look at."""
    return (
        f"{kind} {name!r}: this user may not look at it (403), so whether it is there and what it holds is not known; "
        "grant it `read` or `write` on it"
    )
