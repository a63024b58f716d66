"""Replay: dead letters go back to the main queue, each one confirmed there before it leaves the dead letters.

What is not selected is held unacknowledged until the end and then returned as it was; a message that dies again
meanwhile is behind the last one that is looked at, so no replay runs for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from aio_pika.abc import AbstractConnection, AbstractIncomingMessage, AbstractQueue
from aiormq.exceptions import ChannelNotFoundEntity

from actors.errors import ConfigurationError, RabbitrayError, UnroutableError
from actors.intake import CONNECTION_ERRORS
from actors.publisher import Publisher
from actors.secret import redact
from actors.selection import Selection, error_class, revived

AT_ONCE = 100
"""Copies that wait for their confirm together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPlan:
    """`rate`: messages per second, 0 for no limit. `limit`: replay at most so many. `dry`: change nothing."""

    selection: Selection
    rate: float = 0.0
    limit: int | None = None
    dry: bool = False


@dataclass(slots=True, kw_only=True)
class Replayed:
    """What came of it. `classes`: error class -> messages that were (dry: would be) replayed."""

    looked_at: int = 0
    replayed: int = 0
    returned: int = 0
    failed: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


class Replay:
    """Replays the dead letters of one queue over an open connection and an open publisher."""

    def __init__(
        self,
        connection: AbstractConnection,
        publisher: Publisher,
        *,
        queue: str,
        dead_queue: str,
        on_step: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._connection = connection
        self._publisher = publisher
        self._queue = queue
        self._dead_queue = dead_queue
        self._on_step = on_step
        self._moving: set[asyncio.Task[None]] = set()
        self._began = 0.0
        self.found = Replayed()

    async def run(self, plan: ReplayPlan) -> Replayed:
        """Looks once at each message that is there now.

        Raises ConfigurationError where the dead-letter queue is missing, RabbitrayError where the connection is
        lost: what was not acked is still there, and what was replayed already is worked once.
        """
        self._began = time.monotonic()
        try:
            return await self._run(plan)
        except CONNECTION_ERRORS as error:
            raise RabbitrayError(
                f"connection lost after {self.found.replayed:,} replayed ({redact(str(error))}): run it again"
            ) from error
        finally:
            await asyncio.gather(*self._moving, return_exceptions=True)

    async def _run(self, plan: ReplayPlan) -> Replayed:
        async with self._connection.channel(publisher_confirms=False) as channel:
            try:
                dead = await channel.declare_queue(self._dead_queue, passive=True)
            except ChannelNotFoundEntity as missing:
                raise ConfigurationError(f"there is no dead-letter queue {self._dead_queue!r}") from missing
            kept = await self._look(dead, plan)
            await asyncio.gather(*self._moving)
            for message in kept:
                await message.nack(requeue=True)
            self.found.returned += len(kept)
        return self.found

    async def _look(self, dead: AbstractQueue, plan: ReplayPlan) -> list[AbstractIncomingMessage]:
        """The messages that stay."""
        kept: list[AbstractIncomingMessage] = []
        taken = 0
        for _ in range(dead.declaration_result.message_count or 0):
            if plan.limit is not None and taken >= plan.limit:
                break
            message = await dead.get(fail=False)
            if message is None:
                break
            self.found.looked_at += 1
            self._on_step(self.found.looked_at)
            if not plan.selection.takes(message):
                kept.append(message)
                continue
            taken += 1
            if plan.dry:
                self.found.classes[error_class(message)] += 1
                kept.append(message)
            else:
                await self._start(message, plan, taken)
        return kept

    async def _start(self, message: AbstractIncomingMessage, plan: ReplayPlan, number: int) -> None:
        if plan.rate:
            await asyncio.sleep(max(0.0, self._began + (number - 1) / plan.rate - time.monotonic()))
        if len(self._moving) >= AT_ONCE:
            await asyncio.wait(self._moving, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(self._move(message))
        self._moving.add(task)
        task.add_done_callback(self._moving.discard)

    async def _move(self, message: AbstractIncomingMessage) -> None:
        """Confirmed in the main queue first, then acked here; whatever fails is returned."""
        try:
            await self._publisher.publish_message(revived(message, self._queue))
        except RabbitrayError as error:
            self.found.failed += 1
            text = f"queue {self._queue!r} does not exist" if isinstance(error, UnroutableError) else str(error)
            if text not in self.found.errors and len(self.found.errors) < 5:
                self.found.errors.append(text)
            await message.nack(requeue=True)
        else:
            await message.ack()
            self.found.replayed += 1
            self.found.classes[error_class(message)] += 1


async def purge(connection: AbstractConnection, dead_queue: str) -> int:
    """Deletes every ready message of the dead-letter queue for good; how many. Raises ConfigurationError."""
    async with connection.channel(publisher_confirms=False) as channel:
        try:
            queue = await channel.declare_queue(dead_queue, passive=True)
        except ChannelNotFoundEntity as missing:
            raise ConfigurationError(f"there is no dead-letter queue {dead_queue!r}") from missing
        return (await queue.purge()).message_count or 0
