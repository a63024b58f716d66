"""What this user may do with queues and exchanges, found out without doing it.

Each question is a request with one argument of a wrong type: RabbitMQ looks at the right first (403) and at the
arguments next (406). So nothing is declared, consumed or published, whatever the answer is (tried on 3.10.8, 4.0.5 and
4.3). Only what is answered with 403 is a missing right: any other answer shows that it was got past.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel
from aiormq.exceptions import AMQPChannelError, ChannelAccessRefused
from pamqp.commands import Basic

from rabbitray.actors.rabbitmq.topology import Topology

_NO_NUMBER: Final = "no number"


class Rights:
    """The rights of one connection's user; a channel for each question, since each answer closes it."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection

    async def may_read(self, queue: str) -> bool:
        """Whether it may consume the queue."""
        return await self._allowed(
            lambda channel: channel.basic_consume(queue, _drop, arguments={"x-priority": _NO_NUMBER})
        )

    async def may_write(self, exchange: str) -> bool:
        """Whether it may publish to the exchange."""
        wrong = Basic.Properties(expiration=_NO_NUMBER)
        return await self._allowed(lambda channel: channel.basic_publish(b"", exchange=exchange, properties=wrong))

    async def may_create(self, queue: str) -> bool:
        """Whether it may declare the queue."""
        wrong: Any = {"x-dead-letter-exchange": 1, "x-expires": _NO_NUMBER}  # Any: AMQP field-table values
        return await self._allowed(lambda channel: channel.queue_declare(queue, durable=True, arguments=wrong))

    async def may_create_exchange(self, exchange: str) -> bool:
        """Whether it may declare the exchange."""
        wrong: Any = {"alternate-exchange": 1}  # Any: AMQP field-table values
        return await self._allowed(
            lambda channel: channel.exchange_declare(exchange, exchange_type="direct", durable=True, arguments=wrong)
        )

    async def _allowed(self, ask: Callable[[AbstractChannel], Awaitable[object]]) -> bool:
        async with self._connection.channel() as holder:
            try:
                await ask(await holder.get_underlay_channel())
            except ChannelAccessRefused:
                return False
            except AMQPChannelError:
                return True
        return True


async def missing_rights(connection: AbstractConnection, topology: Topology, absent: Iterable[str] = ()) -> list[str]:
    """What a pool needs and this user may not do, one line each; `absent`: queues and exchanges that are to be made."""
    rights, absent, exchange = Rights(connection), frozenset(absent), topology.exchange
    needs: list[tuple[bool, Callable[[str], Awaitable[bool]], str, str]] = [
        *((queue not in absent, rights.may_read, queue, _unreadable(queue)) for queue in _consumed(topology)),
        (exchange not in absent, rights.may_write, exchange, _unwritable(exchange)),
        (exchange in absent, rights.may_create_exchange, exchange, denied("exchange", exchange)),
        *((queue in absent, rights.may_create, queue, denied("queue", queue)) for queue in topology.queues()),
    ]
    return [text for asked, allows, name, text in needs if asked and not await allows(name)]


def _consumed(topology: Topology) -> tuple[str, str]:
    return topology.queue, topology.dropped_queue


def _unreadable(queue: str) -> str:
    return f"this user may not consume queue {queue!r} (403): grant it `read` on it"


def _unwritable(exchange: str) -> str:
    return (
        f"this user may not publish to exchange {exchange!r} (403), so nothing could be retried or parked: grant it "
        "`write` on it"
    )


def denied(kind: str, name: str) -> str:
    """One line about what is missing and cannot be made."""
    return f"{kind} {name!r} does not exist and this user may not create it (403); create it or grant `configure`"


async def _drop(_: object) -> None:
    """No delivery ever comes."""
