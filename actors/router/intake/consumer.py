"""Intake: consumes one queue, one generation at a time, and opens the next one after a loss.

Consumers are never robust: recovery is here, with a new channel and a fresh tag each time, and a new connection unless
the broker closed the channel alone. After losses that come early the next generation begins later and with a window of
one message, see `steadiness.py`. Where the broker cancels the consumer alone, the next one is on the same channel.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from rabbitray.actors.background import BackgroundTasks
from rabbitray.actors.rabbitmq.errors import ack_timeout_s, describe, refusal
from rabbitray.actors.rabbitmq.reconnect import persist, set_within
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.generation import Generation
from rabbitray.actors.router.intake.held_back import HeldBack
from rabbitray.actors.router.intake.late_messages import LateMessages
from rabbitray.actors.router.intake.opener import GenerationOpener, Opener
from rabbitray.actors.router.intake.steadiness import Steadiness
from rabbitray.actors.router.intake.undeliverable import closing_words, way_out
from rabbitray.actors.secret import Redactor
from rabbitray.actors.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often a generation with a narrow window is looked at."""

OTHERS_COME_S = 0.5
"""What was delivered together is late together, each told by itself. RabbitMQ 4.3 closes the channel for what is late
of a consumer that is gone (rabbitmq-server#18207), so the consumer goes when all have come."""


class Intake:
    """Consumes one queue into a callback, and settles deliveries.

    `on_delivery` runs inside the channel's reader, once for each message, and must only buffer. `on_lost` is called
    once for each generation that ends before `close`, with its number. `held`: what its user has of the deliveries;
    `on_late` is told of those among them that RabbitMQ has taken back, since they were held for too long: they come
    again. `opener` opens the generations (default: on the broker of `config`). All methods belong to one event loop.
    """

    def __init__(
        self,
        config: IntakeConfig,
        *,
        on_delivery: Callable[[Delivery], None],
        on_lost: Callable[[int], None],
        held: Callable[[], Iterable[Delivery]] = tuple,
        on_late: Callable[[Sequence[Delivery]], None] = lambda _: None,
        tracing: Tracing | None = None,
        opener: Opener | None = None,
    ) -> None:
        self._config = config
        self._opener = opener or GenerationOpener(config, tracing or Tracing(queue=config.source))
        self._on_delivery = on_delivery
        self._on_lost = on_lost
        self._late = LateMessages(config.source, held=held, on_late=on_late)
        self._current: Generation | None = None  # the one that is open, or the last one until the next is open
        self._wanted: int | None = None  # the window that a reconnect consumes with; None: do not consume
        self._lock = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._steadiness = Steadiness(steady_s=config.steady_s)
        self._tasks = BackgroundTasks(log, "The watch over the connection to RabbitMQ has failed")
        self._redact = Redactor(config.url)
        self.reconnects = 0
        self.refused: str | None = None  # why RabbitMQ does not let us in; it is tried again: a password may be rotated
        self.given_back = 0  # messages that were returned to the queue
        self.lost_unacked = 0  # unacknowledged messages when a connection ended, until their queue is consumed
        self.held_back = HeldBack()
        self.stale = 0  # settlements of ended generations: RabbitMQ delivers those messages again
        self.stuck: str | None = None  # the message at the head cannot be delivered: RabbitMQ's words, and what to do

    async def open(self) -> list[str]:
        """Connects, declares the topology and watches the connection from then on; returns warnings.

        Raises BrokerUnreachableError (host, time tried) or TopologyError. Nothing is consumed yet.
        """
        self._current = self._adopt(await self._opener.first())
        self._tasks.keep(self._watch, name="intake-watch")
        return self._current.warnings

    async def consume(self, window: int) -> None:
        """Consumes with prefetch `window` (>= 1); when consuming already, hands over to a new consumer.

        RabbitMQ applies a prefetch only to a new consumer: set_qos, consume with a new tag, cancel the old one.
        """
        if window < 1:
            raise ValueError(f"window {window} is not allowed: 0 means unlimited to RabbitMQ")
        self._wanted = window
        async with self._lock:
            if (current := self._current) is not None and current.alive:
                with current.noting_loss():
                    await current.consume(window, self._deliver)
                    self.lost_unacked = 0

    async def pause(self) -> None:
        """Stops the flow of new deliveries; what was delivered stays and can be settled."""
        self._wanted = None
        async with self._lock:
            if (current := self._current) is not None and current.alive:
                with current.noting_loss():
                    await current.consumers.cancel()

    def doubt(self, queue: str) -> None:
        """That queue was found gone: where it is the one that is consumed, it is looked at before that goes on."""
        if queue == self._config.source and self._current is not None:
            self._current.queue_unknown = True

    def finish(self, deliveries: Sequence[Delivery]) -> int:
        """The outcome of these deliveries is safe (committed or confirmed): ack them as soon as may be.

        Returns how many can be acked: RabbitMQ delivers the others again.
        """
        if self._current is None:
            return 0
        stale = self._current.finish(deliveries)
        self.stale += stale
        return len(deliveries) - stale

    def give_back(self, deliveries: Iterable[Delivery]) -> None:
        """Returns deliveries to the queue (nack with requeue), in one write."""
        if (current := self._current) is not None:
            before = current.acks.given_back
            self.stale += current.give_back(deliveries)
            self.given_back += current.acks.given_back - before

    def still_ours(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Those that can still be settled; the others' channel died and RabbitMQ delivers them again."""
        return self._current.own(deliveries) if self._current is not None else []

    @property
    def generation(self) -> int:
        """Number of the channel that is open, or of the last one; 0 before `open`."""
        return self._current.number if self._current is not None else 0

    @property
    def address(self) -> str:
        """host:port/vhost of the broker's node that is connected to, or was last; empty before `open`."""
        return self._current.address if self._current is not None else ""

    @property
    def connected(self) -> bool:
        """Whether deliveries can be settled now."""
        return self._current is not None and self._current.alive

    @property
    def connection(self) -> AbstractConnection | None:
        """For looks at queues, on channels of their own; None while there is none."""
        return self._current.connection if self._current is not None and self._current.alive else None

    @property
    def late(self) -> int:
        """Messages that RabbitMQ took back, since they were held longer than its `consumer_timeout`."""
        return self._late.count

    @property
    def counts_returns(self) -> bool:
        """Whether the broker counts what is given back as a delivery."""
        return self._current is None or self._current.broker.nack_counts

    @property
    def single_active(self) -> bool:
        """Whether the queue delivers to one of its consumers alone: a hand-over gives it to another pool's."""
        return self._current is not None and self._current.single_active

    @property
    def unacked(self) -> int:
        """Messages that RabbitMQ counts as unacknowledged on our channel."""
        return self._current.acks.unacked if self._current is not None else 0

    @property
    def held_by_old(self) -> int:
        """Messages that older consumers than the current one still hold."""
        return self._current.consumers.held_by_old if self._current is not None else 0

    @property
    def consuming(self) -> bool:
        """Whether a consumer is registered now."""
        return self._current is not None and self._current.consumers.consuming

    async def close(self) -> None:
        """Sends every ack that is safe, closes channel and connection. May be called twice and before `open`."""
        self._stopping.set()
        await self._tasks.close()
        if self._current is not None:
            await self._current.close()

    async def _watch(self) -> None:
        """Waits for the loss of channel or connection and opens the next generation, until closed."""
        while (current := self._current) is not None and not self._stopping.is_set():
            await self._until_lost(current)
            if self._stopping.is_set():
                return
            self._end_current()
            await self._recover()  # where it is cancelled in a call of aiormq's, that may go unnoticed

    async def _until_lost(self, current: Generation) -> None:
        """Waits for its loss; a narrow one gets the wanted window meanwhile, as soon as it may."""
        while current.narrow and not await set_within(current.lost, LOOK_S):
            self._look_whether_stuck(current)
            if self._steadiness.may_widen(current.lived_s, settled=current.settled):
                await self._widen(current)
        await current.lost.wait()

    def _look_whether_stuck(self, current: Generation) -> None:
        """What lies at the head now is worked, or nothing does: the message was moved."""
        lives = current.consumers.consuming and current.lived_s >= self._config.steady_s
        if self.stuck is not None and (current.settled or lives):
            self.stuck = None
            log.info("What lies at the head of %s can be delivered again", self._config.source)

    async def _widen(self, current: Generation) -> None:
        async with self._lock:
            log.info("Connection to RabbitMQ is steady: the window is %s again", self._wanted)
            try:
                with current.noting_loss():
                    await current.widen(self._wanted, self._deliver)
            except Exception:  # the watcher has to outlive it
                log.exception("A wider window could not be asked for")
                current.lost.set()

    def _end_current(self) -> None:
        """Ends the generation and tells of its loss, unless that was done before."""
        current = self._current
        if current is None or not current.end():
            return
        spared = current.narrow or current.queue_unknown  # no message has ended it
        self._steadiness = self._steadiness.ended(current.lived_s, narrow=spared)
        self.lost_unacked = max(self.lost_unacked, current.acks.unacked)
        self._tell_end(current)
        try:
            self._on_lost(current.number)
        except Exception:  # the connection must come back whatever its user makes of the loss
            log.exception("The loss of a connection could not be told")

    def _tell_end(self, current: Generation) -> None:
        """One line for what was lost, and why, where RabbitMQ said so before it closed the channel."""
        again = f"{current.acks.unacked:,} unacknowledged messages will be delivered again"
        if ack_timeout_s(current.cause) is not None:
            self._late.tell_closed(current, again)
        elif current.queue_unknown:
            self._log(logging.INFO, "Queue %s is looked at again before it is consumed", self._config.source)
        elif current.closed_alone and current.cause is not None:
            self._log(logging.WARNING, "RabbitMQ closed the channel (%s); %s", describe(current.cause), again)
        else:
            self._log(logging.WARNING, "Connection to RabbitMQ lost; %s", again)

    def _adopt(self, new: Generation) -> Generation:
        """A generation that was opened: the broker may cancel its consumers from now on."""
        new.on_cancel = lambda: self._tasks.spawn(self._resume(new), name="intake-resume")
        return new

    async def _resume(self, current: Generation) -> None:
        """The broker has cancelled a consumer: what was late is given up, and a new one made on the same channel.

        Where nothing was late the queue is gone, or another one by now, and the watcher goes on.
        """
        if await set_within(self._stopping, OTHERS_COME_S):
            return
        async with self._lock:
            if not current.alive or current.lost.is_set():
                return
            try:
                with current.noting_loss():
                    await self._consume_again(current)
            except Exception:  # it must go on
                log.exception("The consumer that RabbitMQ has cancelled could not be replaced")
                current.lost.set()

    async def _consume_again(self, current: Generation) -> None:
        if not current.consumers.cancelled:
            return  # by the one before
        late = self._late.give_up(current)
        self.given_back += len(late)
        if not late:
            current.queue_unknown = True
            current.lost.set()
            return
        await current.consumers.let_go()
        if self._wanted is not None and not current.consumers.consuming:
            await current.consume(self._wanted, self._deliver)

    def _deliver(self, delivery: Delivery) -> None:
        if delivery.redelivered:
            self.held_back.came()
        self._on_delivery(delivery)

    async def _recover(self) -> None:
        """Reconnects with jittered back-off for as long as it takes, then consumes again."""
        pause_s = self._steadiness.pause_s(random.random(), self._config.pauses)
        if pause_s:
            self._log(logging.WARNING, "The connection did not last; the next one is opened in %.1f s", pause_s)
            if await set_within(self._stopping, pause_s):
                return
            self._note_stuck()
        if await persist(self._reconnect, self._stopping, failed=self._end_attempt):
            self.reconnects += 1
            self.refused = None
            self._log(logging.INFO, "Connected to RabbitMQ again at %s (generation %d)", self.address, self.generation)

    def _note_stuck(self) -> None:
        """Whether RabbitMQ closed the connection for the one message that it had to deliver; said once."""
        ended = self._current
        words = closing_words(ended.cause, narrow=ended.narrow, settled=ended.settled) if ended is not None else None
        if words is None:
            return
        before, self.stuck = self.stuck, way_out(self._config.topology, self._config.source, words)
        if before is None:
            log.error("%s", self.stuck)

    def _log(self, level: int, text: str, *values: object) -> None:
        """A line about connections that come and go; while a message at the head ends each of them, that was said."""
        log.log(level if self.stuck is None else logging.DEBUG, text, *values)

    async def _reconnect(self) -> None:
        """One attempt, from a new connection to a new consumer."""
        old = self._current
        assert old is not None
        self._current = new = self._adopt(await self._opener.next(old))
        if new.address != old.address:
            self.held_back.left_behind(self.lost_unacked, new.broker.keeps_disconnected_s)
            if count := self.held_back.count:
                self._log(logging.INFO, "RabbitMQ may keep %d messages of the node that was left for a minute", count)
        if self._steadiness.narrow:
            self._log(logging.WARNING, "Connections do not last: one message is consumed at a time until one has")
            new.narrow = True
        async with self._lock:
            if self._wanted is not None and not new.consumers.consuming:
                await new.consume(self._wanted, self._deliver)
                self.lost_unacked = 0

    def _end_attempt(self, error: BaseException) -> None:
        """An attempt that failed may have opened a generation, and had deliveries on it."""
        self.refused = refusal(error, self._redact)
        self._end_current()
