"""WholeMessages: a message that is not worked as it came is put back, taken apart or let go, in one step each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from rabbitray.actors.errors import DecodeError, EncodeError, RabbitrayError
from rabbitray.actors.message.keys import KeyRule
from rabbitray.actors.message.parcel import Record, records_of
from rabbitray.actors.message.reply import Failure
from rabbitray.actors.message.wire import MessageFormat, MessageLimits, TypeCodes
from rabbitray.actors.router.delivery import Delivery, message_failure
from rabbitray.actors.router.settlement.acker import Acker
from rabbitray.actors.router.settlement.retries import Rung
from rabbitray.actors.router.settlement.tally import Tally
from rabbitray.actors.router.settlement.waits import Waits
from rabbitray.actors.telemetry.rate_limit import LogThrottle

log = logging.getLogger(__name__)


class WholeOutbox(Protocol):
    """Publishes a copy; returns once the broker has confirmed it, else raises, PublishFailedError as a rule."""

    async def retry(self, delivery: Delivery, record: Record, rung: Rung) -> None: ...
    async def again(self, delivery: Delivery, record: Record) -> None: ...
    async def renew(self, delivery: Delivery, *, dropped: bool = False) -> bool: ...


class WholeMessages:
    """A confirmed copy takes the place of each message, then it is acked. `park`: to the dead letters with it."""

    def __init__(
        self,
        queue: str,
        waits: Waits,
        *,
        acker: Acker,
        outbox: WholeOutbox,
        tally: Tally,
        park: Callable[[Delivery, Failure], Awaitable[None]],
        wire: MessageLimits,
        codes: TypeCodes,
        message_format: MessageFormat,
        rule: KeyRule,
    ) -> None:
        self._queue = queue
        self._waits = waits
        self._acker = acker
        self._outbox = outbox
        self._tally = tally
        self._park = park
        self._wire = wire
        self._codes = codes
        self._format = message_format
        self._rule = rule
        self._stray_line = LogThrottle()

    def records(self, delivery: Delivery) -> list[Record]:
        """The records of a message; none where it is in none of our own forms."""
        try:
            return self._records(delivery)
        except DecodeError:
            return []

    def _records(self, delivery: Delivery) -> list[Record]:
        """With the keys that a worker has told. Raises DecodeError."""
        found = records_of(delivery.parcel, self._wire, self._codes, self._format, self._rule)
        if delivery.keys is None:
            return found
        return [msgspec.structs.replace(one, key=one.key or delivery.key_of(one.record)) for one in found]

    async def take_apart(self, delivery: Delivery, *, expect: Callable[[list[str]], None] | None = None) -> None:
        """A packed message becomes single ones in the main queue, so that one record cannot hurt the others.

        `expect` is told their keys before the first is sent.
        """
        if not self._acker.still_ours([delivery]):
            return
        try:
            pieces = self._records(delivery)
            if expect is not None:
                expect([piece.key for piece in pieces if piece.key is not None])
            await asyncio.gather(*(self._outbox.again(delivery, piece) for piece in pieces))
        except DecodeError as error:
            await self._park(delivery, message_failure(delivery, error.reason, error.detail, "DecodeError"))
        except EncodeError as error:  # the next try would end in the same way
            await self._park(delivery, message_failure(delivery, "not_encodable", str(error), "EncodeError"))
        except Exception as error:  # whatever it was: nobody else has this message
            log.error(
                "The records of a packed message could not be published singly, it stays: %s",
                error,
                exc_info=None if isinstance(error, RabbitrayError) else error,
            )
            self._acker.give_back_later([delivery])
        else:
            log.warning("A packed message of %d records that ended a worker was taken apart", len(pieces))
            self._tally.split += 1
            self._acker.ack([delivery])

    def must_wait(self, delivery: Delivery) -> bool:
        """Whether it came before its due time, and may wait for it."""
        return self._waits.must_wait(delivery)

    async def postpone(self, delivery: Delivery) -> None:
        """A message before its due time, which `must_wait`, goes into a rung again, at no charge."""
        if not self._acker.still_ours([delivery]):
            return
        record, rung = self._waits.next_hop(delivery)
        try:
            await self._outbox.retry(delivery, record, rung)
        except Exception:  # whatever it was: nobody else has this message
            log.exception("A message that is not due yet could not be put into its rung, and stays")
            self._acker.give_back_later([delivery])
        else:
            self._tally.postponed += 1
            self._tally.note_due(rung)
            self._acker.ack([delivery])

    async def renew(self, delivery: Delivery, *, dropped: bool = False) -> bool:
        """Puts a message behind the others as a copy that is the same, so that RabbitMQ counts its deliveries anew.

        False where it has no key (a copy and its message could not be known as one), where no copy would be the same,
        and where the copy was not confirmed: then it is worked as it is.
        """
        if not self._acker.still_ours([delivery]):
            return True
        if not self._keeps_its_key(delivery):
            return False
        try:
            sent = await self._outbox.renew(delivery, dropped=dropped)
        except Exception as error:  # whatever it was: nobody else has this message
            known = isinstance(error, RabbitrayError)
            text = "Message %s could not be put back as a fresh copy, it is worked as it is: %s"
            log.warning(text, delivery.parcel.message_id, error, exc_info=None if known else error)
            return False
        if sent:
            self._tally.renewed += 1
            self._acker.ack([delivery])
        return sent

    def _keeps_its_key(self, delivery: Delivery) -> bool:
        """Whether a message and a copy that is the same are known as one. What a body says is in both of them; a user
        id, which no copy can have, is in one.
        """
        parcel, place = delivery.parcel, self._rule.place
        if self._rule.name == "user_id":
            return False
        if place == "default" and parcel.message_id:
            return True
        return place == "body" or parcel.key is not None or any(one.key for one in self.records(delivery))

    def discard(self, delivery: Delivery) -> None:
        """A copy that was meant for another queue is acked and not run: that queue has it, too."""
        self._tally.strays += 1
        self._acker.ack([delivery])
        if self._stray_line.due():
            log.warning(
                "Message %s came through our own exchange, meant for another queue than %s; such messages are acked "
                "and not run, %d so far. Is that no direct exchange, or is a queue bound to it under another's name?",
                delivery.parcel.message_id,
                self._queue,
                self._tally.strays,
            )
