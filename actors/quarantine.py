"""Quarantine: finds the message that kills workers, beside the normal work.

A suspect batch is run again in halves, then singly, on a worker of its own. A message that kills alone
`max_crashes` times is parked; its neighbours finish and no attempt is charged to them. The count of a message is
kept in the store before each lone run, so that it survives the router.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Generic, TypeVar

from actors.batch import Batch
from actors.delivery import Delivery
from actors.pool import Member, Pool, WorkerLostError
from actors.settling import whole
from actors.verdict import Failure

log = logging.getLogger(__name__)

P = TypeVar("P")
KNOWN_MOST = 10_000


class Quarantine(Generic[P]):
    """Suspect deliveries and the pool of one worker that runs them.

    `counts`: lone crashes by identity, as the store kept them. `note` stores one count (0 clears it).
    """

    def __init__(
        self,
        pool: Pool[P],
        *,
        max_crashes: int,
        counts: Mapping[str, int],
        note: Callable[[str, int], Awaitable[None]],
    ) -> None:
        self._pool = pool
        self._max_crashes = max_crashes
        self._counts = dict(counts)
        self._note = note
        self._groups: deque[list[Delivery]] = deque()
        self._running: set[str] = set()

    def __len__(self) -> int:
        return sum(len(group) for group in self._groups)

    def knows(self, delivery: Delivery) -> bool:
        """Whether this message was alone when a worker died, in this life of the router or an earlier one."""
        return bool(self._counts) and identity(delivery) in self._counts

    def add(self, group: list[Delivery]) -> None:
        """Puts a group in the line; a worker is started for it if there is none."""
        if group:
            self._groups.append(group)
            self._pool.resize(1)

    def next(self) -> Iterator[tuple[Pool[P], Member[P], Batch]]:
        """The group that can run now on the quarantine's worker."""
        while self._groups and (member := self._pool.pick()) is not None:
            batch = Batch(self._groups.popleft())
            self._running.add(batch.id)
            yield self._pool, member, batch

    async def count(self, batch: Batch) -> None:
        """Before a lone run: its crash is counted first, so that one that takes the router along counts too."""
        if len(batch.deliveries) == 1 and len(self._counts) < KNOWN_MOST:
            name = identity(batch.deliveries[0])
            self._counts[name] = self._counts.get(name, 0) + 1
            await self._note(name, self._counts[name])

    async def acquit(self, batch: Batch) -> None:
        """The batch ended without a crash: whatever was counted against its message is forgotten."""
        if batch.id in self._running:
            self._running.discard(batch.id)
            await self._forget(batch)
            self._rest()

    async def accuse(self, batch: Batch, left: list[Delivery], loss: WorkerLostError) -> Failure | None:
        """A worker died with `left`: isolate further. Returns the failure to park a lone killer with.

        An innocent loss (node gone, killed by us) of a suspect batch only runs it again.
        """
        alone_before = batch.id in self._running and len(batch.deliveries) == 1
        self._running.discard(batch.id)
        if not loss.guilty:
            await self._forget(batch)
            self.add(left)
        elif len(left) > 1:
            self.add(left[: len(left) // 2])
            self.add(left[len(left) // 2 :])
        elif left and alone_before and self._counts.get(identity(left[0]), 0) >= self._max_crashes:
            log.error(
                "Message %s ended its worker alone %d times and is parked",
                identity(left[0]),
                self._max_crashes,
            )
            await self._forget(batch)
            self._rest()
            return whole(left[0], loss.reason, str(loss), "WorkerLost")
        else:
            self.add(left)
        self._rest()
        return None

    def holds(self, batch: Batch) -> bool:
        """Whether this batch runs on the quarantine's worker."""
        return batch.id in self._running

    def clear(self) -> list[Delivery]:
        """Takes out all that waits, to be given back."""
        waiting = [delivery for group in self._groups for delivery in group]
        self._groups.clear()
        return waiting

    async def _forget(self, batch: Batch) -> None:
        if len(batch.deliveries) == 1:
            name = identity(batch.deliveries[0])
            if self._counts.pop(name, 0):
                await self._note(name, 0)

    def _rest(self) -> None:
        if not self._groups and not self._running:
            self._pool.resize(0)


def identity(delivery: Delivery) -> str:
    """What a message is called before it is decoded: the key header, else the message id, else its body's hash."""
    parcel = delivery.parcel
    return parcel.key or parcel.message_id or f"body:{hashlib.blake2b(parcel.body, digest_size=16).hexdigest()}"
