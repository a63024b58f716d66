"""Pool: the processing actors: pick, add, retire, replace.

Ray does not restart these actors: a worker that ends is replaced here, with back-off when starting keeps failing.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeVar

from rabbitray.actors.background import BackgroundTasks
from rabbitray.actors.errors import RabbitrayError
from rabbitray.actors.message.parcel import Shipment, pack_parcels
from rabbitray.actors.message.reply import Part, Usage, WorkerInfo
from rabbitray.actors.router.delivery import Batch

log = logging.getLogger(__name__)

START_BACKOFF_FIRST_S = 0.5
START_BACKOFF_MOST_S = 30.0
REPLY_GRACE_S = 5.0

State = Literal["starting", "ready", "retiring"]
P = TypeVar("P")  # the payload: a reference to the rows, or the rows themselves in a unit test
P_co = TypeVar("P_co", covariant=True)


class WorkerLostError(RabbitrayError):
    """A worker ended with a batch. `may_be_poison`: a job of the batch may have killed it, see design.md, Outcomes."""

    def __init__(self, reason: str, detail: str, *, may_be_poison: bool) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason  # worker_crashed, handler_timeout, node_lost, killed, unavailable
        self.may_be_poison = may_be_poison


class WorkerHandle(Protocol[P_co]):
    """One worker, wherever it runs. Calls raise WorkerLostError when it is gone."""

    async def ready(self) -> WorkerInfo: ...
    async def run(self, batch_id: str, shipment: Shipment) -> tuple[Part, P_co]: ...
    async def more(self, batch_id: str) -> tuple[Part, P_co]: ...
    async def stop(self) -> None: ...
    def kill(self) -> None: ...


class Factory(Protocol[P_co]):
    """Starts workers."""

    def spawn(self, name: str) -> WorkerHandle[P_co]: ...


@dataclass(slots=True, eq=False)
class Member(Generic[P]):
    """A worker in the pool and what it has in hand."""

    name: str
    handle: WorkerHandle[P]
    asked_at: float
    state: State = "starting"
    info: WorkerInfo | None = None
    batches: dict[str, Batch] = field(default_factory=dict)  # in the order of dispatch
    slow: dict[str, int] = field(default_factory=dict)  # batch -> jobs still open after its first part
    suspects: frozenset[str] | None = None  # at its death: the batches that may have killed it
    jobs: int = 0
    busy_s: float = 0.0
    usage: Usage | None = None  # the last that it told
    used_at: float = 0.0

    @property
    def slots(self) -> int:
        """Jobs that run at once."""
        return self.info.slots if self.info else 1

    @property
    def load(self) -> int:
        """Batches in flight that have not shown to be slow."""
        return len(self.batches) - len(self.slow)

    @property
    def open_jobs(self) -> int:
        """Jobs in hand whose outcome is not known here."""
        return sum(self.slow.get(batch.id, batch.records) for batch in self.batches.values())

    def can_take(self, most_in_flight: int) -> bool:
        """Whether one more batch may go there: slots are free, or there is a place in the line.

        Slow jobs occupy slots, not places in the line.
        """
        if self.state != "ready":
            return False
        in_line = self.load < most_in_flight and sum(self.slow.values()) < self.slots
        return in_line or self.open_jobs < self.slots

    def may_have_died_of(self, batch: Batch) -> bool:
        """Whether a job of this batch may have killed the worker: all of an async worker's, else the oldest's."""
        if self.suspects is None:
            self.suspects = frozenset(self.batches if self.slots > 1 else [*self.batches][:1])
        return batch.id in self.suspects


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """Bounds of the pool. Times in seconds; `start_timeout_s` counts from the asking, the wait for a place included."""

    name: str
    max_tasks_in_flight_per_actor: int = 2
    handler_timeout_s: float = 60.0
    start_timeout_s: float = 300.0
    first_number: int = 1


class Pool(Generic[P]):
    """The workers. `on_change` is called when one becomes able to take work."""

    def __init__(self, config: PoolConfig, factory: Factory[P], *, on_change: Callable[[], None]) -> None:
        self._config = config
        self._factory = factory
        self._on_change = on_change
        self._numbers = itertools.count(config.first_number)
        self._members: dict[str, Member[P]] = {}
        self._tasks = BackgroundTasks(log, "A start or an end of a worker failed")
        self._failures = 0  # starts that failed in a row; workers that were asked for together count once
        self._failed_at = 0.0
        self._not_before = 0.0
        self._refill: asyncio.TimerHandle | None = None
        self._stopped = False
        self.target = 0
        self.start_s: float | None = None  # from the asking until ready, smoothed
        self.start_error: str | None = None
        self.replaced = 0
        self.busy_s = 0.0  # seconds in which workers were busy, over all workers, past ones too

    @property
    def members(self) -> list[Member[P]]:
        """All workers, in any state."""
        return list(self._members.values())

    def count(self, state: State) -> int:
        """How many workers are in this state."""
        return sum(member.state == state for member in self._members.values())

    @property
    def start_again_in_s(self) -> float:
        """Seconds until the next start is allowed after failures; 0 when it is now."""
        return max(0.0, self._not_before - time.monotonic())

    def pick(self) -> Member[P] | None:
        """The worker with the fewest jobs in hand of those that can take one more batch, or None."""
        most = self._config.max_tasks_in_flight_per_actor
        able = [member for member in self._members.values() if member.can_take(most)]
        return min(able, key=lambda member: (member.open_jobs, member.load)) if able else None

    def resize(self, target: int) -> None:
        """Sets how many workers there shall be; starts or retires the difference."""
        self.target = target
        staying = [member for member in self._members.values() if member.state != "retiring"]
        for member in sorted(staying, key=_retire_order)[: max(0, len(staying) - target)]:
            self._retire(member)
        self._fill()

    def leave(self, nodes: Collection[str]) -> None:
        """These nodes are going away: their workers get no new batch, finish, and are replaced elsewhere."""
        leaving = [m for m in self._members.values() if m.state == "ready" and m.info and m.info.node in nodes]
        for member in leaving:
            log.warning("Worker %s leaves: its node is draining", member.name)
            self._retire(member)
        if leaving:
            self._fill()

    async def run(self, member: Member[P], batch: Batch) -> AsyncIterator[tuple[Part, P]]:
        """Runs a batch on a worker and yields its parts; raises WorkerLostError when the worker ends with it."""
        member.batches[batch.id] = batch
        try:
            part, payload = await self._reply(
                member, batch, member.handle.run(batch.id, pack_parcels([one.parcel for one in batch.deliveries]))
            )
            progress = time.monotonic()
            while True:
                self._account(member, batch, part)
                yield part, payload
                if not part.open:
                    return
                progress = time.monotonic() if part.jobs else progress
                self._check_progress(member, batch, progress)
                part, payload = await self._reply(member, batch, member.handle.more(batch.id))
        finally:
            member.batches.pop(batch.id, None)
            member.slow.pop(batch.id, None)
            if member.state == "retiring" and not member.batches:
                self._end(member)
            self._on_change()

    def remove(self, member: Member[P], *, why: str) -> None:
        """Kills a worker and replaces it."""
        if member.suspects is None:
            member.suspects = frozenset()  # we kill it: what its other batches meet now is our doing
        if self._members.pop(member.name, None) is not None:
            log.warning("Worker %s ended (%s) and is replaced", member.name, why)
            self.replaced += 1
            member.handle.kill()
            self._fill()

    async def stop(self, within_s: float) -> None:
        """Ends all workers, gracefully within the time. May be called twice."""
        self._stopped = True
        self.target = 0
        members, self._members = self.members, {}
        if self._refill is not None:
            self._refill.cancel()
        ending = self._tasks.cancel()
        for member in members:
            member.suspects = frozenset()
            if member.state == "starting":
                member.handle.kill()
        stopping = [_stop(member, within_s) for member in members if member.state != "starting"]
        await asyncio.gather(*stopping)
        await asyncio.gather(*ending, return_exceptions=True)

    def _account(self, member: Member[P], batch: Batch, part: Part) -> None:
        member.jobs += part.jobs
        member.busy_s += part.busy_s
        self.busy_s += part.busy_s
        if part.usage is not None:
            member.usage, member.used_at = part.usage, time.monotonic()
        if part.open:
            member.slow[batch.id] = part.open
            self._on_change()

    async def _reply(self, member: Member[P], batch: Batch, call: Awaitable[tuple[Part, P]]) -> tuple[Part, P]:
        """The answer of a worker, which is due within `handler_timeout_s` even when nothing finished."""
        try:
            async with asyncio.timeout(self._config.handler_timeout_s + REPLY_GRACE_S):
                return await call
        except WorkerLostError as loss:
            may_be_poison = loss.may_be_poison and member.may_have_died_of(batch)
            self.remove(member, why=str(loss))
            raise WorkerLostError(loss.reason, str(loss), may_be_poison=may_be_poison) from loss
        except TimeoutError:
            raise self._hung(member, batch) from None
        except Exception as error:
            log.exception("Worker %s gave no usable answer on batch %s", member.name, batch.id)
            may_be_poison = member.may_have_died_of(batch)
            self.remove(member, why="unusable answer")
            raise WorkerLostError(
                "worker_error", f"{type(error).__name__}: {error}", may_be_poison=may_be_poison
            ) from error

    def _check_progress(self, member: Member[P], batch: Batch, progress: float) -> None:
        limit_s = self._config.handler_timeout_s
        if time.monotonic() - progress > limit_s + min(REPLY_GRACE_S, limit_s / 4):  # async jobs are cancelled first
            raise self._hung(member, batch)

    def _hung(self, member: Member[P], batch: Batch) -> WorkerLostError:
        detail = f"no job of the batch finished for {self._config.handler_timeout_s:g} s"
        may_be_poison = member.may_have_died_of(batch)
        self.remove(member, why=detail)
        return WorkerLostError("handler_timeout", detail, may_be_poison=may_be_poison)

    def _fill(self) -> None:
        missing = self.target - sum(member.state != "retiring" for member in self._members.values())
        if self._stopped or missing <= 0 or (self._failures and self.count("starting")):
            return  # after a failure one start at a time
        if self.start_again_in_s:
            if self._refill is None:
                self._refill = asyncio.get_running_loop().call_later(self.start_again_in_s + 0.01, self._fill_later)
            return
        for _ in range(1 if self._failures else missing):
            if not self.start_again_in_s:  # a start that fails at once ends this round
                self._add(f"{self._config.name}-{next(self._numbers):04d}")

    def _fill_later(self) -> None:
        self._refill = None
        self._fill()

    def _add(self, name: str) -> None:
        """Asks for one worker."""
        try:
            handle = self._factory.spawn(name)
        except Exception as error:
            log.exception("Worker %s could not be asked for", name)
            self._back_off(name, time.monotonic(), error)
            return
        member = Member(name=name, handle=handle, asked_at=time.monotonic())
        self._members[name] = member
        self._tasks.spawn(self._start(member))

    async def _start(self, member: Member[P]) -> None:
        try:
            async with asyncio.timeout(self._config.start_timeout_s):
                member.info = await member.handle.ready()
        except Exception as error:  # noqa: BLE001 # whatever it is, this worker does not start; logged below
            self._start_failed(member, error)
            return
        if member.name not in self._members:
            return  # withdrawn meanwhile
        member.usage, member.used_at = member.info.usage, time.monotonic()
        took = time.monotonic() - member.asked_at
        self.start_s = took if self.start_s is None else 0.7 * self.start_s + 0.3 * took
        self._failures, self._not_before, self.start_error = 0, 0.0, None
        member.state = "ready"
        log.info("Worker %s is ready after %.1f s (pid %d)", member.name, took, member.info.pid)
        self._fill()
        self._on_change()

    def _start_failed(self, member: Member[P], error: Exception) -> None:
        if self._members.pop(member.name, None) is None:
            return  # withdrawn meanwhile
        member.handle.kill()
        self._back_off(member.name, member.asked_at, error)

    def _back_off(self, name: str, asked_at: float, error: Exception) -> None:
        if asked_at >= self._failed_at:
            self._failures += 1
            self._failed_at = time.monotonic()
        delay = min(START_BACKOFF_FIRST_S * 2 ** (self._failures - 1), START_BACKOFF_MOST_S)
        self._not_before = time.monotonic() + delay
        self.start_error = str(error) or f"not ready within {self._config.start_timeout_s:g} s"
        log.error("Worker %s could not start: %s; next try in %.1f s", name, self.start_error, delay)
        self._fill()

    def _retire(self, member: Member[P]) -> None:
        if member.state == "starting":
            self._members.pop(member.name, None)
            member.handle.kill()
            return
        member.state = "retiring"
        if not member.batches:
            self._end(member)

    def _end(self, member: Member[P]) -> None:
        if self._members.pop(member.name, None) is not None:
            log.info("Worker %s retired", member.name)
            self._tasks.spawn(_stop(member, 10.0))


def _retire_order(member: Member[P]) -> tuple[int, int]:
    """Pending before idle before least loaded."""
    return (0, 0) if member.state == "starting" else (1, len(member.batches))


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
