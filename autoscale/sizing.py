"""How many workers: `decide(seen, memory, limits) -> (Decision, Memory)`. Pure.

Demand -> growth or shrinking -> brakes -> bounds -> words. Growth is at once and in steps; shrinking waits
until demand stayed low for `downscale_delay_s`; a missing signal changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Final

from autoscale.signals import (
    RECENT_S,
    Z,
    Ceiling,
    Decision,
    Growth,
    Inputs,
    Kind,
    Limits,
    Memory,
    Rates,
    Snapshot,
    measure,
    remember,
    true_speed,
)

TOLERANCE: Final = 0.05
"""Demand above the target by at most this share is left to the reserve of `target_utilization`."""

SHRINK_EVERY_S: Final = 5.0
"""Time between two steps down: each is seen to work before the next."""

START_S: Final = 1.0
"""Time that a worker takes to start, until it is measured."""

NODE_ASK: Final = 4
"""How many workers beyond the cluster's room are asked for where nodes may come."""

SETTLED_S: Final = 6.0
"""All workers must have been busy for so long before a growth is judged by its throughput."""

JUDGED_JOBS: Final = 50
"""Jobs in the last seconds below which throughput is too noisy to judge a growth by."""

PLATEAU_S: Final = 300.0
BLOCKED_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Workers needed, as a fraction; `margin` is the noise of that number; `words` name what it rests on."""

    need: float
    margin: float
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A size on its way through the steps, brakes and bounds."""

    size: int
    kind: Kind
    notes: tuple[str, ...] = ()

    def at_most(self, size: int, note: str) -> Wish:
        """The same wish, cut to `size` with a note, where it is above it."""
        return self if self.size <= size else replace(self, size=size, notes=(*self.notes, note))


def decide(seen: Snapshot, memory: Memory, limits: Limits) -> tuple[Decision, Memory]:
    """The size of the pool for what is seen now, with the reason, and the memory for the next look.

    Always within `min_size` .. `max_size`; at `fixed_size` where that is set. Same input, same output.
    """
    if seen.ready is None and limits.fixed_size is None:
        return _unchanged(seen, limits, "missing", "the depth of the queue is unknown"), memory
    memory = remember(seen, memory, limits)
    memory = replace(memory, speed=true_speed(memory))
    rates = measure(seen, memory)
    if limits.fixed_size is not None:
        return _fixed(seen, limits, rates), memory
    if seen.pool.paused:
        return _unchanged(seen, limits, "paused", "paused by control", rates), _restart(seen, memory)
    if seen.pool.hold is not None:
        return _unchanged(seen, limits, "hold", f"on hold: {seen.pool.hold}", rates), _restart(seen, memory)
    return _by_demand(seen, memory, limits, rates)


def _by_demand(seen: Snapshot, memory: Memory, limits: Limits, rates: Rates) -> tuple[Decision, Memory]:
    need = demand(seen, rates, limits)
    memory = _watch(seen, memory, limits, rates, need)
    wish = _grown(seen, memory, limits, need)
    if wish.kind == "grow":
        wish = _braked(wish, seen, memory, rates)
    elif wish.size == seen.pool.target:
        wish = _shrunk(seen, memory, limits)
    wish = _bounded(_placed(wish, seen), seen, memory, limits)
    wish, memory = _withdrawn(wish, seen, memory, limits)
    decision = _decision(wish, seen, rates, need, limits)
    return decision, _acted(decision, seen, memory, rates)


def demand(seen: Snapshot, rates: Rates, limits: Limits) -> Demand:
    """Workers for the arrivals at `target_utilization`, and for arrivals plus backlog at full use.

    The reserve that `target_utilization` keeps is there to drain a backlog; only what it cannot drain within
    `drain_target_s` asks for more. New workers start late, so the backlog is taken as it will be by then, and
    the time to drain it is shorter. A message needs at most one slot, however slow. While no speed is known
    depth counts alone, and how long nothing has finished.
    """
    if rates.speed is None:
        return _by_depth(seen, limits)
    late_s = min(_until_started_s(seen), limits.drain_target_s / 2)
    growing = max(0.0, rates.arrival - seen.pool.workers * rates.speed) * late_s
    ahead = seen.waiting + growing
    steady = rates.arrival / (rates.speed * limits.target_utilization)
    backlog = min(ahead / ((limits.drain_target_s - late_s) * rates.speed), ahead / seen.pool.slots)
    words = f"{_n(rates.arrival)} msg/s arriving, {seen.waiting:,} waiting, {_n(rates.speed)} msg/s per worker"
    noise = Z * rates.arrival_error / (rates.speed * limits.target_utilization)
    margin = min(noise, 1 + steady / 4) + TOLERANCE * steady
    return Demand(need=max(steady, rates.arrival / rates.speed + backlog), margin=margin, words=words)


def _by_depth(seen: Snapshot, limits: Limits) -> Demand:
    need = seen.backlog / limits.backlog_per_worker
    pool = seen.pool
    if pool.busy > 0 and pool.oldest_held_s is not None and pool.oldest_held_s > START_S:
        speed = pool.slots / pool.oldest_held_s  # nothing has finished for so long: it is no faster than this
        slow = min(seen.waiting / (speed * limits.drain_target_s), seen.waiting / pool.slots)
        need = max(need, pool.busy + slow if seen.waiting else need)
    return Demand(need=need, margin=0.0, words=f"{seen.backlog:,} waiting, speed unknown yet")


def _until_started_s(seen: Snapshot) -> float:
    start_s = START_S if seen.pool.start_s is None else seen.pool.start_s
    if seen.pool.starting and seen.pool.pending_s is not None:
        return max(0.0, start_s - seen.pool.pending_s)
    return start_s


def _watch(seen: Snapshot, memory: Memory, limits: Limits, rates: Rates, need: Demand) -> Memory:
    """The memory with the wants of the last delay, since when there was nothing to do, and the brakes."""
    want = _whole(need.need + need.margin)
    if _late(seen, limits):
        want = max(want, seen.pool.target)
    start = seen.now - limits.downscale_delay_s
    peaks = (*((at, w) for at, w in memory.peaks if w > want and at >= start), (seen.now, want))
    quiet = seen.backlog == 0 and memory.samples[-1].entered == memory.samples[-2:][0].entered
    asleep = seen.backlog == 0 and seen.pool.target == 0
    high = need.need > seen.pool.target * (1 + TOLERANCE) and not asleep
    memory = replace(
        memory,
        peaks=peaks,
        quiet_since=(memory.quiet_since if memory.quiet_since is not None else seen.now) if quiet else None,
        high_since=(memory.high_since if memory.high_since is not None else seen.now) if high else None,
    )
    return _judged(seen, _lifted(seen, memory, rates), rates)


def _late(seen: Snapshot, limits: Limits) -> bool:
    oldest = seen.pool.oldest_held_s
    return oldest is not None and oldest > limits.drain_target_s and seen.waiting > 0


def _judged(seen: Snapshot, memory: Memory, rates: Rates) -> Memory:
    """Growth that is up and busy, and brought less than a fifth of its share, becomes a plateau."""
    growth = memory.growth
    if growth is None or memory.grew_at is None:
        return memory
    if not seen.saturated:
        return replace(memory, growth=None)
    share = seen.pool.workers / growth.workers - 1
    settled = not seen.pool.starting and _busy_s(seen, memory) >= SETTLED_S
    if share < 0.25 or not settled or rates.throughput * RECENT_S < JUDGED_JOBS:
        return memory
    if rates.throughput / growth.throughput - 1 >= 0.2 * share:
        return replace(memory, growth=None)
    ceiling = Ceiling(
        size=seen.pool.workers,
        until=seen.now + PLATEAU_S,
        speed=rates.speed,
        why=f"{growth.workers} to {seen.pool.workers} workers brought no throughput",
    )
    return replace(memory, growth=None, plateau=ceiling)


def _busy_s(seen: Snapshot, memory: Memory) -> float:
    """How long all workers have been busy without a break, as far as samples tell, since the growth."""
    start = memory.grew_at if memory.grew_at is not None else seen.now
    first = seen.now
    for sample in reversed(memory.samples):
        if not sample.saturated or sample.at < start:
            break
        first = sample.at
    return seen.now - first - _until_started_s(seen)


def _lifted(seen: Snapshot, memory: Memory, rates: Rates) -> Memory:
    """The brakes without those that time or a change has lifted."""
    plateau, blocked = memory.plateau, memory.blocked
    if plateau is not None:
        faster = plateau.speed is not None and rates.speed is not None and rates.speed > 1.25 * plateau.speed
        if seen.now >= plateau.until or faster or not seen.waiting:
            plateau = None
    if blocked is not None:
        room = seen.pool.placeable is not None and seen.pool.placeable > (blocked.placeable or 0)
        if seen.now >= blocked.until or room:
            blocked = None
    return replace(memory, plateau=plateau, blocked=blocked)


def _grown(seen: Snapshot, memory: Memory, limits: Limits, need: Demand) -> Wish:
    """At once (after `upscale_delay_s`) to what is needed, one bounded step a second; zero skips the wait."""
    target, want = seen.pool.target, _whole(need.need)
    if memory.high_since is None:
        return Wish(size=target, kind="steady")
    if target > 0 and seen.now - memory.high_since < limits.upscale_delay_s:
        return Wish(size=target, kind="steady", notes=("waiting for upscale_delay_s",))
    if target > 0 and memory.grew_at is not None and seen.now - memory.grew_at < 1.0:
        return Wish(size=target, kind="steady", notes=("a step was taken just now",))
    step = max(limits.upscale_step, ceil(target * limits.upscaling_factor))
    return Wish(size=want, kind="grow").at_most(target + step, f"steps of at most {step}")


def _braked(wish: Wish, seen: Snapshot, memory: Memory, rates: Rates) -> Wish:
    target = seen.pool.target
    if rates.errors_rising:
        wish = wish.at_most(target, f"no growth while errors rise ({rates.errors:.0%})")
    for ceiling in (memory.plateau, memory.blocked):
        if ceiling is not None:
            wish = wish.at_most(max(target, ceiling.size), ceiling.why)
    return wish


def _shrunk(seen: Snapshot, memory: Memory, limits: Limits) -> Wish:
    """To the highest want of the last `downscale_delay_s`, by at most `downscaling_factor` at a time."""
    target = seen.pool.target
    steady = Wish(size=target, kind="steady")
    if target == 1 and limits.min_size == 0 and _last_worker(seen, memory, limits) == 0:
        return Wish(size=0, kind="shrink", notes=(f"nothing to do for {limits.downscale_to_zero_delay_s:g} s",))
    low = max(want for _, want in memory.peaks)
    if low >= target:
        return steady
    if memory.since is None or seen.now - memory.since < limits.downscale_delay_s:
        return replace(steady, notes=("demand is not known for downscale_delay_s yet",))
    if memory.shrank_at is not None and seen.now - memory.shrank_at < SHRINK_EVERY_S:
        return steady
    step = max(1, int(target * limits.downscaling_factor))
    return Wish(size=max(low, target - step), kind="shrink", notes=(f"low for {limits.downscale_delay_s:g} s",))


def _placed(wish: Wish, seen: Snapshot) -> Wish:
    """No more than the cluster can place, or a few more where nodes may come."""
    if seen.pool.placeable is None:
        return wish
    fits = seen.have + seen.pool.placeable
    if not seen.pool.can_grow_nodes:
        return wish.at_most(fits, f"cluster fits {fits}")
    return wish.at_most(fits + NODE_ASK, f"cluster fits {fits}, {NODE_ASK} more asked of new nodes")


def _bounded(wish: Wish, seen: Snapshot, memory: Memory, limits: Limits) -> Wish:
    wish = wish.at_most(limits.max_size, f"max_size {limits.max_size}")
    floor = limits.min_size or _last_worker(seen, memory, limits)
    return wish if wish.size >= floor else replace(wish, size=floor)


def _last_worker(seen: Snapshot, memory: Memory, limits: Limits) -> int:
    """0 where the pool may be at zero, else 1."""
    if seen.pool.target == 0 and seen.backlog == 0:
        return 0
    delay_s = limits.downscale_to_zero_delay_s
    quiet = memory.quiet_since is not None and delay_s is not None and seen.now - memory.quiet_since >= delay_s
    return 0 if quiet else 1


def _withdrawn(wish: Wish, seen: Snapshot, memory: Memory, limits: Limits) -> tuple[Wish, Memory]:
    """A request that stays pending is taken back, and not repeated for a while unless room appears."""
    pool = seen.pool
    patience_s = max(limits.pending_limit_s, 3 * (pool.start_s or 0.0))
    if not pool.starting or pool.pending_s is None or pool.pending_s < patience_s:
        return wish, memory
    size = min(max(pool.workers, limits.min_size), wish.size)
    if size == wish.size:
        return wish, memory
    why = f"{pool.starting} workers stayed pending for {pool.pending_s:.0f} s"
    blocked = Ceiling(size=size, until=seen.now + BLOCKED_S, placeable=pool.placeable, why=why)
    return Wish(size=size, kind="withdraw", notes=(why,)), replace(memory, blocked=blocked)


def _decision(wish: Wish, seen: Snapshot, rates: Rates, need: Demand, limits: Limits) -> Decision:
    kind = wish.kind
    if kind != "withdraw":
        target = seen.pool.target
        kind = "grow" if wish.size > target else "shrink" if wish.size < target else "steady"
    want = max(limits.min_size, _whole(need.need))
    reason = "; ".join((f"want {want}: {need.words}", *dict.fromkeys(wish.notes)))
    return Decision(
        wanted=wish.size, kind=kind, reason=reason, inputs=_inputs(seen, rates, round(need.need, 3))
    )


def _acted(decision: Decision, seen: Snapshot, memory: Memory, rates: Rates) -> Memory:
    if decision.kind == "grow":
        growth = memory.growth
        if growth is None and seen.saturated and rates.throughput > 0:
            growth = Growth(workers=seen.pool.workers, throughput=rates.throughput)
        return replace(memory, grew_at=seen.now, growth=growth)
    if decision.kind in ("shrink", "withdraw"):
        return replace(memory, shrank_at=seen.now, growth=None)
    return memory


def _fixed(seen: Snapshot, limits: Limits, rates: Rates) -> Decision:
    asked = limits.fixed_size or 0
    size = min(max(asked, limits.min_size), limits.max_size)
    bounds = "" if size == asked else f"; bounds are {limits.min_size} to {limits.max_size}"
    reason = f"want {size}: fixed at {asked} by control{bounds}"
    return Decision(wanted=size, kind="fixed", reason=reason, inputs=_inputs(seen, rates, None))


def _unchanged(
    seen: Snapshot, limits: Limits, kind: Kind, why: str, rates: Rates | None = None
) -> Decision:
    size = min(max(seen.pool.target, limits.min_size), limits.max_size)
    return Decision(wanted=size, kind=kind, reason=f"keep {size}: {why}", inputs=_inputs(seen, rates, None))


def _restart(seen: Snapshot, memory: Memory) -> Memory:
    """While the pool stands, what it wants says nothing: the delay of shrinking starts again afterwards."""
    return replace(memory, since=seen.now, peaks=(), high_since=None, quiet_since=None, growth=None)


def _inputs(seen: Snapshot, rates: Rates | None, need: float | None) -> Inputs:
    pool = seen.pool
    return Inputs(
        ready=seen.ready,
        held=pool.held,
        waiting=seen.waiting,
        workers=pool.workers,
        starting=pool.starting,
        target=pool.target,
        arrival=rates.arrival if rates else 0.0,
        speed=rates.speed if rates else None,
        throughput=rates.throughput if rates else 0.0,
        errors=rates.errors if rates else 0.0,
        oldest_held_s=pool.oldest_held_s,
        placeable=pool.placeable,
        need=need,
    )


def _whole(need: float) -> int:
    return ceil(need - 1e-9)


def _n(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
