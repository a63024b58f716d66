"""How many workers: `decide(seen, memory, limits) -> (Decision, Memory)`. Pure.

Demand -> growth or shrinking -> brakes -> bounds -> words. Growth is at once and in steps; shrinking waits
until demand stayed low for `downscale_delay_s`; a missing signal changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Final

from rabbitray.autoscale.policy.brakes import (
    Wish,
    apply_brakes,
    cap_to_cluster,
    judge_last_growth,
    lift_brakes,
    withdraw_pending,
)
from rabbitray.autoscale.policy.demand import TOLERANCE, Demand, demand, round_up
from rabbitray.autoscale.policy.rates import measure, remember, true_speed
from rabbitray.autoscale.policy.signals import Decision, Growth, Inputs, Kind, Memory, PolicyLimits, Rates, Snapshot

SHRINK_EVERY_S: Final = 5.0
"""Time between two steps down: each is seen to work before the next."""


def decide(seen: Snapshot, memory: Memory, limits: PolicyLimits) -> tuple[Decision, Memory]:
    """The size of the pool for what is seen now, with the reason, and the memory for the next look.

    Always within `min_size` .. `max_size`; at `fixed_size` where that is set, as far as the cluster has room.
    Same input, same output.
    """
    if seen.ready is None and limits.fixed_size is None:
        return _unchanged(seen, limits, "missing", "the depth of the queue is unknown"), memory
    memory = remember(seen, memory, limits)
    memory = replace(memory, speed=true_speed(memory))
    rates = measure(seen, memory)
    if limits.fixed_size is not None:
        return _by_order(seen, lift_brakes(seen, memory, rates), limits, rates)
    if seen.pool.paused:
        return _unchanged(seen, limits, "paused", "paused by control", rates), _restart(seen, memory)
    if seen.pool.hold is not None:
        return _unchanged(seen, limits, "hold", f"on hold: {seen.pool.hold}", rates), _restart(seen, memory)
    return _by_demand(seen, memory, limits, rates)


def _by_demand(seen: Snapshot, memory: Memory, limits: PolicyLimits, rates: Rates) -> tuple[Decision, Memory]:
    need = demand(seen, rates, limits)
    memory = _watch(seen, memory, limits, rates, need)
    wish = _grown(seen, memory, limits, need)
    if wish.kind == "grow":
        wish = apply_brakes(wish, seen, memory, rates)
    if wish.size == seen.pool.target:
        shrunk = _shrunk(seen, memory, limits)
        wish = replace(shrunk, notes=(*wish.notes, *shrunk.notes))
    wish = _bounded(cap_to_cluster(wish, seen), seen, memory, limits)
    wish, memory = withdraw_pending(wish, seen, memory, limits)
    decision = _decision(wish, seen, rates, need, limits)
    return decision, _acted(decision, seen, memory, rates)


def _watch(seen: Snapshot, memory: Memory, limits: PolicyLimits, rates: Rates, need: Demand) -> Memory:
    """The memory with the wants of the last delay, since when there was nothing to do, and the brakes."""
    want = max(round_up(need.need + need.margin), need.floor)
    if memory.plateau is not None:
        want = min(want, memory.plateau.size)
    elif _late(seen, limits):
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
    return judge_last_growth(seen, lift_brakes(seen, memory, rates), rates)


def _late(seen: Snapshot, limits: PolicyLimits) -> bool:
    oldest = seen.pool.oldest_held_s
    return oldest is not None and oldest > limits.drain_target_s and seen.waiting > 0


def _grown(seen: Snapshot, memory: Memory, limits: PolicyLimits, need: Demand) -> Wish:
    """At once (after `upscale_delay_s`) to what is needed, one bounded step a second; zero skips the wait."""
    target, want = seen.pool.target, round_up(need.need)
    if memory.high_since is None:
        return Wish(size=target, kind="steady")
    if target > 0 and seen.now - memory.high_since < limits.upscale_delay_s:
        return Wish(size=target, kind="steady", notes=("waiting for upscale_delay_s",))
    if target > 0 and memory.grew_at is not None and seen.now - memory.grew_at < 1.0:
        return Wish(size=target, kind="steady", notes=("a step was taken just now",))
    step = max(limits.upscale_step, ceil(target * limits.upscaling_factor))
    return Wish(size=want, kind="grow").at_most(target + step, f"steps of at most {step}")


def _shrunk(seen: Snapshot, memory: Memory, limits: PolicyLimits) -> Wish:
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


def _bounded(wish: Wish, seen: Snapshot, memory: Memory, limits: PolicyLimits) -> Wish:
    wish = wish.at_most(limits.max_size, f"max_size {limits.max_size}")
    floor = limits.min_size or _last_worker(seen, memory, limits)
    return wish if wish.size >= floor else replace(wish, size=floor)


def _last_worker(seen: Snapshot, memory: Memory, limits: PolicyLimits) -> int:
    """0 where the pool may be at zero, else 1."""
    if seen.pool.target == 0 and seen.backlog == 0:
        return 0
    delay_s = limits.downscale_to_zero_delay_s
    quiet = memory.quiet_since is not None and delay_s is not None and seen.now - memory.quiet_since >= delay_s
    return 0 if quiet else 1


def _decision(wish: Wish, seen: Snapshot, rates: Rates, need: Demand, limits: PolicyLimits) -> Decision:
    kind = wish.kind
    if kind != "withdraw":
        target = seen.pool.target
        kind = "grow" if wish.size > target else "shrink" if wish.size < target else "steady"
    want = max(limits.min_size, round_up(need.need))
    reason = "; ".join((f"want {want}: {need.words}", *dict.fromkeys(wish.notes)))
    return Decision(wanted=wish.size, kind=kind, reason=reason, inputs=_inputs(seen, rates, round(need.need, 3)))


def _acted(decision: Decision, seen: Snapshot, memory: Memory, rates: Rates) -> Memory:
    if decision.kind == "grow":
        growth = memory.growth
        if growth is None and seen.saturated and rates.throughput > 0:
            growth = Growth(workers=seen.pool.workers, throughput=rates.throughput)
        return replace(memory, grew_at=seen.now, growth=growth)
    if decision.kind in ("shrink", "withdraw"):
        return replace(memory, shrank_at=seen.now, growth=None)
    return memory


def _by_order(seen: Snapshot, memory: Memory, limits: PolicyLimits, rates: Rates) -> tuple[Decision, Memory]:
    """The fixed size, within what the cluster fits; what stayed pending is taken back and asked for later again."""
    asked = limits.fixed_size or 0
    want = limits.bounded(asked)
    bounds = () if want == asked else (f"bounds are {limits.min_size} to {limits.max_size}",)
    wish = cap_to_cluster(Wish(size=want, kind="fixed", notes=bounds).under(memory.blocked, seen.pool.target), seen)
    wish = replace(wish, size=max(wish.size, limits.min_size))
    wish, memory = withdraw_pending(wish, seen, memory, limits)
    reason = "; ".join((f"want {want}: fixed at {asked} by control", *wish.notes))
    return Decision(wanted=wish.size, kind=wish.kind, reason=reason, inputs=_inputs(seen, rates, None)), memory


def _unchanged(seen: Snapshot, limits: PolicyLimits, kind: Kind, why: str, rates: Rates | None = None) -> Decision:
    size = limits.bounded(seen.pool.target)
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
