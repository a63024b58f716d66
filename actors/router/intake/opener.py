"""Opens generations: connects, declares the topology where it must, opens the channel that is consumed on."""

from __future__ import annotations

import asyncio
from typing import Protocol

from rabbitray.actors.errors import TopologyError
from rabbitray.actors.rabbitmq.addresses import address
from rabbitray.actors.rabbitmq.declare import MissingQueues, TopologyBuilder, server_of
from rabbitray.actors.rabbitmq.failover import Addresses
from rabbitray.actors.rabbitmq.reconnect import within
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.connection import ScanningConnection, connect, drop_connection, frame_warnings
from rabbitray.actors.router.intake.generation import Generation
from rabbitray.actors.router.intake.scanner import Scanner
from rabbitray.actors.router.spool import Spool
from rabbitray.actors.secret import Secret
from rabbitray.actors.telemetry.tracing import Tracing


class Opener(Protocol):
    """Opens one generation at a time; nothing is consumed on it yet."""

    async def first(self) -> Generation:
        """Generation 1, over a declared topology; raises BrokerUnreachableError or TopologyError."""

    async def next(self, old: Generation) -> Generation:
        """One attempt to replace `old`, which has ended; declares again what it found missing."""


class GenerationOpener:
    """Opens generations on the broker of `config`. `spool`: where bodies go that are too large. `missing`: asked
    before a queue is made that is not there."""

    def __init__(
        self,
        config: IntakeConfig,
        tracing: Tracing,
        *,
        spool: Spool | None = None,
        missing: MissingQueues | None = None,
    ) -> None:
        self._config = config
        self._missing = missing
        self._tracing = tracing
        self._spool = spool or Spool()
        self._addresses = Addresses(config.url)
        self._single_active = False  # as it was seen when the topology was declared last
        self._type: str | None = None  # of the queue, as it was seen then; None: it could not be

    async def first(self) -> Generation:
        """Tries to connect for `connect_timeout_s`; the generation has the warnings."""
        config = self._config
        return await within(config.connect_timeout_s, lambda: self._opened(1, declare=True), self._addresses)

    async def next(self, old: Generation) -> Generation:
        """From a new connection to a new channel; where the broker closed the channel alone the connection stays."""
        if (connection := await old.release()) is not None:
            return await self._open(connection, old.number + 1, declare=old.queue_unknown)
        await old.drop()
        self._addresses.lost()
        return await self._opened(old.number + 1, declare=old.queue_unknown)

    async def _opened(self, number: int, *, declare: bool) -> Generation:
        """At the first address where it can be."""
        config = self._config

        async def attempt(url: Secret, timeout_s: float) -> Generation:
            connection = await connect(url, timeout_s=timeout_s, heartbeat_s=config.heartbeat_s, name=config.name)
            return await self._open(connection, number, declare=declare)

        return await self._addresses.connect(attempt, config.connect_timeout_s)

    async def _open(self, connection: ScanningConnection, number: int, *, declare: bool) -> Generation:
        """The connection belongs to the generation; where there will be none, it is closed."""
        try:
            warnings = frame_warnings(connection, self._config.frame_max)
            there = True
            if declare:
                builder = TopologyBuilder(connection, self._config.topology, missing=self._missing)
                warnings += await builder.build()
                self._single_active, self._type = builder.single_active, builder.types.get(self._config.source)
                there = self._config.source not in builder.left_missing
            if declare and there:
                self._check_timeout(connection)
            generation = await self._open_channel(connection, number, warnings)
        except BaseException:
            await drop_connection(connection)
            raise
        generation.queue_unknown = not there
        return generation

    def _check_timeout(self, connection: ScanningConnection) -> None:
        """Raises TopologyError where the broker takes messages back that the pool may hold still."""
        broker, config = server_of(connection).behaviour, self._config
        if (refused := config.timeout.refusal(broker, self._type, config.source)) is not None:
            raise TopologyError(refused)

    async def _open_channel(self, connection: ScanningConnection, number: int, warnings: list[str]) -> Generation:
        holder = await connection.channel(publisher_confirms=False)
        channel = await holder.get_underlay_channel()
        broker = server_of(connection).behaviour
        generation = Generation(
            number,
            self._config,
            connection=connection,
            holder=holder,
            channel=channel,
            tracing=self._tracing,
            lost=asyncio.Event(),
            warnings=warnings,
            address=address(Secret(str(connection.url))),
            broker=broker,
            leave=self._config.timeout.on(broker, self._type),
            single_active=self._single_active,
        )
        connection.close_callbacks.add(generation.on_connection_closed)
        channel.closing.add_done_callback(generation.on_channel_closed)
        channel.on_consumer_cancel_callbacks.add(generation.on_broker_cancel)
        if (protocol := connection.protocol) is not None:
            take = generation.consumers.take_scanned
            protocol.watch(Scanner(channel.number, take, limits=self._config.limits, spool=self._spool))
        return generation
