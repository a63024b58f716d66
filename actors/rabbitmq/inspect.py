"""One short connection of a command: opened with a clear error, used, closed; never kept alive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

from aio_pika.abc import AbstractConnection
from yarl import URL

from rabbitray.actors.errors import TopologyError
from rabbitray.actors.rabbitmq.addresses import address
from rabbitray.actors.rabbitmq.declare import TopologyBuilder
from rabbitray.actors.rabbitmq.errors import describe, is_loss
from rabbitray.actors.rabbitmq.failover import Addresses
from rabbitray.actors.rabbitmq.guarded import GuardedConnection, connect_guarded
from rabbitray.actors.rabbitmq.look import hidden, look
from rabbitray.actors.rabbitmq.reconnect import within
from rabbitray.actors.rabbitmq.rights import missing_rights
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.secret import Redactor, Secret, several, without_credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFinding:
    """One queue (or the exchange) as it is, and what is wrong with it. `there`: None where this user may not look;
    `ready`: messages, None where that is not known."""

    name: str
    there: bool | None
    ready: int | None = None
    refused: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """All of a topology as it is. `not_compared`: what nobody could look into, in words; `lacking`: rights that a pool
    needs and this user does not have; `queue_type`: of the main queue, None where that is not known."""

    exchange: QueueFinding
    queues: tuple[QueueFinding, ...]
    not_compared: tuple[str, ...]
    lacking: tuple[str, ...]
    queue_type: str | None = None

    @property
    def warnings(self) -> list[str]:
        """What is only weaker than it could be, or not known, one line each."""
        return [*(text for finding in (self.exchange, *self.queues) for text in finding.warnings), *self.not_compared]

    @property
    def refused(self) -> list[str]:
        """Why no pool can work here, one line each."""
        findings = (self.exchange, *self.queues)
        return [*(finding.refused for finding in findings if finding.refused is not None), *self.lacking]


@asynccontextmanager
async def contact(urls: Secret, *, within_s: float, name: str = "rabbitray") -> AsyncIterator[AbstractConnection]:
    """An open connection to the first of these addresses that takes it, see `frame_guard`.

    Raises BrokerUnreachableError naming each address, what it said and the time tried; at once where all refuse us.
    """
    connection = await _opened(urls, within_s, name)
    try:
        yield connection
    finally:
        await connection.close()


async def unreachable(urls: Secret, connected: AbstractConnection, *, within_s: float) -> list[str]:
    """What is wrong with each of several URLs beside the one that is connected to, a line each; one try each.

    Two of them may name the same address with different logins.
    """
    lines = []
    used = _url_of(connected)
    for number, url in enumerate(several(urls), 1):
        if _without_parameters(URL(url.reveal())) == used:
            continue
        try:
            connection = await connect_guarded(url, within_s, name="rabbitray")
        except BaseException as error:
            if not is_loss(error):
                raise
            lines.append(f"RabbitMQ at {address(url)} (URL {number}): {describe(error, Redactor(urls))}")
        else:
            await connection.close()
    return lines


async def declare(connection: AbstractConnection, topology: Topology) -> list[str]:
    """Declares what is missing of the topology; returns warnings. Raises TopologyError."""
    return await TopologyBuilder(connection, topology).build()


async def examine(connection: AbstractConnection, topology: Topology) -> Examination:
    """Each queue of the topology, and the exchange, as they are now; nothing is created or changed."""
    builder = TopologyBuilder(connection, topology)
    exchange = await _look_at_exchange(builder, topology.exchange)
    queues = [await _look(connection, builder, name) for name in topology.queues()]
    absent = [finding.name for finding in (exchange, *queues) if finding.there is False]
    lacking = await missing_rights(connection, topology, absent)
    return Examination(
        exchange=exchange,
        queues=tuple(queues),
        not_compared=tuple(builder.not_compared()),
        lacking=tuple(lacking),
        queue_type=builder.types.get(topology.queue, topology.queue_type if topology.queue in absent else None),
    )


async def exchange_refused(connection: AbstractConnection, topology: Topology) -> str | None:
    """Why the exchange that is there cannot be ours; None where it can, and where it is still to be created."""
    return (await _look_at_exchange(TopologyBuilder(connection, topology), topology.exchange)).refused


async def _look_at_exchange(builder: TopologyBuilder, name: str) -> QueueFinding:
    try:
        there, warnings = await builder.compare_exchange()
    except TopologyError as error:
        return QueueFinding(name=name, there=True, refused=str(error))
    return QueueFinding(name=name, there=there, warnings=tuple(warnings))


async def _look(connection: AbstractConnection, builder: TopologyBuilder, name: str) -> QueueFinding:
    seen = await look(connection, name)
    finding = QueueFinding(name=name, there=seen.there, ready=seen.ready)
    if seen.hidden:
        return replace(finding, warnings=(hidden("queue", name),))
    if not seen.there:
        return finding
    if seen.down is not None:
        return replace(finding, refused=f"queue {name!r} is there and cannot be reached: {seen.down}; start its node")
    try:
        return replace(finding, warnings=await builder.compare(name))
    except TopologyError as error:
        return replace(finding, refused=str(error))


async def _opened(urls: Secret, within_s: float, name: str) -> AbstractConnection:
    addresses = Addresses(urls)

    async def connect() -> AbstractConnection:
        return await addresses.connect(partial(connect_guarded, name=name), within_s)

    return await within(within_s, connect, addresses)


def place(urls: Secret) -> str:
    """The URLs without their credentials."""
    return without_credentials(urls)


def place_of(connection: AbstractConnection) -> str:
    """The URL that was connected to, without credentials and parameters."""
    return without_credentials(_url_of(connection))


def _url_of(connection: AbstractConnection) -> Secret:
    assert isinstance(connection, GuardedConnection)
    return _without_parameters(connection.url)


def _without_parameters(url: URL) -> Secret:
    return Secret(str(url.with_query(None)))
