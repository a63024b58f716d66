"""The pool in virtual time: messages, workers that take time to start, and a policy that is asked. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import ceil, inf
from random import Random
from typing import Protocol

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.router.status import PoolStatus
from rabbitray.autoscale.policy.signals import Memory, PolicyLimits, Snapshot
from rabbitray.autoscale.policy.sizing import decide
from rabbitray.autoscale.simulation.loads import Load, turns


class Policy(Protocol):
    """A rule under test: the size it wants, asked every `interval_s`. It may keep memory, not read a clock."""

    name: str
    interval_s: int

    def wanted(self, seen: Snapshot) -> int:
        """The size of the pool for what is seen now; bounds are the simulator's work."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """What a policy acts on: seconds for a job and a start, share of failing runs, bounds of the pool.

    Runs last `service_s` give or take `service_spread` (uniform); a failed run comes back after `retry_s`.
    Raises ConfigurationError for numbers without sense.
    """

    service_s: float = 0.2
    service_spread: float = 0.3
    start_s: float = 3.0
    failure_rate: float = 0.0
    retry_s: float = 2.0
    max_runs: int = 6
    limits: PolicyLimits = field(default_factory=PolicyLimits)
    seed: int = 7

    def __post_init__(self) -> None:
        if not 0 < self.service_s < inf:
            raise ConfigurationError(f"a service time of {self.service_s:g} s: it must be above 0")
        if not 0 <= self.start_s < inf:
            raise ConfigurationError(f"a start time of {self.start_s:g} s: it must be at or above 0")
        if not 0 <= self.failure_rate <= 1:
            raise ConfigurationError(f"a failure rate of {self.failure_rate:g}: it must be from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedRun:
    """What came of a replay; ages are from arrival to the end of the last run, in seconds.

    `unfinished` messages were left when the replay stopped: they count with their age so far, so that the ages are
    those at least, and `drained_s` is None.
    """

    policy: str
    load: Load
    p50_age_s: float
    p95_age_s: float
    max_age_s: float
    drained_s: float | None
    worker_seconds: float
    direction_changes: int
    peak: int
    finished: int
    unfinished: int
    targets: tuple[int, ...]  # one for each second
    waiting: tuple[int, ...]


@dataclass(slots=True, kw_only=True)
class Rabbitray:
    """Our own policy, the very code of `sizing.decide`."""

    limits: PolicyLimits
    name: str = "rabbitray"
    interval_s: int = 1
    memory: Memory = field(default_factory=Memory)
    reason: str = ""

    def wanted(self, seen: Snapshot) -> int:
        """What `decide` says."""
        decision, self.memory = decide(seen, self.memory, self.limits)
        self.reason = decision.reason
        return decision.wanted


@dataclass(slots=True, kw_only=True)
class Workers:
    """Workers in virtual time: pending ones go first, then idle, then those that are done soonest."""

    start_s: float
    free: list[float] = field(default_factory=list)  # heap: when each is free
    starting: list[float] = field(default_factory=list)  # when each is up, in order
    leaving_s: float = 0.0  # work that retired workers still finished

    def resize(self, size: int, now: float) -> None:
        """Start or retire workers so that `size` are up or on their way."""
        more = size - len(self.free) - len(self.starting)
        self.starting.extend(now + self.start_s for _ in range(more))
        for _ in range(-more):
            if self.starting:
                self.starting.pop()
            else:
                self.leaving_s += max(0.0, heappop(self.free) - now)

    def come_up(self, until: float) -> None:
        """Let those work whose start is over."""
        while self.starting and self.starting[0] <= until:
            heappush(self.free, self.starting.pop(0))


@dataclass(slots=True, kw_only=True)
class Shop:
    """Queue, workers and counters of one run."""

    plant: Plant
    workers: Workers
    random: Random
    queue: deque[tuple[float, float, int]] = field(default_factory=deque)  # (available, born, runs)
    retries: list[tuple[float, float, int]] = field(default_factory=list)  # heap of the same
    running: list[tuple[float, float]] = field(default_factory=list)  # heap: (end, start)
    ages: list[float] = field(default_factory=list)
    done: int = 0
    failed: int = 0
    received: int = 0
    returned: int = 0
    busy_s: float = 0.0
    last_end: float = 0.0

    def serve(self, until: float) -> None:
        """Work the queue up to `until`, first come, first served."""
        free = self.workers.free
        while self.queue and free:
            available, born, runs = self.queue[0]
            start = max(available, free[0])
            if start >= until:
                break
            self.queue.popleft()
            heappop(free)
            end = start + self._service_s()
            heappush(free, end)
            heappush(self.running, (end, start))
            self.received += runs == 0
            self.returned += runs > 0
            self._finish(born, end, runs + 1)
        self._count(until)

    def _service_s(self) -> float:
        spread = self.plant.service_spread
        return self.plant.service_s * (1 + spread * (2 * self.random.random() - 1))

    def _finish(self, born: float, end: float, runs: int) -> None:
        if self.plant.failure_rate and self.random.random() < self.plant.failure_rate:
            self.failed += 1
            if runs < self.plant.max_runs:
                heappush(self.retries, (end + self.plant.retry_s * 2 ** (runs - 1), born, runs))
                return
        self.ages.append(end - born)
        self.last_end = max(self.last_end, end)

    def _count(self, now: float) -> None:
        while self.running and self.running[0][0] <= now:
            end, start = heappop(self.running)
            self.busy_s += end - start
            self.done += 1

    def left(self, now: float) -> list[float]:
        """The ages so far of the messages that wait for a run, in the queue or to come back."""
        return [now - born for _, born, _ in (*self.queue, *self.retries)]

    def look(self, now: float, target: int) -> Snapshot:
        """What a policy may see at `now`."""
        running = len(self.running)
        partly_s = sum(now - start for _, start in self.running)
        pool = PoolStatus(
            at=now,
            workers=len(self.workers.free),
            starting=len(self.workers.starting),
            retiring=0,
            busy=min(running, len(self.workers.free)),
            target=target,
            held=running,
            buffered=0,
            in_flight=running,
            done=self.done,
            failed=min(self.failed, self.done),
            received=self.received,
            returned=self.returned,
            busy_s=self.busy_s + partly_s,
            oldest_held_s=max((now - start for _, start in self.running), default=None),
            start_s=self.plant.start_s,
            placeable=None,
            can_grow_nodes=False,
            paused=False,
            hold=None,
            window=0,
            old_window_held=0,
            batch_size=1,
            mean_message_bytes=None,
            slots=1,
            pending_s=now - self.workers.starting[0] + self.plant.start_s if self.workers.starting else None,
            epoch=1,
        )
        return Snapshot(now=now, ready=len(self.queue), pool=pool)


def simulate(load: Load, policy: Policy, plant: Plant, *, patience_s: float = 0.0) -> SimulatedRun:
    """Replay `load` under `policy`, second by second, until all is done (or four times the load's length and 60 s).

    `patience_s` is for how long after the load it goes on at least, while there is work. Worker-seconds and changes
    of direction count while the load lasts, ages for every message.
    """
    limits = plant.limits
    workers = Workers(start_s=plant.start_s, free=[0.0] * limits.initial_size)
    shop = Shop(plant=plant, workers=workers, random=Random(plant.seed))
    arrivals, at = load.arrivals(), 0
    target, cost, targets, waiting = limits.initial_size, 0.0, [], []
    longest_s = max(4 * load.duration_s + 60, load.duration_s + ceil(patience_s))
    for now in range(longest_s):
        if now % policy.interval_s == 0:
            target = min(max(policy.wanted(shop.look(now, target)), limits.min_size), limits.max_size)
            workers.resize(target, now)
        if now < load.duration_s:
            cost += len(workers.free) + len(workers.starting)
            targets.append(target)
            waiting.append(len(shop.queue))
        at = _arrive(shop, arrivals, at, now + 1)
        workers.come_up(now + 1)
        shop.serve(now + 1)
        if now >= load.duration_s and not (shop.queue or shop.retries or shop.running):
            break
    left = shop.left(now + 1)
    return _run(policy.name, load, shop, left, cost + workers.leaving_s, targets, waiting)


def _arrive(shop: Shop, arrivals: list[float], at: int, until: float) -> int:
    """Move what has arrived or come back before `until` into the queue, in order of time."""
    back = []
    while shop.retries and shop.retries[0][0] < until:
        back.append(heappop(shop.retries))
    first = at
    while at < len(arrivals) and arrivals[at] < until:
        at += 1
    shop.queue.extend(sorted([*((t, t, 0) for t in arrivals[first:at]), *back]))
    return at


def _run(
    policy: str, load: Load, shop: Shop, left: list[float], cost: float, targets: list[int], waiting: list[int]
) -> SimulatedRun:
    ages = sorted([*shop.ages, *left]) or [0.0]
    return SimulatedRun(
        policy=policy,
        load=load,
        p50_age_s=ages[len(ages) // 2],
        p95_age_s=ages[int(len(ages) * 0.95)],
        max_age_s=ages[-1],
        drained_s=None if left else shop.last_end,
        worker_seconds=cost,
        direction_changes=turns(targets),
        peak=max(targets, default=0),
        finished=len(shop.ages),
        unfinished=len(left),
        targets=tuple(targets),
        waiting=tuple(waiting),
    )
