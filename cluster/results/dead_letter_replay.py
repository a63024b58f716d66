"""Replay: dead letters go back to the main queue, each one confirmed there before it leaves the dead letters.

It looks once at each message that is there at the start, in rounds of a few: what is selected is copied to the main
queue, what is not is copied to the end of the dead letters, unchanged. So no message waits unacknowledged for long,
none is counted as a failed delivery (RabbitMQ 4 drops after 20), and memory stays flat however many there are.

The end of a queue is behind all others of the same priority, from RabbitMQ 4 on: so what is put back has the lowest.

A dry run changes nothing: it holds what it looks at and gives it all back at the end, in one frame. A message that
was given back often already is copied even then.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from aio_pika.abc import AbstractConnection, AbstractIncomingMessage, AbstractQueue
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity

from rabbitray.actors.errors import ConfigurationError, EncodeError, RabbitrayError, UnroutableError
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.properties.copy_properties import KEEPS
from rabbitray.actors.publisher import EncodedMessage, Publisher
from rabbitray.actors.rabbitmq.errors import describe, is_loss
from rabbitray.actors.rabbitmq.frame_guard import original
from rabbitray.actors.rabbitmq.strays import Strays
from rabbitray.cluster.results.dead_letter_selection import (
    DeadLetter,
    Selection,
    deliveries,
    error_class,
    replay_copy,
    unchanged,
)

ROUND_MESSAGES = 100
ROUND_BYTES = 16 * 1024 * 1024
"""Copies that wait for their confirm together."""

GIVE_UP_AFTER = 100
"""Copies that were not confirmed: the broker takes no more, the rest is not tried."""

HOLD_S = 600.0
"""Longest time that a message is held; RabbitMQ closes the channel after 1,800 s."""

LOOKED_AT_MOST = 10
"""Deliveries from which on a message is copied rather than given back."""

PAUSE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPlan:
    """`rate`: messages per second, 0 for no limit. `limit`: replay at most so many. `dry`: change nothing."""

    selection: Selection
    rate: float = 0.0
    limit: int | None = None
    dry: bool = False


@dataclass(slots=True, kw_only=True)
class Replayed:
    """What came of it. `classes`: error class -> messages that were (dry: would be) replayed.

    `cut`: how many of them were replayed without headers that cannot be read, or do not fit. `strays`: copies that
    were meant for another queue: they are acked (dry: would be) and never run.
    """

    looked_at: int = 0
    replayed: int = 0
    returned: int = 0
    failed: int = 0
    cut: int = 0
    strays: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Move:
    """A dead letter in hand, and its copy: for the main queue (`replays`), or for the end of the dead letters; none for
    a stray.
    """

    message: AbstractIncomingMessage
    letter: DeadLetter
    copy: EncodedMessage | None
    replays: bool


class Replay:
    """Replays the dead letters of one queue over an open, guarded connection and an open publisher. Used once.

    `exchange`: our own, through which the dead letters came; empty: not known, then nothing is a stray.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        publisher: Publisher,
        *,
        queue: str,
        dead_queue: str,
        exchange: str = "",
        on_step: Callable[[int], None] = lambda _: None,
        hold_s: float = HOLD_S,
    ) -> None:
        self._connection = connection
        self._publisher = publisher
        self._queue = queue
        self._dead_queue = dead_queue
        self._strays = Strays(exchange, dead_queue) if exchange else None
        self._on_step = on_step
        self._hold_s = hold_s
        self._began = 0.0
        self._left = 0  # messages that were there at the start and were not looked at yet
        self._taken = 0
        self._refused = 0
        self._held = 0
        self._held_since: float | None = None
        self._acked = False
        self.found = Replayed()

    async def run(self, plan: ReplayPlan) -> Replayed:
        """Looks once at each message that is there now.

        Raises ConfigurationError where the dead-letter queue is missing, RabbitrayError where the connection is
        lost: what was not acked is still there, and what was replayed already gets one row all the same.
        """
        self._began = time.monotonic()
        try:
            return await self._run(plan)
        except BaseException as error:
            if isinstance(error, ChannelAccessRefused):
                raise _forbidden(self._dead_queue) from error
            if not is_loss(error):
                raise
            raise RabbitrayError(
                f"connection lost after {self.found.replayed:,} replayed ({describe(error)}): run it again"
            ) from error

    async def _run(self, plan: ReplayPlan) -> Replayed:
        async with self._connection.channel(publisher_confirms=False) as channel:
            try:
                dead = await channel.declare_queue(self._dead_queue, passive=True)
            except ChannelNotFoundEntity as missing:
                raise ConfigurationError(f"there is no dead-letter queue {self._dead_queue!r}") from missing
            self._left = dead.declaration_result.message_count or 0
            while self._left > 0 and not self._enough(plan):
                await self._copy(await self._round(dead, plan))
            await self._settle(dead)
        return self.found

    def _enough(self, plan: ReplayPlan) -> bool:
        """Whether the rest is left alone."""
        if plan.limit is not None and self._taken >= plan.limit:
            return True
        if self._held_since is not None and time.monotonic() - self._held_since > self._hold_s:
            self._note(f"ended after {self._hold_s:,.0f} s with {self._left:,} not looked at: run it again")
            return True
        return self._refused >= GIVE_UP_AFTER

    async def _round(self, dead: AbstractQueue, plan: ReplayPlan) -> list[_Move]:
        """The next messages that are to be copied; ends early rather than hold one while `rate` makes it wait."""
        moves: list[_Move] = []
        size = 0
        while self._left > 0 and len(moves) < ROUND_MESSAGES and size < ROUND_BYTES and not self._enough(plan):
            if (wait_s := self._wait_s(plan)) > 0:
                if moves:
                    break
                await asyncio.sleep(min(wait_s, PAUSE_S))
                continue
            message = await dead.get(fail=False)
            if message is None:
                self._left = 0
                break
            self._left -= 1
            self.found.looked_at += 1
            self._on_step(self.found.looked_at)
            if (move := self._decided(message, plan)) is not None:
                moves.append(move)
                size += len(message.body)
        return moves

    def _wait_s(self, plan: ReplayPlan) -> float:
        if not plan.rate or plan.dry:
            return 0.0
        return self._began + self._taken / plan.rate - time.monotonic()

    def _decided(self, message: AbstractIncomingMessage, plan: ReplayPlan) -> _Move | None:
        """What becomes of a message; None: it is held until the end."""
        letter = DeadLetter(message.body, original(message))
        if self._is_stray(message, letter):
            return self._stray(message, letter, plan)
        if plan.selection.takes(letter):
            self._taken += 1
            if not plan.dry:
                return _Move(message=message, letter=letter, copy=replay_copy(letter, self._queue), replays=True)
            self.found.classes[error_class(letter)] += 1
        self.found.returned += 1
        copy = None if plan.dry and deliveries(letter) < LOOKED_AT_MOST else unchanged(letter, self._dead_queue)
        if copy is None:
            self._hold()
            return None
        return _Move(message=message, letter=letter, copy=copy, replays=False)

    def _is_stray(self, message: AbstractIncomingMessage, letter: DeadLetter) -> bool:
        exchange, key = message.exchange or "", message.routing_key or ""
        return self._strays is not None and self._strays.holds(exchange, key, letter.headers)

    def _stray(self, message: AbstractIncomingMessage, letter: DeadLetter, plan: ReplayPlan) -> _Move | None:
        self.found.strays += 1
        if not plan.dry:
            return _Move(message=message, letter=letter, copy=None, replays=False)
        self._hold()
        return None

    async def _copy(self, moves: list[_Move]) -> None:
        """Confirmed first, then acked here; whatever fails is held until the end."""
        ends = await asyncio.gather(*(self._published(move) for move in moves))
        for move, confirmed in zip(moves, ends, strict=True):
            if confirmed:
                await move.message.ack()
                self._acked = True
            else:
                self._hold()

    async def _published(self, move: _Move) -> bool:
        if move.copy is None:
            return True
        try:
            sent = await self._publish(move, move.copy)
        except RabbitrayError as error:
            self._refused += 1
            self.found.failed += move.replays
            self._note(
                f"queue {move.copy.routing_key!r} does not exist" if isinstance(error, UnroutableError) else str(error)
            )
            return False
        if move.replays:
            self.found.replayed += 1
            self.found.cut += h.HEADERS_CUT in sent.headers
            self.found.classes[error_class(move.letter)] += 1
        return True

    async def _publish(self, move: _Move, copy: EncodedMessage) -> EncodedMessage:
        """What was sent: a replay whose headers fit no frame leaves the producer's behind, as every copy does."""
        for keep in KEEPS:
            try:
                if keep != KEEPS[0]:
                    copy = replay_copy(move.letter, self._queue, keep=keep)
                await self._publisher.publish_message(copy)
                break
            except EncodeError:
                if not move.replays or keep == KEEPS[-1]:
                    raise
        return copy

    def _note(self, text: str) -> None:
        if text not in self.found.errors and len(self.found.errors) < 5:
            self.found.errors.append(text)

    def _hold(self) -> None:
        self._held += 1
        if self._held_since is None:
            self._held_since = time.monotonic()

    async def _settle(self, dead: AbstractQueue) -> None:
        """Waits until the acks are taken, and gives back all that is held, in one frame.

        Beyond 32 acks of messages that were got, a quorum queue's channel keeps them back until the first are
        through, and drops them when it closes (tried on 3.10.8). A get is answered after that; what it may bring is
        given back with the rest.
        """
        if self._acked and await dead.get(fail=False) is not None:
            self._held += 1
        if self._held:
            channel = await dead.channel.get_underlay_channel()
            await channel.basic_nack(delivery_tag=0, multiple=True, requeue=True)


async def purge(connection: AbstractConnection, dead_queue: str) -> int:
    """Deletes every ready message of the dead-letter queue for good; how many. Raises ConfigurationError."""
    async with connection.channel(publisher_confirms=False) as channel:
        try:
            queue = await channel.declare_queue(dead_queue, passive=True)
            return (await queue.purge()).message_count or 0
        except ChannelNotFoundEntity as missing:
            raise ConfigurationError(f"there is no dead-letter queue {dead_queue!r}") from missing
        except ChannelAccessRefused as refused:
            raise _forbidden(dead_queue) from refused


def _forbidden(dead_queue: str) -> ConfigurationError:
    return ConfigurationError(f"this user may not read queue {dead_queue!r} (403): grant it `read` on it")
