"""Conclusion: what becomes of one part of a batch. Its rows are written, what failed is published, then it is acked.

Nothing is acked before its outcome is safe: its row is committed, or the copy of its message is confirmed. Whatever
goes wrong on the way is a state as well, so that the messages of a part are given back and never forgotten.

    writing -> committed  ack
            -> lost       give back
            -> fenced     stop
            -> given up   given back while the store was still being asked
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar, assert_never

from rabbitray.actors.backoff import retry_while_unavailable
from rabbitray.actors.errors import FencedError, PayloadLostError
from rabbitray.actors.message.reply import FailedRun, Failure, Part
from rabbitray.actors.router.consumption import OUTAGE, Consumption
from rabbitray.actors.router.delivery import Batch, Delivery
from rabbitray.actors.router.holds.outage import Outage
from rabbitray.actors.router.settlement.failpoints import Failpoints
from rabbitray.actors.router.settlement.settler import Settler
from rabbitray.actors.router.status import RecentOutcomes, outcomes_of
from rabbitray.actors.store.answers import Answer

log = logging.getLogger(__name__)

P = TypeVar("P")
P_contra = TypeVar("P_contra", contravariant=True)


class ResultWriter(Protocol[P_contra]):
    """Where results go, and the failed runs of jobs that run again.

    Raises StoreUnavailableError (try again), PayloadLostError (the rows are gone) or FencedError (stop for good).
    """

    async def write(
        self, payload: P_contra, failed_keys: tuple[str, ...], span: str | None, failures: Sequence[FailedRun]
    ) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Writing:
    """The part waits for the store, or for an earlier part of its batch."""


@dataclass(frozen=True, slots=True)
class Committed:
    """Its rows are committed and its copies published: what finished may be acked."""


@dataclass(frozen=True, slots=True)
class Lost:
    """An outcome could not be made safe: its messages run again."""


@dataclass(frozen=True, slots=True)
class Fenced:
    """Another router has taken over: nothing of it may be acked."""

    why: str


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The store took too long, and its messages were given back. Rows that are still committed are results of them."""


End = Committed | Lost | Fenced | GivenUp
State = Writing | End


@dataclass(slots=True, eq=False)
class BatchSafety:
    """What the parts of one batch share on their way. Positions are indices in its deliveries."""

    batch: Batch
    unsafe: set[int] = field(default_factory=set)  # an outcome could not be made safe: no part may ack these
    in_order: asyncio.Lock = field(default_factory=asyncio.Lock)  # parts are concluded one after another


@dataclass(slots=True, eq=False)
class Conclusion:
    """One part of a batch on its way."""

    safety: BatchSafety
    part: Part
    since: float  # monotonic s
    state: State = field(default_factory=Writing)


class Concluder(Generic[P]):
    """Takes parts of batches to their end. Holds consumption while the store is unavailable, and in an outage."""

    def __init__(
        self,
        writer: ResultWriter[P],
        settler: Settler,
        failpoints: Failpoints,
        consumption: Consumption,
        outage: Outage,
        clock: Callable[[], float],
    ) -> None:
        self._writer = writer
        self._settler = settler
        self._failpoints = failpoints
        self._consumption = consumption
        self._outage = outage
        self._clock = clock
        self._writing: set[Conclusion] = set()
        self.recent = RecentOutcomes()

    def in_hand(self) -> Iterator[Delivery]:
        """The messages of the batches whose rows wait for the store."""
        for conclusion in self._writing:
            yield from conclusion.safety.batch.deliveries

    async def conclude(self, safety: BatchSafety, part: Part, payload: P) -> None:
        """Takes one part to its end. `payload`: its rows."""
        conclusion = Conclusion(safety, part, since=self._clock())
        self._writing.add(conclusion)
        async with safety.in_order:
            await self._finish(conclusion, await self._make_safe(conclusion, payload))

    async def park(self, delivery: Delivery, failure: Failure) -> None:
        """A whole message goes to the dead letters."""
        self._remember(Part(failures=[failure]))
        try:
            await self._settler.park(delivery, failure)
        except FencedError as error:
            await self._consumption.fence(str(error))
        except Exception:  # whatever it was: nobody else has this message
            log.exception("A message could not be parked; it is given back")
            self._settler.close(Batch([delivery]), Part(finished=[0]), {0})

    def give_back_unanswered(self, safety: BatchSafety) -> None:
        """The worker has ended the batch: the messages that it said nothing of run again."""
        if pending := sorted(safety.batch.pending):
            log.error("Batch %s ended without word on %d messages; they run again", safety.batch.id, len(pending))
            self._give_back(safety, Part(finished=pending))

    def give_up_older_than(self, moment: float) -> None:
        """Gives back what has waited for the store since before `moment` (monotonic s).

        Asking goes on: rows of such a part are results, and its messages, when they come again, duplicates of them.
        """
        for conclusion in self._writing:
            if conclusion.since < moment and isinstance(conclusion.state, Writing):
                batch = conclusion.safety.batch
                log.warning("Batch %s waits for the store too long; its messages are given back", batch.id)
                conclusion.state = GivenUp()
                self._settler.count_again(conclusion.part)
                self._give_back(conclusion.safety, conclusion.part)

    async def _make_safe(self, conclusion: Conclusion, payload: P) -> End:
        """Writes, watches for an outage, publishes copies of what failed; the state in which that ended."""
        safety, part = conclusion.safety, conclusion.part
        try:
            answer = await self._write(conclusion, payload)
            if self._consumption.fenced.is_set():
                return Fenced("another part was refused")
            if isinstance(conclusion.state, GivenUp):
                return conclusion.state
            spared_s = await self._watch_for_outage(safety.batch, part, answer)
            safety.unsafe |= await self._settler.publish(safety.batch, part, answer, safety.unsafe, spared_s=spared_s)
            return Committed()
        except FencedError as error:
            return Fenced(str(error))
        except PayloadLostError as loss:
            log.warning("Rows of batch %s are lost (%s): its messages run again", safety.batch.id, loss)
        except Exception:
            log.exception("Batch %s could not be settled; its messages are given back", safety.batch.id)
        return conclusion.state if isinstance(conclusion.state, GivenUp) else Lost()

    async def _finish(self, conclusion: Conclusion, end: End) -> None:
        """Ack, give back or stop."""
        conclusion.state = end
        match end:
            case Committed():
                self._ack(conclusion.safety, conclusion.part)
            case Lost():
                self._settler.count_again(conclusion.part)
                self._give_back(conclusion.safety, conclusion.part)
            case Fenced(why=why):
                await self._consumption.fence(why)
            case GivenUp():
                pass  # its messages went back when it was given up
            case _:
                assert_never(end)

    async def _write(self, conclusion: Conclusion, payload: P) -> Answer:
        """The store's answer: which rows are committed, duplicate or rejected."""
        part = conclusion.part
        keys = tuple(failure.key for failure in part.failures if failure.key is not None)
        worker = conclusion.safety.batch.worker
        runs = [FailedRun.of(failure, worker) for failure in part.failures if failure.verdict == "retry"]
        try:
            if not part.rows and not keys and not runs:
                return Answer()
            self._failpoints.reach("before_commit")
            answer = await self._ask_store(lambda: self._writer.write(payload, keys, part.span, runs))
            self._failpoints.reach("after_commit")
            return answer
        finally:
            self._writing.discard(conclusion)

    async def _ask_store(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Asks the store, however long it is unavailable; nothing new is consumed meanwhile."""
        try:
            return await retry_while_unavailable(
                call, unavailable=lambda error: self._consumption.hold("store", str(error))
            )
        finally:  # also when it ends with another error: the hold must not outlive the question
            await self._consumption.release("store")

    async def _watch_for_outage(self, batch: Batch, part: Part, answer: Answer) -> float | None:
        """Notes the outcomes. Seconds for which jobs that failed by a service are spared, see `Settler.publish`; None:
        their attempts are charged.
        """
        now, outage = self._remember(part), self._outage
        if batch.probe:
            await self._end_probe(part, answer, now)
        else:
            outage.note(part, now)
            if (reason := outage.check(now)) is not None:
                await self._consumption.hold(OUTAGE, reason)
        return outage.rounds.pause_s if batch.probe or outage.spares else None

    async def _end_probe(self, part: Part, answer: Answer, now: float) -> None:
        """The first job that is DONE ends the hold; until then its reason tells of the probes."""
        if not self._outage.held:
            return
        if self._outage.end_probe(part, answer.committed, now) == "over":
            await self._consumption.release(OUTAGE)
        else:
            await self._consumption.hold(OUTAGE, self._outage.reason)

    def _remember(self, part: Part) -> float:
        """Adds to the recent outcomes; returns the time that they got."""
        now = self._clock()
        self.recent.add(outcomes_of(part, now))
        return now

    def _ack(self, safety: BatchSafety, part: Part) -> None:
        try:
            self._settler.close(safety.batch, part, safety.unsafe)
        except Exception:
            log.exception("Batch %s could not be acked; its messages are given back", safety.batch.id)
            self._give_back(safety, part)

    def _give_back(self, safety: BatchSafety, part: Part) -> None:
        """No outcome of this part is safe: none of its messages may be acked, by a later part either."""
        safety.unsafe.update(part.row_positions, part.finished)
        safety.unsafe.update(failure.position for failure in part.failures)
        self._settler.close(safety.batch, part, safety.unsafe)
