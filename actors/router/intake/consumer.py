"""RabbitMQ in: consume, window hand-over, acks.

One connection and one channel at a time; each channel is a generation. A delivery belongs to its generation: when
the channel dies, RabbitMQ delivers the message again, so what is buffered of a dead generation is dropped and
what is in flight is never acked. Consumers are never robust: recovery is here, with a fresh tag each time.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable

import aio_pika
import aiormq
from aiormq.exceptions import ChannelNotFoundEntity
from pamqp import commands as spec

from rabbitray.actors.errors import TopologyError
from rabbitray.actors.rabbitmq.declare import TopologyBuilder
from rabbitray.actors.rabbitmq.errors import address, describe, is_loss
from rabbitray.actors.rabbitmq.reconnect import persist, within
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.intake.ack_sender import AckSender
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.connection import ScanningConnection, connect, frame_warnings
from rabbitray.actors.router.intake.frame_writer import FrameWriter
from rabbitray.actors.router.intake.reading import PropertiesLike, read_message
from rabbitray.actors.router.intake.scanner import Scanned, Taker, take_in_reader, taken_in_reader
from rabbitray.actors.telemetry.tracing import Tracing

log = logging.getLogger(__name__)

CLOSE_WITHIN_S = 5.0


class Intake:
    """Consumes one queue into a callback, and settles deliveries.

    `on_delivery` runs inside the channel's reader, once for each message, and must only buffer. `on_lost` is told
    the generation that died. All methods belong to one event loop.
    """

    def __init__(
        self,
        config: IntakeConfig,
        *,
        on_delivery: Callable[[Delivery], None],
        on_lost: Callable[[int], None],
        tracing: Tracing | None = None,
    ) -> None:
        self._config = config
        self._tracing = tracing or Tracing(queue=config.source)
        self._on_delivery = on_delivery
        self._on_lost = on_lost
        self._connection: ScanningConnection | None = None
        self._channel: aiormq.abc.AbstractChannel | None = None
        self._holder: aio_pika.abc.AbstractChannel | None = None  # aio-pika keeps channels in a WeakSet
        self._writer: FrameWriter | None = None
        self._acks: AckSender | None = None
        self._consumers = itertools.count(1)
        self._consumer: tuple[int, str] | None = None
        self._takers: dict[str, Taker] = {}
        self._held_by: Counter[int] = Counter()
        self._wanted: int | None = None  # the window that a reconnect consumes with; None: do not consume
        self._lock = asyncio.Lock()
        self._undeclared = False  # the queue was gone: declare it again before consuming
        self._lost = asyncio.Event()
        self._stopping = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self.generation = 0
        self.connected = False
        self.reconnects = 0
        self.stale = 0  # settlements of dead generations: they are redelivered

    async def open(self) -> list[str]:
        """Connects, declares the topology and watches the connection from then on; returns warnings.

        Raises BrokerUnreachableError (host, time tried) or TopologyError. Nothing is consumed yet.
        """
        await within(self._config.connect_timeout_s, self._connect, where=address(self._config.url))
        assert self._connection is not None
        try:
            warnings = frame_warnings(self._connection, self._config.frame_max)
            warnings += await TopologyBuilder(self._connection, self._config.topology).build()
            await self._open_channel()
        except TopologyError:
            await self.close()
            raise
        self._watcher = asyncio.create_task(self._watch(), name="intake-watch")
        return warnings

    async def consume(self, window: int) -> None:
        """Consumes with prefetch `window` (>= 1); when consuming already, hands over to a new consumer.

        RabbitMQ applies a prefetch only to a new consumer: set_qos, consume with a new tag, cancel the old one.
        """
        if window < 1:
            raise ValueError(f"window {window} is not allowed: 0 means unlimited to RabbitMQ")
        self._wanted = window
        async with self._lock:
            if self._channel is not None and self.connected:
                await self._guarded(self._hand_over(self._channel, window))

    async def pause(self) -> None:
        """Stops the flow of new deliveries; what was delivered stays and can be settled."""
        self._wanted = None
        async with self._lock:
            if self._channel is not None and self._consumer is not None:
                await self._guarded(self._cancel(self._channel))

    def finish(self, deliveries: Iterable[Delivery]) -> None:
        """The outcome of these deliveries is safe (committed or confirmed): ack them as soon as may be."""
        ours = self._current(deliveries)
        if ours and self._acks is not None:
            self._acks.finish([one.tag for one in ours])

    def give_back(self, deliveries: Iterable[Delivery]) -> None:
        """Returns deliveries to the queue (nack with requeue), in one write."""
        ours = self._current(deliveries)
        if ours and self._acks is not None:
            self._acks.give_back(ours)

    def still_ours(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Those that can still be settled; the others' channel died and RabbitMQ delivers them again."""
        if not self._settles:
            return []
        generation = self.generation
        return [delivery for delivery in deliveries if delivery.generation == generation]

    @property
    def unacked(self) -> int:
        """Messages that RabbitMQ counts as unacknowledged on our channel."""
        return self._acks.unacked if self._acks is not None else 0

    @property
    def held_by_old(self) -> int:
        """Messages that older consumers than the current one still hold."""
        current = self._consumer[0] if self._consumer else None
        return sum(count for number, count in self._held_by.items() if number != current)

    @property
    def consuming(self) -> bool:
        """Whether a consumer is registered now."""
        return self._consumer is not None

    async def close(self) -> None:
        """Sends every ack that is safe, closes channel and connection. May be called twice and before `open`."""
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        if self._channel is not None and self.connected:
            await self._guarded(self._close_channel(self._channel))
        await self._drop_connection()

    async def _close_channel(self, channel: aiormq.abc.AbstractChannel) -> None:
        """Once the broker confirms the end of the channel it has read every ack before it."""
        assert self._acks is not None
        assert self._writer is not None
        self._acks.settle_all()
        await self._writer.written(CLOSE_WITHIN_S)
        await asyncio.wait_for(channel.close(), CLOSE_WITHIN_S)

    async def _connect(self) -> None:
        config = self._config
        self._connection = await connect(
            config.url, timeout_s=config.connect_timeout_s, heartbeat_s=config.heartbeat_s, name=config.name
        )
        self._connection.close_callbacks.add(lambda *_: self._lost.set())
        self._lost.clear()

    async def _open_channel(self) -> None:
        """A new generation: its tags start at 1 and nothing of an older one may be acked on it."""
        assert self._connection is not None
        self._holder = await self._connection.channel(publisher_confirms=False)
        channel = await self._holder.get_underlay_channel()
        channel.closing.add_done_callback(lambda _: self._lost.set())
        channel.on_consumer_cancel_callbacks.add(self._on_broker_cancel)
        self._takers = {}
        take_in_reader(channel, self._takers)
        if (scanner := self._connection.scanner) is not None:
            scanner.watch(channel.number, self._take_scanned)
        self.generation += 1
        self._writer = FrameWriter(channel)
        self._acks = AckSender(self._writer.write, single_after_s=self._config.single_after_s, tracing=self._tracing)
        self._held_by.clear()
        self._consumer = None
        self._channel = channel
        self.connected = True

    async def _watch(self) -> None:
        """Waits for the loss of channel or connection and recovers, until closed."""
        while True:
            await self._lost.wait()
            if self._stopping.is_set():
                return
            self._report_loss()
            await self._recover()

    def _report_loss(self) -> None:
        self.connected = False
        self._consumer = None
        self._channel = None
        if self._writer is not None and self._acks is not None:
            self._writer.stop()
            self._acks.stop()
        log.warning("Connection to RabbitMQ lost; %d unacknowledged messages will be delivered again", self.unacked)
        try:
            self._on_lost(self.generation)
        except Exception:  # the connection must come back whatever its user makes of the loss
            log.exception("The loss of a connection could not be told")

    async def _recover(self) -> None:
        """Reconnects with jittered back-off for as long as it takes, then consumes again."""
        if await persist(self._reconnect, self._stopping, failed=self._note_missing):
            self.reconnects += 1
            log.info("Connected to RabbitMQ again (generation %d)", self.generation)

    async def _reconnect(self) -> None:
        """One attempt, from a new connection to a new consumer."""
        await self._drop_connection()
        await self._connect()
        await self._declare_again()
        await self._open_channel()
        await self._consume_again()

    def _note_missing(self, error: BaseException) -> None:
        self._undeclared = self._undeclared or isinstance(error, ChannelNotFoundEntity)

    async def _declare_again(self) -> None:
        """A queue that was deleted under us is made again, as at the start."""
        if self._undeclared:
            assert self._connection is not None
            await TopologyBuilder(self._connection, self._config.topology).build()
            self._undeclared = False

    async def _consume_again(self) -> None:
        """As `consume`, but a failure is this attempt's."""
        async with self._lock:
            if self._wanted is not None and self._channel is not None and self._consumer is None:
                await self._hand_over(self._channel, self._wanted)

    async def _hand_over(self, channel: aiormq.abc.AbstractChannel, window: int) -> None:
        old = self._consumer
        number = next(self._consumers)
        tag = f"{self._config.name}-{self.generation}-{number}"
        await channel.basic_qos(prefetch_count=window)
        self._takers[tag] = self._take(number)
        await channel.basic_consume(self._config.source, taken_in_reader, consumer_tag=tag)
        self._consumer = (number, tag)
        if old is not None:
            await channel.basic_cancel(old[1])
            self._takers.pop(old[1], None)

    async def _cancel(self, channel: aiormq.abc.AbstractChannel) -> None:
        assert self._consumer is not None
        _, tag = self._consumer
        self._consumer = None
        await channel.basic_cancel(tag)
        self._takers.pop(tag, None)

    def _take(self, consumer: int) -> Taker:
        """What a consumer does with a message: reads its properties and buffers; nothing else may happen here."""
        assert self._acks is not None
        generation, limits = self.generation, self._config.limits
        noted, held_by, on_delivery = self._acks.delivered, self._held_by, self._on_delivery

        def take(tag: int, redelivered: bool, properties: PropertiesLike, body: bytes) -> None:
            delivery = read_message(
                properties,
                body,
                tag=tag,
                redelivered=redelivered,
                generation=generation,
                consumer=consumer,
                limits=limits,
            )
            noted(tag)
            held_by[consumer] += 1
            on_delivery(delivery)

        return take

    def _take_scanned(self, found: Scanned) -> bool:
        take = self._takers.get(found.consumer_tag)
        if take is None:
            return False
        take(found.delivery_tag, found.redelivered, found.properties, found.body)
        return True

    async def _on_broker_cancel(self, frame: spec.Basic.Cancel) -> None:
        """The queue was deleted or its leader failed: declare what is missing, consume on a new channel."""
        log.error(
            "RabbitMQ cancelled the consumer of queue %s: was it deleted? Trying again",
            self._config.source,
        )
        self._consumer = None
        self._undeclared = True
        self._lost.set()

    @property
    def _settles(self) -> bool:
        return self.connected and self._channel is not None and not self._channel.is_closed

    def _current(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Those of this generation; the others are redelivered by RabbitMQ and only counted."""
        ours = self.still_ours(found := list(deliveries))
        self.stale += len(found) - len(ours)
        held_by = self._held_by
        for one in ours:
            held_by[one.consumer] -= 1
        return ours

    async def _guarded(self, step: Awaitable[None]) -> None:
        """A channel that dies during an RPC is the watcher's to recover."""
        try:
            await step
        except BaseException as error:
            if not is_loss(error):
                raise
            log.warning("RabbitMQ channel failed: %s", describe(error))
            self._lost.set()

    async def _drop_connection(self) -> None:
        self.connected = False
        connection, self._connection, self._channel, self._holder = self._connection, None, None, None
        if connection is None:
            return
        try:
            await asyncio.wait_for(connection.close(), CLOSE_WITHIN_S)
        except BaseException as error:
            if not is_loss(error):
                raise
