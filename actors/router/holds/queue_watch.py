"""QueueWatch: knows how deep our queues are, finds those that are gone, and lets the pool wait or declares them anew.

That one is gone is an event: the broker cancels a consumer, answers 404, or returns a copy that no queue takes. The
looks are for the depths, which nobody tells: what was in a queue cannot be asked any more once it is gone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from rabbitray.actors.errors import RabbitrayError
from rabbitray.actors.rabbitmq.declare import TopologyBuilder
from rabbitray.actors.rabbitmq.errors import describe, is_loss
from rabbitray.actors.rabbitmq.look import look, look_at_exchange
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.router.holds.vanished import VanishedQueue, VanishedQueues, waiting_reason
from rabbitray.actors.router.settlement.outstanding import OutstandingRetries
from rabbitray.actors.telemetry.rate_limit import LogThrottle

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

log = logging.getLogger(__name__)

LOOK_WITHIN_S: Final = 10.0


class QueueWatch:
    """Watches the queues of one topology. Belongs to one event loop.

    `declared_again`: how often a queue, or a binding alone, had to be declared again. `connection`: where looks and
    declares are done, on channels of their own; None while there is none. `unacked`: what was delivered from the main
    queue and not acknowledged, `consuming`: whether we consume that. `on_gone` is told of each queue that is found
    gone. `hold` stops the pool, with the reason; `go_on` ends that.
    """

    def __init__(
        self,
        topology: Topology,
        vanished: VanishedQueues,
        *,
        connection: Callable[[], AbstractConnection | None],
        unacked: Callable[[], int],
        hold: Callable[[str], Awaitable[None]],
        go_on: Callable[[], Awaitable[None]],
        on_gone: Callable[[str], None] = lambda _: None,
        consuming: Callable[[], bool] = lambda: False,
        outstanding: OutstandingRetries | None = None,
    ) -> None:
        self.vanished = vanished
        self.declared_again = 0
        self._topology = topology
        self._delays = {topology.rung(delay): delay for delay in topology.rung_delays_ms}
        self._connection = connection
        self._unacked = unacked
        self._hold = hold
        self._go_on = go_on
        self._on_gone = on_gone
        self._consuming = consuming
        self._outstanding = outstanding or OutstandingRetries()
        self._holding = False
        self._declaring = asyncio.Lock()
        self._declared_at = float("-inf")  # when the last declare began (monotonic s)
        self._failed_line = LogThrottle()
        self._returned_line = LogThrottle()

    # as MissingQueues, for whoever declares

    def saw(self, queue: str, ready: int | None) -> None:
        """It is there."""
        if ready is not None and (back := self.vanished.saw(queue, ready, time.time())) is not None:
            log.warning("%s: it is there again, with %d messages ready", back, ready)

    async def may_make(self, queue: str) -> bool:
        """It is not there: False where it had messages and nobody has confirmed that they are gone."""
        if (event := self._gone(queue)) is not None:
            self.declared_again += event.state == "made"
            _tell(event)
            self._on_gone(queue)
        if not self.vanished.waits_for(queue):
            return True
        self._holding = True
        await self._hold(waiting_reason(self.vanished.waiting))
        return False

    def _gone(self, queue: str) -> VanishedQueue | None:
        now_s, delay = time.time(), self._delays.get(queue)
        now_ms = round(now_s * 1000)
        if delay is not None:
            inside = self._outstanding.vanished(delay, now_ms)
            return self.vanished.gone(queue, now_s, inside=inside, stays_s=delay / 1000)
        if queue != self._topology.queue:
            return self.vanished.gone(queue, now_s)
        event = self.vanished.gone(queue, now_s, unacked=self._unacked())
        if event is not None:
            self._outstanding.main_vanished(now_ms)
        return event

    # for the router

    async def look(self) -> None:
        """Looks at each queue once; declares what is missing, unless the pool waits for it, and goes on where all that
        it waited for is there again."""
        connection = self._connection()
        if connection is None:
            return
        await self._tried(self._look_at_all(connection))
        if self._holding and not self.vanished.waiting:
            await self._end_hold()

    async def way_again(self, queue: str, sent_at: float) -> bool:
        """A copy for this queue, which was sent at `sent_at` (monotonic s), came back: no queue takes it. Whether it
        may be sent once more. Many copies may come back at once; what is missing is declared once for all of them."""
        async with self._declaring:
            if self._declared_at < sent_at and not await self._declare_for_copies(queue):
                return False
        return not self.vanished.waits_for(queue)

    async def confirm(self) -> tuple[VanishedQueue, ...]:
        """Somebody knows what vanished: what is missing is declared, and the pool goes on. What was confirmed."""
        confirmed, connection = self.vanished.confirm(), self._connection()
        for event in confirmed:
            log.warning("Confirmed by an operator: %s", event)
        missing = sum(event.state == "missing" for event in confirmed)
        self.declared_again += missing
        if missing and connection is not None:  # else the next connection, or the next look, finds what is missing
            await self._tried(self._declare(connection))
        if self._holding:
            await self._end_hold()
        return confirmed

    async def _end_hold(self) -> None:
        self._holding = False
        await self._go_on()

    async def _look_at_all(self, connection: AbstractConnection) -> None:
        if await self._some_are_missing(connection):
            await self._declare(connection)

    async def _some_are_missing(self, connection: AbstractConnection) -> bool:
        """One look; of those for which the pool waits it is known. One of them that is back lacks its binding.

        Where the main queue, which is looked at first, does not know of our consumer, its leader is away, mostly with
        those of the others: then 0 is no depth, of any of them.
        """
        missing = (await look_at_exchange(connection, self._topology.exchange)).there is False
        for queue in self._topology.queues():
            seen = await look(connection, queue)
            if queue == self._topology.queue and seen.consumers == 0 and self._consuming():
                return missing
            if seen.there and seen.down is None:
                missing = missing or self.vanished.waits_for(queue)
                self.saw(queue, seen.ready)
            elif seen.there is False and not self.vanished.waits_for(queue):
                missing = True
        return missing

    async def _declare_for_copies(self, queue: str) -> bool:
        connection, before = self._connection(), self.declared_again
        if connection is None or not await self._tried(self._declare(connection)):
            return False
        self.declared_again = max(self.declared_again, before + 1)  # where only a binding was gone
        if self._returned_line.due():
            log.error(
                "Copies for %s came back, no queue took them: it or its binding was gone; all that was missing was "
                "declared again, %d times so far",
                queue,
                self.declared_again,
            )
        return True

    async def _declare(self, connection: AbstractConnection) -> None:
        began = time.monotonic()
        await TopologyBuilder(connection, self._topology, missing=self).build()
        self._declared_at = began

    async def _tried(self, work: Awaitable[None]) -> bool:
        """Whether it was done. What the broker does to us meanwhile is said at most once a minute: there is a next
        time."""
        try:
            async with asyncio.timeout(LOOK_WITHIN_S):
                await work
        except BaseException as error:
            if not isinstance(error, RabbitrayError) and not is_loss(error):
                raise
            if self._failed_line.due():
                log.warning("The queues could not be looked at, or declared again: %s", describe(error))
            return False
        return True


def _tell(event: VanishedQueue) -> None:
    """A new event, once."""
    then = {
        "missing": "the pool waits: bring it back, or confirm the loss with `rabbitray resume --vanished`",
        "made": "it is declared anew, empty",
    }[event.state]
    log.error("%s; %s. Was it deleted, does a policy expire it, or has a node of a cluster forgotten it?", event, then)
