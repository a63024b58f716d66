"""The loop: observe -> decide -> act. Plain asyncio; `autoscale/actor.py` makes a Ray actor of it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from time import monotonic, time
from typing import Final, Protocol

from rabbitray.actors.errors import RabbitrayError
from rabbitray.actors.router.status import PoolStatus
from rabbitray.autoscale.policy.signals import Decision, Memory, PolicyLimits, Snapshot
from rabbitray.autoscale.policy.sizing import decide
from rabbitray.autoscale.policy.window import WindowDecision, WindowLimits, window

log = logging.getLogger(__name__)

TICK_TIMEOUT_S: Final = 20.0
"""One look and its consequences take no longer, or the tick has failed."""

RECENT_RECORDS: Final = 10


class Depth(Protocol):
    """Where the depth of the queue comes from."""

    async def ready(self) -> int | None:
        """Messages ready now; None where unknown."""
        ...


class ResizablePool(Protocol):
    """The pool as the loop sees and moves it."""

    async def status(self) -> PoolStatus:
        """The pool at this moment."""
        ...

    async def resize(self, target: int, reason: str) -> None:
        """Aim at `target` workers."""
        ...

    async def widen(self, window: int, batch_size: int, *, backlog: bool, hand_over: bool) -> None:
        """Use this window and this batch size; `hand_over`: to a new consumer, for a new window in any case;
        `backlog`: the queue holds more.
        """
        ...


class Log(Protocol):
    """Where decisions are kept."""

    async def decide(self, record: DecisionRecord) -> None:
        """Keep one record."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """One line of the decision log.

    `at` is Unix seconds. `event`: `decided` (a new size, or a new kind of reason), `in_effect` (the pool has
    reached the size; `took_s` after it was decided) or `still` (a slow heartbeat). `kind`, `wanted`, `reason` and
    `inputs` (ready for JSON) are those of the decision, with `in_effect` of the one that came into effect; `had`,
    `starting`, `retiring`, `window` and `batch_size` are those of the moment.
    """

    at: float
    event: str
    kind: str
    wanted: int
    had: int
    starting: int
    retiring: int
    reason: str
    window: int
    batch_size: int
    took_s: float | None
    inputs: dict[str, float | int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds between looks: while something happens, while idle, until the first speed; between records.

    `least_s` keeps many wakes in a row from becoming many looks.
    """

    busy_s: float = 1.0
    idle_s: float = 5.0
    first_s: float = 0.25
    heartbeat_s: float = 60.0
    least_s: float = 0.05


class AutoscaleLoop:
    """Looks at depth and pool, decides, and resizes; a failed tick is logged and changes nothing.

    `wake()` makes the next look happen now: a delivery at zero workers, a burst, a word of control. `stop()`
    may be called twice, and before `run()`. All methods belong to one event loop.
    """

    def __init__(
        self,
        *,
        depth: Depth,
        pool: ResizablePool,
        log: Log,
        limits: PolicyLimits,
        window_limits: WindowLimits | None = None,
        pace: Pace | None = None,
        clock: Callable[[], float] = monotonic,
        wall: Callable[[], float] = time,
        on_look: Callable[[Snapshot], None] | None = None,
    ) -> None:
        self._depth = depth
        self._pool = pool
        self._log = log
        self._window_limits = window_limits or WindowLimits()
        self._pace = pace or Pace()
        gap_s = max(limits.longest_gap_s, 2.5 * self._pace.idle_s)
        self._limits = replace(limits, longest_gap_s=gap_s)
        self._clock = clock
        self._wall = wall
        self._on_look = on_look
        self._memory = Memory()
        self._journal = Journal(heartbeat_s=self._pace.heartbeat_s)
        self._recent: deque[DecisionRecord] = deque(maxlen=RECENT_RECORDS)
        self._next_s = self._pace.busy_s
        self._stopped = asyncio.Event()
        self._woken = asyncio.Event()

    @property
    def limits(self) -> PolicyLimits:
        """The limits in force."""
        return self._limits

    @property
    def recent(self) -> tuple[DecisionRecord, ...]:
        """The last few records, newest last: what `status` shows as the last reasons."""
        return tuple(self._recent)

    @property
    def pause_s(self) -> float:
        """Seconds until the next look, unless woken."""
        return self._next_s

    def fix(self, size: int | None) -> int | None:
        """Hold the pool at `size` (`rabbitray scale N`), or decide again with None (`scale auto`).

        Returns the size that is held: `size` within the bounds of the pool.
        """
        held = None if size is None else self._limits.bounded(size)
        self._limits = replace(self._limits, fixed_size=held)
        self.wake()
        return held

    def wake(self) -> None:
        """Look now instead of after the pause."""
        self._woken.set()

    def stop(self) -> None:
        """End `run()` after the tick that is under way."""
        self._stopped.set()
        self._woken.set()

    async def run(self) -> None:
        """Tick until stopped."""
        while not self._stopped.is_set():
            self._woken.clear()
            try:
                async with asyncio.timeout(TICK_TIMEOUT_S):
                    await self.run_once()
            except RabbitrayError as gone:  # an actor is being restarted, the broker is away
                self._next_s = self._pace.busy_s
                log.warning("autoscaler: nothing changed: %s; next look in %.1f s", gone, self._next_s)
            except Exception:  # whatever fails in a tick must not end the loop
                self._next_s = self._pace.busy_s
                log.exception("autoscaler tick failed, nothing changed")
            if not self._stopped.is_set():
                await self._pause()

    async def run_once(self) -> Decision:
        """One look, one decision, and what follows from it; raises what the pool or the log raises."""
        seen = await self._observe()
        decision, memory = decide(seen, self._memory, self._limits)
        memory = await self._act(seen, decision, memory)
        self._memory = memory
        self._next_s = self._pause_s(seen, decision, memory)
        return decision

    async def _observe(self) -> Snapshot:
        ready, pool = await asyncio.gather(self._depth.ready(), self._pool.status())
        seen = Snapshot(now=self._clock(), ready=ready, pool=pool)
        if self._on_look is not None:
            self._on_look(seen)
        return seen

    async def _act(self, seen: Snapshot, decision: Decision, memory: Memory) -> Memory:
        widened = window(seen, memory, self._window_limits)
        if decision.wanted != seen.pool.target:
            log.info("resize to %d: %s", decision.wanted, decision.reason)
            await self._pool.resize(decision.wanted, decision.reason)
        if widened.differs(seen.pool):
            await self._pool.widen(
                widened.messages, widened.batch_size, backlog=widened.backlog, hand_over=widened.changed
            )
        if widened.changed:
            memory = replace(memory, window_changed_at=seen.now)
        for record in self._journal.records(seen, decision, widened, self._wall()):
            self._recent.append(record)
            await self._log.decide(record)
        return memory

    def _pause_s(self, seen: Snapshot, decision: Decision, memory: Memory) -> float:
        moving = seen.pool.starting or seen.pool.retiring or decision.wanted != seen.pool.target
        entered = memory.samples[-1].entered != memory.samples[-2:][0].entered if memory.samples else True
        if seen.pool.busy and decision.inputs.speed is None:
            return self._pace.first_s
        return self._pace.busy_s if moving or entered or seen.backlog else self._pace.idle_s

    async def _pause(self) -> None:
        """Until the next look is due or somebody wakes the loop, and a moment in any case."""
        await _set_within(self._woken, self._next_s)
        await _set_within(self._stopped, self._pace.least_s)


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


class Journal:
    """Which ticks are worth a record: a new size or kind, its coming into effect, and a slow heartbeat."""

    def __init__(self, *, heartbeat_s: float) -> None:
        self._heartbeat_s = heartbeat_s
        self._last: tuple[int, str] | None = None
        self._written_at = 0.0
        self._open: tuple[Decision, float] | None = None  # the last new size, and since when it is wanted

    def records(self, seen: Snapshot, decision: Decision, widened: WindowDecision, at: float) -> list[DecisionRecord]:
        """The records of one tick, none for most."""
        records = []
        this = (decision.wanted, _class(decision))
        if this != self._last:
            if self._last is None or self._last[0] != decision.wanted:
                self._open = (decision, seen.now)
            records.append(_record(seen, decision, widened, at, "decided", None))
        elif seen.now - self._written_at >= self._heartbeat_s:
            records.append(_record(seen, decision, widened, at, "still", None))
        if self._open is not None and seen.pool.workers == decision.wanted:
            opened, since = self._open
            records.append(_record(seen, opened, widened, at, "in_effect", seen.now - since))
            self._open = None
        self._last = this
        self._written_at = seen.now if records else self._written_at
        return records


def _class(decision: Decision) -> str:
    """Growing, shrinking and standing still are one class: a change of the size tells them apart."""
    return "demand" if decision.kind in ("grow", "shrink", "steady") else decision.kind


def _record(
    seen: Snapshot, decision: Decision, widened: WindowDecision, at: float, event: str, took_s: float | None
) -> DecisionRecord:
    return DecisionRecord(
        at=at,
        event=event,
        kind=decision.kind,
        wanted=decision.wanted,
        had=seen.pool.workers,
        starting=seen.pool.starting,
        retiring=seen.pool.retiring,
        reason=decision.reason,
        window=widened.messages,
        batch_size=widened.batch_size,
        took_s=took_s,
        inputs=asdict(decision.inputs),
    )
