"""What the broker itself dead-lettered from the main queue (expired, over the delivery limit or the length) gets a row.

RabbitMQ moves such a message without asking us; its reason stands in the `x-death` header. The Collector turns it
into an ordinary dead letter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from rabbitray.actors.background import BackgroundTasks
from rabbitray.actors.errors import FencedError
from rabbitray.actors.message.headers import MAX_TEXT, cut_text, newest_death
from rabbitray.actors.message.properties.sent_with import dropped_route
from rabbitray.actors.message.reply import Failure
from rabbitray.actors.router.delivery import Delivery, message_failure
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.consumer import Intake
from rabbitray.actors.router.intake.opener import Opener
from rabbitray.actors.router.intake.reading import UNREADABLE_HEADERS
from rabbitray.actors.router.settlement.settler import Settler
from rabbitray.actors.router.settlement.tally import Tally

log = logging.getLogger(__name__)
WINDOW = 20
AGAIN_S = 30.0
REASON_MOST = 40  # bytes; RabbitMQ's longest has 14


def dropped(delivery: Delivery) -> Failure:
    """The failure of a message from the queue `<queue>.dropped`, whoever wrote its `x-death`.

    One with unreadable headers is told as such.
    """
    death = newest_death(getattr(delivery.properties, "headers", None))
    reason = cut_text(str(death.get("reason", "unknown")), REASON_MOST)
    queue = cut_text(str(death.get("queue", "?")), MAX_TEXT)
    why, code = f"dead-lettered by the broker from {queue}: {reason}", f"broker_{reason}"
    refused = delivery.refused or ""
    if refused.startswith(UNREADABLE_HEADERS):
        why, code = f"{why}; {refused}", UNREADABLE_HEADERS
    return message_failure(delivery, code, why, "BrokerDrop")


class Collector:
    """Consumes `<queue>.dropped`, beside the main queue and on a connection of its own.

    `settler_for` makes the settler that publishes, buries and acks on that connection. `again_s`: how long one stays
    that could not be collected. `opener` is the intake's.
    """

    def __init__(
        self,
        config: IntakeConfig,
        settler_for: Callable[[Intake], Settler],
        *,
        again_s: float = AGAIN_S,
        opener: Opener | None = None,
    ) -> None:
        self._again_s = again_s
        self._in_hand: set[Delivery] = set()
        self._closing = False
        self._intake = Intake(
            config, on_delivery=self._take, on_lost=self._lost, held=lambda: self._in_hand, opener=opener
        )
        self._settler = settler_for(self._intake)
        self._tasks = BackgroundTasks(log, "A message that the broker dropped could not be collected")

    @property
    def collected(self) -> int:
        """Messages that went into the dead letters."""
        return self._settler.tally.dead

    @property
    def late(self) -> int:
        """Messages that RabbitMQ took back by its time-out, see `Intake.late`."""
        return self._intake.late

    @property
    def stuck(self) -> str | None:
        """Why nothing can be collected: RabbitMQ cannot deliver the message at the head."""
        return self._intake.stuck

    async def start(self) -> None:
        """Begins to consume."""
        await self._intake.open()
        await self._intake.consume(WINDOW)

    async def pause(self) -> None:
        """Takes nothing more, until `go_on`."""
        await self._intake.pause()

    async def go_on(self) -> None:
        """Consumes again."""
        await self._intake.consume(WINDOW)

    def doubt(self, queue: str) -> None:
        """See `Intake.doubt`."""
        self._intake.doubt(queue)

    async def close(self) -> None:
        """Stops; what is not settled, or comes now, stays in its queue. May be called twice and before `start`."""
        self._closing = True
        await self._tasks.close()
        await self._intake.close()

    @property
    def tally(self) -> Tally:
        """What became of the messages of that queue."""
        return self._settler.tally

    def _take(self, delivery: Delivery) -> None:
        if self._closing:
            return
        if delivery.stray:
            self._settler.whole.discard(delivery)
        else:
            delivery.route = dropped_route(getattr(delivery.properties, "headers", None) or {}, delivery.route)
            self._in_hand.add(delivery)
            task = self._tasks.spawn(self._collect(delivery))
            task.add_done_callback(lambda _: self._in_hand.discard(delivery))

    async def _collect(self, delivery: Delivery) -> None:
        """A dropped queue may have a limit, too: one that was made on RabbitMQ 3. Behind it is nothing."""
        renewable = delivery.near_limit and self._intake.counts_returns
        if renewable and await self._settler.whole.renew(delivery, dropped=True):
            return
        failure = dropped(delivery)
        log.warning("RabbitMQ dropped message %s: %s", delivery.parcel.message_id, failure.error)
        try:
            await self._settler.park(delivery, failure)
        except FencedError as error:
            log.warning("Not collected: %s", error)
        except Exception:  # whatever it was: nobody else has this message
            log.exception("Message %s was not collected, it is tried again", delivery.parcel.message_id)
            await asyncio.sleep(self._again_s)
            self._intake.give_back([delivery])

    def _lost(self, generation: int) -> None:
        log.debug("Generation %d of the dropped queue ended", generation)
