"""Quarantine: finds the message that kills workers, beside the normal work.

A suspect batch is run again in halves, then singly, on a worker of its own. A message that kills alone
`max_crashes` times is parked; its neighbours finish and no attempt is charged to them. The count of a message is
kept in the store before each lone run, so that it survives the router.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from rabbitray.actors.backoff import retry_while_unavailable
from rabbitray.actors.message.reply import Failure
from rabbitray.actors.router.delivery import Batch, Delivery, message_failure
from rabbitray.actors.router.dispatch.isolation import ParkSuspect, Requeue, Split, Step, next_step
from rabbitray.actors.router.dispatch.member import Member, WorkerLostError
from rabbitray.actors.router.dispatch.pool import Pool

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
        self._last_death = ""  # the worker whose jobs the last group in the line holds

    def __len__(self) -> int:
        return sum(len(group) for group in self._groups)

    def knows(self, delivery: Delivery) -> bool:
        """Whether this message was alone when a worker died, in this life of the router or an earlier one."""
        return bool(self._counts) and identity(delivery) in self._counts

    def add(self, group: list[Delivery]) -> None:
        """Puts a group in the line; a worker is started for it if there is none."""
        self._put(group)

    def next(self) -> Iterator[tuple[Pool[P], Member[P], Batch]]:
        """The group that can run now on the quarantine's worker: one at a time, or a neighbour would be suspected."""
        if self._groups and not self._running and (member := self._pool.pick()) is not None:
            batch = Batch(self._groups.popleft())
            self._running.add(batch.id)
            yield self._pool, member, batch

    async def count(self, batch: Batch) -> None:
        """Before a suspect's lone run: its crash is counted first, so one that takes the router along counts too."""
        if batch.id in self._running and len(batch.deliveries) == 1:
            name = identity(batch.deliveries[0])
            if name not in self._counts and len(self._counts) >= KNOWN_MOST:
                await self._keep(next(iter(self._counts)), 0)
            await self._keep(name, self._counts.get(name, 0) + 1)

    async def clear(self, batch: Batch) -> None:
        """The batch ended without a crash: the crashes that were counted for its message are forgotten."""
        if batch.id in self._running:
            self._running.discard(batch.id)
            self._rest()
            await self._forget(batch)

    async def isolate(
        self, batch: Batch, left: list[Delivery], loss: WorkerLostError, *, of: str = ""
    ) -> Failure | None:
        """The worker `of` was lost with `left` of a batch: see `next_step`. Returns the failure to park one with."""
        alone = batch.id in self._running and len(batch.deliveries) == 1
        self._running.discard(batch.id)
        step = next_step(
            left,
            loss,
            alone=alone,
            crashes=self._counts.get(identity(batch.deliveries[0]), 0) if alone else 0,
            max_crashes=self._max_crashes,
            last_is_of_same_worker=bool(of and of == self._last_death and self._groups),
        )
        return await self._carry_out(step, batch, loss, of if loss.may_be_poison else "")

    async def _carry_out(self, step: Step, batch: Batch, loss: WorkerLostError, of: str) -> Failure | None:
        match step:
            case Requeue(group=group, with_last=True):
                self._groups[-1] += group
            case Requeue(group=group, uncount=uncount):
                self._put(group, of=of)
                if uncount:
                    await self._uncount(batch)
            case Split(first=first, second=second):
                self._put(first, second, of=of)
            case ParkSuspect(delivery=delivery, crashes=crashes):
                log.error("Message %s ended its worker alone %d times and is parked", identity(delivery), crashes)
                self._rest()
                await self._forget(batch)
                return message_failure(delivery, loss.reason, str(loss), "WorkerLost")
        self._rest()
        return None

    def holds(self, batch: Batch) -> bool:
        """Whether this batch runs on the quarantine's worker."""
        return batch.id in self._running

    def take_all(self) -> list[Delivery]:
        """Takes out all that waits, to be given back."""
        waiting = [delivery for group in self._groups for delivery in group]
        self._groups.clear()
        self._rest()
        return waiting

    def remove(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Takes the groups out that hold a delivery which the predicate names, to be given back."""
        late = [group for group in self._groups if any(unwanted(delivery) for delivery in group)]
        self._groups = deque(group for group in self._groups if group not in late)
        self._rest()
        return [delivery for group in late for delivery in group]

    def _put(self, *groups: Sequence[Delivery], of: str = "") -> None:
        """Puts groups in the line; `of`: the worker that one of their messages may have ended, if there was one."""
        for group in groups:
            if group:
                self._groups.append(list(group))
                self._last_death = of
                self._pool.resize(1)

    async def _forget(self, batch: Batch) -> None:
        if len(batch.deliveries) == 1 and identity(batch.deliveries[0]) in self._counts:
            await self._keep(identity(batch.deliveries[0]), 0)

    async def _uncount(self, batch: Batch) -> None:
        """Takes the last crash back that `count` counted."""
        name = identity(batch.deliveries[0])
        await self._keep(name, max(0, self._counts.get(name, 0) - 1))

    async def _keep(self, name: str, count: int) -> None:
        """Sets one count, here at once and in the store as soon as it can."""
        if count:
            self._counts[name] = count
        else:
            self._counts.pop(name, None)
        try:
            await retry_while_unavailable(lambda: self._note(name, count))
        except Exception:
            log.exception("The count of lone crashes of %s could not be stored; it holds for this run only", name)

    def _rest(self) -> None:
        if not self._groups and not self._running:
            self._pool.resize(0)


def identity(delivery: Delivery) -> str:
    """What a message is called before it is decoded: the key header, else the message id, else its body's hash."""
    parcel = delivery.parcel
    return parcel.key or parcel.message_id or f"body:{hashlib.blake2b(parcel.body, digest_size=16).hexdigest()}"
