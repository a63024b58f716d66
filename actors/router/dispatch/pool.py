"""Pool: the processing actors: pick, run, retire, replace.

Ray does not restart these actors: for a worker that ends, another is started here (worker_starts.py).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rabbitray.actors.background import BackgroundTasks
from rabbitray.actors.message.parcel import Parcel, pack_parcels
from rabbitray.actors.message.reply import Part
from rabbitray.actors.router.delivery import Batch, Delivery
from rabbitray.actors.router.dispatch.member import Factory, LastEnd, Member, State, WorkerLostError
from rabbitray.actors.router.dispatch.worker_starts import WorkerStarts

log = logging.getLogger(__name__)

REPLY_GRACE_S = 5.0

P = TypeVar("P")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """Bounds of the pool. Times in seconds; `start_timeout_s` counts from the asking, the wait for a place included.

    `copies_come_by`: the routes by which copies of ours come.
    """

    name: str
    max_tasks_in_flight_per_actor: int = 2
    handler_timeout_s: float = 60.0
    start_timeout_s: float = 300.0
    first_number: int = 1
    copies_come_by: frozenset[bytes] = frozenset()


class Pool(Generic[P]):
    """The workers. `on_change` is called when one becomes able to take work."""

    def __init__(
        self, config: PoolConfig, factory: Factory[P], *, on_change: Callable[[], None], ends: LastEnd | None = None
    ) -> None:
        self._config = config
        self._on_change = on_change
        self._members: dict[str, Member[P]] = {}  # ready or retiring
        self._ends = ends or LastEnd()
        self._starts = WorkerStarts(
            factory,
            names=(f"{config.name}-{number:04d}" for number in itertools.count(config.first_number)),
            timeout_s=config.start_timeout_s,
            missing=self._missing,
            on_ready=self._join,
            ends=self._ends,
        )
        self._tasks = BackgroundTasks(log, "An end of a worker failed")
        self._watches = BackgroundTasks(log, "A worker is not watched any more")
        self._stopped = False
        self.target = 0
        self.lent = 0
        self.replaced = 0
        self.busy_s = 0.0  # seconds in which workers were busy, over all workers, past ones too

    @property
    def members(self) -> list[Member[P]]:
        """All workers, in any state, in the order in which they were asked for."""
        return sorted([*self._members.values(), *self._starts.pending], key=lambda member: member.asked_at)

    def in_hand(self) -> Iterator[Delivery]:
        """The messages of the batches that workers have, also those that are finished."""
        for member in self.members:
            for batch in member.batches.values():
                yield from batch.deliveries

    def count(self, state: State) -> int:
        """How many workers are in this state."""
        return sum(member.state == state for member in self.members)

    @property
    def start_s(self) -> float | None:
        """Seconds from the asking for a worker until it is ready, smoothed; None before the first."""
        return self._starts.took_s

    @property
    def environment_s(self) -> float | None:
        """Seconds until the last worker's environment and place were there; None where there is nothing to build."""
        return self._starts.environment_s

    @property
    def start_error(self) -> str | None:
        """Why the last start failed; None once one has succeeded."""
        return self._starts.error

    @property
    def failed_starts(self) -> int:
        """Starts that failed in a row, see WorkerStarts."""
        return self._starts.failures

    @property
    def start_again_in_s(self) -> float:
        """Seconds until the next start is allowed after failures; 0 when it is now."""
        return self._starts.again_in_s

    def pick(self) -> Member[P] | None:
        """The worker with the fewest jobs in hand of those that can take one more batch, or None."""
        most = self._config.max_tasks_in_flight_per_actor
        able = [member for member in self._members.values() if member.can_take(most)]
        return min(able, key=lambda member: (member.open_jobs, member.load)) if able else None

    def open_jobs(self) -> int:
        """Jobs at workers whose outcome is not known here."""
        return sum(member.open_jobs for member in self._members.values())

    def resize(self, target: int) -> None:
        """Sets how many workers there shall be; starts or retires the difference."""
        self.target = target
        self._fit()

    def lend(self, places: int) -> None:
        """So many workers fewer than the target, for as long as somebody else needs their places; 0 ends it."""
        self.lent = places
        self._fit()

    @property
    def wanted(self) -> int:
        """How many workers there shall be now: the target without what is lent."""
        return max(0, self.target - self.lent)

    def _fit(self) -> None:
        staying = [member for member in self.members if member.state != "retiring"]
        for member in sorted(staying, key=_retire_order)[: max(0, len(staying) - self.wanted)]:
            self._retire(member)
        self._starts.fill()

    def leave(self, nodes: Collection[str]) -> None:
        """These nodes are going away: their workers get no new batch, finish, and are replaced elsewhere."""
        leaving = [m for m in self._members.values() if m.state == "ready" and m.info and m.info.node in nodes]
        for member in leaving:
            log.warning("Worker %s leaves: its node is draining", member.name)
            self._retire(member)
        if leaving:
            self._starts.fill()

    async def run(self, member: Member[P], batch: Batch) -> AsyncIterator[tuple[Part, P]]:
        """Runs a batch on a worker and yields its parts; raises WorkerLostError when the worker ends with it."""
        member.batches[batch.id] = batch
        try:
            shipment = pack_parcels(_parcels(member, batch, self._config.copies_come_by))
            part, payload = await self._reply(member, batch, member.handle.run(batch.id, shipment))
            progress = time.monotonic()
            while True:
                self._account(member, batch, part)
                yield part, payload
                if not part.open:
                    return
                progress = time.monotonic() if part.jobs else progress
                await self._check_progress(member, batch, progress)
                part, payload = await self._reply(member, batch, member.handle.more(batch.id))
        finally:
            self.release(member, batch)

    def release(self, member: Member[P], batch: Batch) -> None:
        """The worker has this batch in hand no longer, be it that it never ran: one that retires may end now."""
        member.batches.pop(batch.id, None)
        member.slow.pop(batch.id, None)
        member.replies.pop(batch.id, None)
        if member.state == "retiring" and not member.batches:
            self._end(member)
        self._on_change()

    def give_up(self, members: Iterable[Member[P]], why: str) -> None:
        """Nobody waits for these workers any more, of which nothing is heard: what they have goes to others at once."""
        for member in members:
            if self._members.get(member.name) is not member:
                continue
            member.given_up = WorkerLostError("node_silent", why, may_be_poison=False)
            self.remove(member, why=why)
            for bound in member.replies.values():
                bound.reschedule(asyncio.get_running_loop().time())

    def remove(self, member: Member[P], *, why: str) -> None:
        """Kills a worker and replaces it."""
        if member.suspects is None:
            member.suspects = frozenset()  # we kill it: what its other batches meet now is our doing
        if self._members.pop(member.name, None) is not None:
            log.warning("Worker %s ended (%s) and is replaced", member.name, why)
            self.replaced += 1
            self._ends.at = time.monotonic()
            member.handle.kill()
            self._starts.fill()

    async def stop(self, within_s: float) -> None:
        """Ends all workers, gracefully within the time. May be called twice."""
        self._stopped = True
        self.target = 0
        members, self._members = list(self._members.values()), {}
        ending = self._tasks.cancel() + self._starts.cancel() + self._watches.cancel()
        for member in members:
            member.suspects = frozenset()
        await asyncio.gather(*(_stop(member, within_s) for member in members))
        await asyncio.gather(*ending, return_exceptions=True)

    def _missing(self) -> int:
        """How many workers are wanted beyond those that are there or pending; negative for too many."""
        return 0 if self._stopped else self.wanted - sum(member.state != "retiring" for member in self.members)

    def _join(self, member: Member[P]) -> None:
        self._members[member.name] = member
        self._watches.spawn(self._watch(member))
        self._on_change()

    async def _watch(self, member: Member[P]) -> None:
        """Replaces a worker that ends without work. One with work is replaced by it, which knows what is suspect."""
        why = "its process ended"
        try:
            await member.handle.ended()
        except WorkerLostError as loss:
            why = str(loss)
        if not member.batches:
            self.remove(member, why=why)

    def _account(self, member: Member[P], batch: Batch, part: Part) -> None:
        member.jobs += part.jobs
        member.busy_s += part.busy_s
        self.busy_s += part.busy_s
        batch.stands = part.stands
        if part.usage is not None:
            member.usage, member.used_at = part.usage, time.monotonic()
        if part.open and not part.keys:  # a part that tells keys says nothing of how long jobs take
            member.slow[batch.id] = part.open
            self._on_change()

    async def _reply(self, member: Member[P], batch: Batch, call: Awaitable[tuple[Part, P]]) -> tuple[Part, P]:
        """The answer of a worker, which is due within `handler_timeout_s` even when nothing finished."""
        try:
            async with asyncio.timeout(self._config.handler_timeout_s + REPLY_GRACE_S) as bound:
                member.replies[batch.id] = bound
                return await call
        except WorkerLostError as loss:
            raise await self._lost(member, batch, member.given_up or loss) from loss
        except TimeoutError:
            raise await self._lost(member, batch, member.given_up or self._hung(batch)) from None
        except Exception as error:
            log.exception("Worker %s gave no usable answer on batch %s", member.name, batch.id)
            unusable = WorkerLostError("worker_error", f"{type(error).__name__}: {error}", may_be_poison=True)
            raise await self._lost(member, batch, unusable) from error

    async def _check_progress(self, member: Member[P], batch: Batch, progress: float) -> None:
        limit_s = self._config.handler_timeout_s
        if time.monotonic() - progress > limit_s + min(REPLY_GRACE_S, limit_s / 4):  # async jobs are cancelled first
            raise await self._lost(member, batch, self._hung(batch))

    def _hung(self, batch: Batch) -> WorkerLostError:
        detail = f"no job of the batch finished for {self._config.handler_timeout_s:g} s"
        return WorkerLostError(
            "handler_timeout", detail, may_be_poison=True, node_in_doubt=True, traceback=batch.stands
        )

    async def _lost(self, member: Member[P], batch: Batch, loss: WorkerLostError) -> WorkerLostError:
        """Replaces the worker at once, and returns its loss as it is for this batch, which nobody suspects before it is
        known whether the node goes.
        """
        suspect = loss.may_be_poison and member.may_have_died_of(batch, hung=loss.reason == "handler_timeout")
        self.remove(member, why=str(loss))
        if suspect and loss.node_in_doubt and await member.handle.node_leaves():
            return WorkerLostError("node_lost", loss.detail, may_be_poison=False)
        return loss if suspect else WorkerLostError(loss.reason, loss.detail, may_be_poison=False)

    def _retire(self, member: Member[P]) -> None:
        if member.state == "starting":
            self._starts.withdraw(member)
            return
        member.state = "retiring"
        if not member.batches:
            self._end(member)

    def _end(self, member: Member[P]) -> None:
        if self._members.pop(member.name, None) is not None:
            log.info("Worker %s retired", member.name)
            self._ends.at = time.monotonic()
            self._tasks.spawn(_stop(member, 10.0))


def _retire_order(member: Member[P]) -> tuple[int, int]:
    """Pending before those of which nothing is heard before idle before least loaded."""
    return (0, 0) if member.state == "starting" or member.silent else (1, len(member.batches))


async def _stop(member: Member[P], within_s: float) -> None:
    """Asks a worker to end, and kills it when it has not within the time."""
    try:
        async with asyncio.timeout(within_s):
            await member.handle.stop()
    except (WorkerLostError, TimeoutError):
        member.handle.kill()
    except BaseException:  # an error of another kind, or the pool ends and cannot wait
        member.handle.kill()
        raise


def _parcels(
    member: Member[Any],  # Any: its rows, which do not matter here
    batch: Batch,
    copies_come_by: frozenset[bytes],
) -> list[Parcel]:
    """What travels to this worker: with the envelope of each message where it asks for messages."""
    if member.info is not None and member.info.asks_message:
        return [delivery.with_envelope(copies_come_by) for delivery in batch.deliveries]
    return [delivery.parcel for delivery in batch.deliveries]
