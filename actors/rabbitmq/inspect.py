"""One short connection of a command: opened with a clear error, used, closed; never kept alive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aio_pika
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelNotFoundEntity

from rabbitray.actors.errors import TopologyError
from rabbitray.actors.rabbitmq.declare import TopologyBuilder
from rabbitray.actors.rabbitmq.guarded import GuardedConnection
from rabbitray.actors.rabbitmq.reconnect import within
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.secret import Redactor, Secret, without_credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFinding:
    """One queue as it is: `ready` messages (None: there is no such queue), and what is wrong with it."""

    name: str
    ready: int | None
    refused: str | None = None
    warnings: tuple[str, ...] = ()


@asynccontextmanager
async def contact(url: Secret, *, within_s: float, name: str = "rabbitray") -> AsyncIterator[AbstractConnection]:
    """An open connection, see `frame_guard`; raises BrokerUnreachableError naming host and time tried, at once for a
    refused login."""
    connection = await _opened(url, within_s, name)
    try:
        yield connection
    finally:
        await connection.close()


async def ready_count(connection: AbstractConnection, queue: str) -> int | None:
    """Messages ready in `queue`; None when there is no such queue."""
    async with connection.channel() as channel:
        try:
            found = await channel.declare_queue(queue, passive=True)
        except ChannelNotFoundEntity:
            return None
        return found.declaration_result.message_count or 0


async def declare(connection: AbstractConnection, topology: Topology) -> list[str]:
    """Declares what is missing of the topology; returns warnings. Raises TopologyError."""
    return await TopologyBuilder(connection, topology).build()


async def inspect(connection: AbstractConnection, topology: Topology) -> list[QueueFinding]:
    """Each queue of the topology as it is now; nothing is created or changed."""
    builder = TopologyBuilder(connection, topology)
    return [await _look(connection, builder, name) for name in topology.queues()]


async def exchange_refused(connection: AbstractConnection, topology: Topology) -> str | None:
    """Why the exchange that is there cannot be ours; None where it can, and where it is still to be created."""
    try:
        await TopologyBuilder(connection, topology).compare_exchange()
    except TopologyError as error:
        return str(error)
    return None


async def _look(connection: AbstractConnection, builder: TopologyBuilder, name: str) -> QueueFinding:
    ready = await ready_count(connection, name)
    if ready is None:
        return QueueFinding(name=name, ready=None)
    try:
        warnings = await builder.compare(name)
    except TopologyError as error:
        return QueueFinding(name=name, ready=ready, refused=str(error))
    return QueueFinding(name=name, ready=ready, warnings=warnings)


async def _opened(url: Secret, within_s: float, name: str) -> AbstractConnection:
    async def connect() -> AbstractConnection:
        return await aio_pika.connect(
            url.reveal(),
            timeout=within_s,
            client_properties={"connection_name": name},
            connection_class=GuardedConnection,
        )

    return await within(within_s, connect, where=place(url), redact=Redactor(url))


def place(url: Secret) -> str:
    """The URL without its credentials."""
    return without_credentials(url)
