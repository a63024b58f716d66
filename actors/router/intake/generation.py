"""Generation: one connection with one channel, and all that lives exactly as long as they do.

A delivery belongs to its generation: when the channel dies, RabbitMQ delivers the message again, so what is buffered
of an ended generation is dropped and what is in flight is never acked. Nothing of a generation is reset or used
again; the next one replaces it as a whole.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import aio_pika
import aiormq
from aiormq.exceptions import AMQPChannelError
from pamqp import commands as spec

from rabbitray.actors.rabbitmq.consumer_timeout import Leave
from rabbitray.actors.rabbitmq.errors import ack_timeout_s, describe, is_loss
from rabbitray.actors.rabbitmq.guarded import CLOSE_WITHIN_S
from rabbitray.actors.rabbitmq.versions import Behaviour
from rabbitray.actors.router.delivery import NOBODYS, Delivery
from rabbitray.actors.router.intake.ack_sender import AckSender
from rabbitray.actors.router.intake.channel_consumers import ChannelConsumers, OnDelivery
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.connection import ScanningConnection, drop_connection
from rabbitray.actors.router.intake.frame_writer import FrameWriter
from rabbitray.actors.router.intake.late import late_among
from rabbitray.actors.telemetry.tracing import Tracing

log = logging.getLogger(__name__)


class Generation:
    """An open channel: consumes, settles its own deliveries, and is ended exactly once.

    `number` counts the channels of one intake from 1. `lost` is set when channel or connection are gone; whoever waits
    for it ends the generation. `queue_unknown`: what was seen of the queue does not hold: it is gone, or may be another
    one. It is not consumed, and the topology is declared before the next generation consumes.
    `narrow`: its window is one message, whatever is wanted; `since`: when it began, or got its present window (the
    loop's time); `settled`: whether an outcome of it was acked; `cause`: what closed the channel, or the connection,
    which is known some time after `lost`. `broker`: what it does, `leave`: how long it leaves a message unsettled;
    `single_active`: whether the queue delivers to one of its consumers alone. `on_cancel` is called when the broker has
    cancelled a consumer; the channel lives on. `address`: host:port/vhost. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        number: int,
        config: IntakeConfig,
        *,
        connection: ScanningConnection,
        holder: aio_pika.abc.AbstractChannel,
        channel: aiormq.abc.AbstractChannel,
        tracing: Tracing,
        lost: asyncio.Event,
        warnings: Sequence[str] = (),
        broker: Behaviour | None = None,
        leave: Leave | None = None,
        single_active: bool = False,
        address: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.number = number
        self.channel = channel
        self.lost = lost
        self.queue_unknown = False
        self.narrow = False
        self.since = asyncio.get_running_loop().time()
        self.settled = False
        self.cause: BaseException | None = None
        self.warnings = list(warnings)
        self.broker = broker or Behaviour()
        self._leave = leave or config.timeout.on(self.broker, None)
        self.single_active = single_active
        self.address = address
        self._writer = FrameWriter(channel)
        self.acks = AckSender(self._writer.write, single_after_s=config.single_after_s, tracing=tracing, clock=clock)
        self.connection = connection
        self.consumers = ChannelConsumers(
            channel,
            config,
            generation=number,
            delivered=self.acks.delivered,
            arguments=self._leave.arguments,
        )
        self.on_cancel: Callable[[], object] = lost.set
        self._holder = holder  # aio-pika itself keeps its channels in a WeakSet
        self._ended = False

    @property
    def alive(self) -> bool:
        """Whether deliveries of this generation can still be settled."""
        return not self._ended and not self.channel.is_closed

    @property
    def lived_s(self) -> float:
        """Seconds with its present window."""
        return asyncio.get_running_loop().time() - self.since

    async def consume(self, window: int, on_delivery: OnDelivery) -> None:
        """Consumes with prefetch `window`, as `ChannelConsumers.hand_over`; raises what the channel raises. Where the
        queue is not known the next generation does that."""
        if self.queue_unknown:
            self.lost.set()
            return
        if self.narrow and self.consumers.consuming:
            return
        try:
            await self.consumers.hand_over(1 if self.narrow else window, on_delivery)
        except AMQPChannelError:  # it is gone, or of another type, which has other arguments
            self.queue_unknown = True
            raise

    async def widen(self, window: int | None, on_delivery: OnDelivery) -> None:
        """It is narrow no longer: consumes with prefetch `window`, if any is wanted now."""
        self.narrow, self.since = False, asyncio.get_running_loop().time()
        if window is not None:
            await self.consume(window, on_delivery)

    def own(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Those of this generation, and none once it is lost, although acks may still go out until it is ended."""
        if not self.alive or self.lost.is_set():
            return []
        number = self.number
        return [delivery for delivery in deliveries if delivery.generation == number]

    def finish(self, deliveries: Iterable[Delivery]) -> int:
        """Acks its own; returns how many were not its own."""
        tags, stale = self._settle(deliveries)
        if tags:
            self.settled = True
            self.acks.finish(tags)
        return stale

    def give_back(self, deliveries: Iterable[Delivery]) -> int:
        """Returns its own to the queue; returns how many were not."""
        tags, stale = self._settle(found := list(deliveries))
        if tags:
            self.acks.give_back(tags, (one.parcel for one in found if one.generation == self.number))
        return stale

    def late(self, held: Iterable[Delivery], now: float) -> list[Delivery]:
        """Of what is held those that the broker has taken back by its time-out, the oldest first."""
        own = {delivery.tag: delivery for delivery in held if delivery.generation == self.number}
        return late_among((own[tag] for tag in self.acks.still_open(own)), now, self.timeout_s)

    def disown(self, late: Sequence[Delivery]) -> None:
        """Gives back what the broker has taken back by itself, which it ignores, or is about to: in either case it is
        delivered again, and nobody settles it any more.
        """
        self.give_back(late)
        for delivery in late:
            delivery.generation = NOBODYS

    @property
    def timeout_s(self) -> float:
        """How long the broker leaves a message unsettled: as it has said, or as far as that can be known."""
        return ack_timeout_s(self.cause) or self._leave.most_s

    @contextmanager
    def noting_loss(self) -> Iterator[None]:
        """A channel that dies inside the block is lost, and no error of the block."""
        try:
            yield
        except BaseException as error:
            if not is_loss(error):
                raise
            log.warning("RabbitMQ channel failed: %s", describe(error))
            self.lost.set()

    def end(self) -> bool:
        """Takes no delivery and sends no ack from now on; True the first time, for whoever must tell of it."""
        if self._ended:
            return False
        self._ended = True
        self.consumers.stop()
        self.acks.stop()
        self._writer.stop()
        return True

    async def close(self) -> None:
        """Sends every ack that is safe, gives the rest back, ends, and closes channel and connection.

        Within CLOSE_WITHIN_S, whatever the broker does.
        """
        with self.connection.closing_within(CLOSE_WITHIN_S):
            if self.alive:
                with self.noting_loss():
                    await self._close_channel()
            self.end()
            await self.drop()

    async def drop(self) -> None:
        """Closes the connection as it is; may be called twice."""
        await drop_connection(self.connection)

    @property
    def closed_alone(self) -> bool:
        """Whether the broker has closed the channel, and not its connection."""
        return isinstance(self.cause, AMQPChannelError) and not self.connection.is_closed

    async def release(self) -> ScanningConnection | None:
        """Its connection, for the next generation; None unless only the channel is at its end: the broker has closed
        it, or its queue is not known."""
        if self.queue_unknown and not self.channel.is_closed:
            with self.noting_loss():
                await asyncio.wait_for(self.channel.close(), CLOSE_WITHIN_S)
        if self.connection.is_closed or not (self.closed_alone or (self.queue_unknown and self.channel.is_closed)):
            return None
        self.connection.close_callbacks.discard(self.on_connection_closed)
        return self.connection

    def on_channel_closed(self, closing: asyncio.Future[object]) -> None:
        """The channel is gone; of the connection nothing is known."""
        if self.cause is None and not closing.cancelled():
            self.cause = closing.exception()
        self.lost.set()

    def on_connection_closed(self, _: object, cause: BaseException | None = None) -> None:
        """The connection is gone, e.g. because RabbitMQ has closed it, and says why."""
        self.cause = cause
        self.lost.set()

    async def on_broker_cancel(self, frame: spec.Basic.Cancel) -> None:
        """A message was late, the queue was deleted, or its leader failed: RabbitMQ does not say which."""
        self.consumers.forget(frame.consumer_tag)
        self.on_cancel()

    def _settle(self, deliveries: Iterable[Delivery]) -> tuple[list[int], int]:
        """The tags of its own, which their consumers hold no more, and how many are not its own. One pass: it is on
        the way of every message."""
        number = self.number if self.alive else -1
        held_by, tags, stale = self.consumers.held_by, [], 0
        for delivery in deliveries:
            if delivery.generation != number:
                stale += 1
                continue
            held_by[delivery.consumer] -= 1
            tags.append(delivery.tag)
        return tags, stale

    async def _close_channel(self) -> None:
        """Once the broker confirms the end of the channel it has read every ack before it."""
        self.acks.settle_all()
        await self._writer.written(CLOSE_WITHIN_S)
        await self.channel.close()
