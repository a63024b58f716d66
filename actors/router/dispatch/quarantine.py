"""Quarantine: finds the message that ends workers, beside the normal work.

What a worker had in hand when it died is suspect, and each suspect runs alone, one after another, on a worker of the
quarantine's own: so a death names its message. One that ends its worker alone `max_crashes` times is parked; the
others finish, and no attempt is charged to them. The count of a message is kept in the store, so that it survives the
router. An innocent suspect costs no call of the store.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from rabbitray.actors.backoff import retry_while_unavailable
from rabbitray.actors.message.reply import Failure
from rabbitray.actors.router.delivery import Batch, Delivery, message_failure
from rabbitray.actors.router.dispatch.isolation import LoneDeaths, Park, next_step
from rabbitray.actors.router.dispatch.member import Member, WorkerLostError
from rabbitray.actors.router.dispatch.pool import Pool

log = logging.getLogger(__name__)

P = TypeVar("P")
KNOWN_MOST = 10_000
HASHED_BYTES = 4_096  # of either end of a body
WORKERS = 2  # one that runs a suspect, and one that is ready when that one dies


class Quarantine(Generic[P]):
    """Suspect deliveries, and the pool of the workers that run them.

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
        self._spared: dict[str, int] = {}  # lone deaths that do not count
        self._suspects: dict[str, None] = {}  # by identity, the oldest first; also those that are to come (again)
        self._line: deque[Delivery] = deque()
        self._running: set[str] = set()  # a batch stays here until it is known why its worker was lost

    def __len__(self) -> int:
        return len(self._line)

    def knows(self, delivery: Delivery) -> bool:
        """Whether this message is suspect: it was before it came again, or crashed alone in an earlier router."""
        if not self._counts and not self._suspects:
            return False
        return (name := identity(delivery)) in self._counts or name in self._suspects

    def held(self) -> Iterator[Delivery]:
        """Suspects that wait, and the one that runs."""
        yield from self._line
        yield from self._pool.in_hand()

    def expect(self, names: Iterable[str]) -> None:
        """Messages of these identities are suspect, whenever they come."""
        self._suspects.update(dict.fromkeys(names))
        while len(self._suspects) > KNOWN_MOST:
            del self._suspects[next(iter(self._suspects))]

    def add(self, suspects: Sequence[Delivery]) -> None:
        """Puts suspects in the line; a worker is started for them if there is none."""
        self.expect(map(identity, suspects))
        self._line.extend(suspects)
        self._resize()

    def next(self) -> Iterator[tuple[Pool[P], Member[P], Batch]]:
        """The suspect that can run now: one at a time, or a death would not name its message."""
        busy = any(member.batches for member in self._pool.members)
        if self._line and not busy and (member := self._pool.pick()) is not None:
            batch = Batch([self._line.popleft()])
            self._running.add(batch.id)
            self._resize()
            yield self._pool, member, batch

    async def count(self, batch: Batch) -> None:
        """Before the run of a suspect that has crashed alone: one more is stored first, so that a crash which takes
        the router along counts too. One that has done so too often is not run: WorkerLostError.
        """
        if batch.id in self._running and (crashes := self._counts.get(name := identity(batch.deliveries[0]), 0)):
            if crashes > self._max_crashes:
                detail = f"it ran alone {crashes} times without an end, and the router ended with it"
                raise WorkerLostError("worker_crashed", detail, may_be_poison=True)
            await self._store(name, crashes + 1)

    async def clear(self, batch: Batch) -> None:
        """The batch ended without a crash: its message is no suspect any more."""
        if batch.id in self._running:
            name = identity(batch.deliveries[0])
            self._suspects.pop(name, None)
            self._spared.pop(name, None)
            self._leave(batch)
            await self._keep(name, 0)

    async def isolate(self, batch: Batch, left: Sequence[Delivery], loss: WorkerLostError) -> Failure | None:
        """A worker was lost with `left` of a batch. Returns the failure to park its message with, if it is to be."""
        if batch.id not in self._running:
            self.add(left)
            return None
        name = identity(batch.deliveries[0])
        before = LoneDeaths(crashes=self._counts.get(name, 0), spared=self._spared.get(name, 0))
        step = next_step(loss, before, max_crashes=self._max_crashes)
        if isinstance(step, Park) and left:
            log.error("Message %s ended its worker alone %d times and is parked", name, step.deaths.crashes)
            await self.clear(batch)
            return message_failure(left[0], loss.reason, loss.detail, "WorkerLost", traceback=loss.traceback)
        if step.deaths.spared:
            self._spared[name] = step.deaths.spared
            if len(self._spared) > KNOWN_MOST:
                del self._spared[next(iter(self._spared))]
        self._line.extend(left)
        self._leave(batch)
        await self._keep(name, step.deaths.crashes)
        return None

    def holds(self, batch: Batch) -> bool:
        """Whether this batch runs on the quarantine's worker."""
        return batch.id in self._running

    def take_all(self) -> list[Delivery]:
        """Takes out all that waits, to be given back."""
        return self.remove(lambda _: True)

    def remove(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Takes out those that the predicate names, to be given back."""
        removed = [delivery for delivery in self._line if unwanted(delivery)]
        self._line = deque(delivery for delivery in self._line if not unwanted(delivery))
        self._resize()
        return removed

    def _resize(self) -> None:
        """The next worker starts while one runs; without a suspect there is none."""
        if not self._line and not self._running:
            self._pool.resize(0)
        else:
            self._pool.resize(max(self._pool.target, WORKERS if self._line and self._running else 1))

    def _leave(self, batch: Batch) -> None:
        self._running.discard(batch.id)
        self._resize()

    async def _keep(self, name: str, crashes: int) -> None:
        """So many crashes of this message are known now, here at once."""
        before = self._counts.pop(name, 0)
        if crashes:
            self._counts[name] = crashes
        if before or crashes:
            await self._store(name, crashes)
        if len(self._counts) > KNOWN_MOST:
            await self._keep(next(iter(self._counts)), 0)

    async def _store(self, name: str, crashes: int) -> None:
        """In the store as soon as it can."""
        try:
            await retry_while_unavailable(lambda: self._note(name, crashes))
        except Exception:
            log.exception("The count of lone crashes of %s could not be stored; it holds for this run only", name)


def identity(delivery: Delivery) -> str:
    """What a message is called before it is decoded: its key header, else its message id with a hash of its body.

    Producers choose message ids, and two messages may have one: a crash of one of them says nothing of the other.
    """
    parcel = delivery.parcel
    return parcel.key or f"{parcel.message_id or 'body'}:{_digest(parcel.body)}"


def _digest(body: bytes) -> str:
    """Of its length and its ends: of a large body the whole would cost 0.1 ms for each message that is asked after."""
    ends = body if len(body) <= 2 * HASHED_BYTES else body[:HASHED_BYTES] + body[-HASHED_BYTES:]
    return hashlib.blake2b(ends, digest_size=8, salt=len(body).to_bytes(8, "big")).hexdigest()
