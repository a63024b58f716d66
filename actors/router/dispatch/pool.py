"""Pool: the processing actors: pick, run, retire, replace.

Ray does not restart these actors: for a worker that ends, another is started here (worker_starts.py).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rabbitray.actors.background import BackgroundTasks
from rabbitray.actors.message.parcel import Parcel, pack_parcels
from rabbitray.actors.message.reply import Part
from rabbitray.actors.router.delivery import Batch, Delivery
from rabbitray.actors.router.dispatch.broken import spare_broken
from rabbitray.actors.router.dispatch.member import Factory, LastEnd, Member, State, WorkerLostError
from rabbitray.actors.router.dispatch.worker_starts import WorkerStarts

log = logging.getLogger(__name__)

REPLY_GRACE_S = 5.0

P = TypeVar("P")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """Bounds of the pool. Times in seconds; `start_timeout_s` counts from the asking, the wait for a place included.

    `handler_timeout_s`: for so long a job may say nothing; `max_run_s`: for so long it may run whatever it says.
    `copies_come_by`: the routes by which copies of ours come. `leave_within_s`: for so long a worker that leaves may go
    on with what it has in hand; None: until it has finished. `leave_first`: the room that is left is for others, so a
    worker that leaves has its place until its end, and no other is asked for before.
    """

    name: str
    max_tasks_in_flight_per_actor: int = 2
    handler_timeout_s: float = 60.0
    max_run_s: float = 1_800.0
    start_timeout_s: float = 300.0
    first_number: int = 1
    copies_come_by: frozenset[bytes] = frozenset()
    leave_within_s: float | None = None
    leave_first: bool = False


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
            missing=self._to_start,
            on_ready=self._join,
            ends=self._ends,
        )
        self._tasks = BackgroundTasks(log, "An end of a worker failed")
        self._watches = BackgroundTasks(log, "A worker is not watched any more")
        self._stopped = False
        self.worn: dict[str, float] = {}  # workers that leave once another is ready, in that order, and since when
        self.target = 0
        self.lent = 0
        self.replaced = 0
        self.recycled = 0
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
        for member in sorted(staying, key=self._retire_order):
            if self._missing() >= 0:
                break
            self._retire(member)
        self._let_worn_go()
        self._starts.fill()

    def replace(self, member: Member[P]) -> None:
        """Asks for one worker more; this one leaves when that is ready, or, by `leave_first`, before."""
        self.worn[member.name] = time.monotonic()
        if self._config.leave_first:
            self.retire_worn()
        self._starts.fill()

    def retire_worn(self) -> None:
        """The first that is worn leaves now: there is no place for one more beside it."""
        if (member := self._members.get(next(iter(self.worn), ""))) is not None:
            self.recycled += 1
            self._retire(member)

    def _let_worn_go(self) -> None:
        """As many of them leave as there are others in their place."""
        while self.worn and self.count("ready") > self.wanted:
            self.retire_worn()

    def _retire_order(self, member: Member[P]) -> tuple[int, int]:
        """Pending and those of which nothing is heard before worn before idle before least loaded."""
        if member.state == "starting" or member.silent:
            return 0, 0
        return (1, 0) if member.name in self.worn else (2, len(member.batches))

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
            progress = finished = time.monotonic()
            while True:
                self._account(member, batch, part)
                if part.broken:
                    yield spare_broken(batch, part), payload
                    broken = WorkerLostError("worker_broken", part.broken, may_be_poison=False)
                    raise await self._lost(member, batch, broken)
                yield part, payload
                if not part.open:
                    return
                if part.jobs:
                    progress = finished = time.monotonic()
                elif part.progress:
                    progress = time.monotonic()
                await self._check_progress(member, batch, progress, finished)
                part, payload = await self._reply(member, batch, member.handle.more(batch.id))
        finally:
            self.release(member, batch)

    def release(self, member: Member[P], batch: Batch) -> None:
        """The worker has this batch in hand no longer, be it that it never ran: one that retires may end now."""
        member.batches.pop(batch.id, None)
        member.slow.pop(batch.id, None)
        member.progress.pop(batch.id, None)
        member.replies.pop(batch.id, None)
        if member.state == "retiring" and not member.batches:
            self._end(member)
        self._on_change()

    def give_up(self, members: Iterable[Member[P]], why: str) -> None:
        """Nobody waits for these workers any more, of which nothing is heard: what they have goes to others at once."""
        for member in members:
            if self._members.get(member.name) is not member:
                continue
            self.remove(member, why=why)
            self._abandon(member, WorkerLostError("node_silent", why, may_be_poison=False))

    def remove(self, member: Member[P], *, why: str) -> None:
        """Kills a worker and replaces it."""
        if member.suspects is None:
            member.suspects = frozenset()  # we kill it: what its other batches meet now is our doing
        self.worn.pop(member.name, None)
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
        if self._stopped:
            return 0
        return self.wanted + len(self.worn) - sum(member.state != "retiring" for member in self.members)

    def _to_start(self) -> int:
        """How many of those that are missing may be asked for now."""
        return self._missing() - (self.count("retiring") if self._config.leave_first else 0)

    def _join(self, member: Member[P]) -> None:
        member.ready_at = time.monotonic()
        self._members[member.name] = member
        self._let_worn_go()
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
        if part.progress or member.progress:
            member.note_progress(batch.id, part)
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
            raise await self._lost(member, batch, member.given_up or await self._no_answer(member, batch)) from None
        except Exception as error:
            log.exception("Worker %s gave no usable answer on batch %s", member.name, batch.id)
            unusable = WorkerLostError("worker_error", f"{type(error).__name__}: {error}", may_be_poison=True)
            raise await self._lost(member, batch, unusable) from error

    async def _check_progress(self, member: Member[P], batch: Batch, progress: float, finished: float) -> None:
        now, limit_s, most_s = time.monotonic(), self._config.handler_timeout_s, self._config.max_run_s
        if now - progress > limit_s + min(REPLY_GRACE_S, limit_s / 4):  # async jobs are cancelled first
            raise await self._lost(member, batch, self._hung(batch))
        if now - finished > max(most_s, limit_s) + min(REPLY_GRACE_S, limit_s / 4):
            detail = f"a job ran for {most_s:g} s (max_run_s), whatever progress it told"
            raise await self._lost(member, batch, self._hung(batch, detail))

    async def _no_answer(self, member: Member[P], batch: Batch) -> WorkerLostError:
        """Why a worker has not answered for so long: its handler holds the event loop up, or nothing is heard of it."""
        match await member.handle.stands():
            case None:
                return self._hung(batch, f"its worker gave no answer for {self._config.handler_timeout_s:g} s")
            case "":
                return self._hung(batch)
            case stands:
                batch.stands = stands
                detail = (
                    f"the handler held up the event loop of its worker for {self._config.handler_timeout_s:g} s: "
                    "await what blocks there, or have it run by `asyncio.to_thread`"
                )
                return self._hung(batch, detail)

    def _hung(self, batch: Batch, detail: str = "") -> WorkerLostError:
        detail = detail or f"no job of the batch finished for {self._config.handler_timeout_s:g} s"
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
        self.worn.pop(member.name, None)
        if not member.batches:
            self._end(member)
        elif (within_s := self._config.leave_within_s) is not None:
            asyncio.get_running_loop().call_later(within_s, self._give_back, member)

    def _give_back(self, member: Member[P]) -> None:
        """The time of a worker that leaves is over: what it has in hand runs elsewhere."""
        if self._members.get(member.name) is not member:
            return
        del self._members[member.name]
        log.warning("Worker %s leaves before it has finished: what it has runs elsewhere", member.name)
        why = f"its worker left, and leave_within_s is {self._config.leave_within_s:g}"
        self._abandon(member, WorkerLostError("left", why, may_be_poison=False))
        member.suspects = frozenset()
        member.handle.kill()
        self._starts.fill()

    def _abandon(self, member: Member[P], loss: WorkerLostError) -> None:
        """Whoever waits for an answer of this worker hears of its loss at once, whoever asks next with that."""
        member.given_up = loss
        for bound in member.replies.values():
            with suppress(RuntimeError):  # it has its answer, and asks for the next one later
                bound.reschedule(asyncio.get_running_loop().time())

    def _end(self, member: Member[P]) -> None:
        if self._members.pop(member.name, None) is not None:
            log.info("Worker %s retired", member.name)
            self._ends.at = time.monotonic()
            self._tasks.spawn(_stop(member, 10.0))
            self._starts.fill()


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
