"""What holds growth back: errors, growth that brought nothing, the cluster's room, pending requests. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Final

from rabbitray.autoscale.policy.demand import until_started_s
from rabbitray.autoscale.policy.rates import RECENT_S
from rabbitray.autoscale.policy.signals import (
    FOR_TASKS,
    START_MARGIN_S,
    Ceiling,
    Growth,
    Kind,
    Memory,
    PolicyLimits,
    Rates,
    Snapshot,
)

SETTLED_S: Final = 6.0
"""All workers must have been busy for so long before a growth is judged by its throughput."""

JUDGED_JOBS: Final = 50
"""Jobs in the last seconds below which throughput is too noisy to judge a growth by."""

TRIAL_FACTOR: Final = 8
TRIAL_STEP: Final = 32
"""A growth whose effect is not known yet goes no further than this from where it began."""

PLATEAU_S: Final = 300.0
BLOCKED_S: Final = 60.0

NODE_ASK: Final = 4
"""How many workers that are not ready may be asked for beyond the cluster's room, where nodes may come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A size on its way through the steps, brakes and bounds."""

    size: int
    kind: Kind
    notes: tuple[str, ...] = ()

    def at_most(self, size: int, note: str) -> Wish:
        """The same wish, cut to `size` with a note, where it is above it."""
        return self if self.size <= size else replace(self, size=size, notes=(*self.notes, note))

    def under(self, ceiling: Ceiling | None, target: int) -> Wish:
        """The same wish, not above a ceiling; what is there already stays."""
        return self if ceiling is None else self.at_most(max(target, ceiling.size), ceiling.why)


def judge_last_growth(seen: Snapshot, memory: Memory, rates: Rates) -> Memory:
    """Growth that is up and busy, and brought less than a fifth of its share, becomes a plateau.

    The plateau is the size at which the throughput of now would have been proportional, and a quarter more.
    """
    growth = memory.growth
    if growth is None:
        return memory
    settled = not seen.pool.starting and _busy_s(seen, memory) >= SETTLED_S
    unclear = rates.throughput * RECENT_S < JUDGED_JOBS
    if not seen.saturated or (settled and unclear):
        return replace(memory, growth=None)
    share = seen.pool.workers / growth.workers - 1
    if not settled or share < 0.25:
        return memory
    gain = rates.throughput / growth.throughput
    if gain - 1 >= 0.2 * share:
        return replace(memory, growth=None)
    return replace(memory, growth=None, plateau=_plateau(seen, growth, gain, rates))


def _plateau(seen: Snapshot, growth: Growth, gain: float, rates: Rates) -> Ceiling:
    size = min(seen.pool.workers, ceil(growth.workers * max(1.0, gain) * 1.25))
    why = f"from {growth.workers} to {seen.pool.workers} workers throughput only went {gain:.1f}-fold"
    return Ceiling(size=size, until=seen.now + PLATEAU_S, throughput=rates.throughput, why=why)


def _busy_s(seen: Snapshot, memory: Memory) -> float:
    """How long all workers have been busy without a break, as far as the samples reach, since the growth."""
    start = memory.grew_at if memory.grew_at is not None else seen.now
    first = seen.now
    for sample in reversed(memory.samples):
        if not sample.saturated or sample.at < start:
            break
        first = sample.at
    return seen.now - first - until_started_s(seen)


def lift_brakes(seen: Snapshot, memory: Memory, rates: Rates) -> Memory:
    """The brakes without those that time or a change has lifted."""
    plateau, blocked = memory.plateau, memory.blocked
    if plateau is not None:
        faster = rates.throughput > 1.25 * plateau.throughput
        if seen.now >= plateau.until or faster or not seen.waiting:
            plateau = None
    if blocked is not None:
        room = seen.pool.placeable is not None and seen.pool.placeable > (blocked.placeable or 0)
        if seen.now >= blocked.until or room:
            blocked = None
    return replace(memory, plateau=plateau, blocked=blocked)


def apply_brakes(wish: Wish, seen: Snapshot, memory: Memory, rates: Rates) -> Wish:
    """No growth while errors rise, above a plateau, or into a request that was just withdrawn."""
    target = seen.pool.target
    if rates.errors_rising:
        wish = wish.at_most(target, f"no growth while errors rise ({rates.errors:.0%})")
    wish = wish.under(memory.plateau, target).under(memory.blocked, target)
    if memory.growth is not None:
        trial = max(memory.growth.workers * TRIAL_FACTOR, memory.growth.workers + TRIAL_STEP)
        wish = wish.at_most(max(target, trial), "waiting to see what the last growth brings")
    return wish


def cap_to_cluster(wish: Wish, seen: Snapshot) -> Wish:
    """No more than the cluster can place, or a few more where nodes may come."""
    if seen.pool.placeable is None:
        return wish
    fits = seen.have + seen.pool.lent + seen.pool.placeable  # what is lent comes back
    if not seen.pool.can_grow_nodes:
        return wish.at_most(fits, f"cluster fits {fits}{_short_of(seen)}")
    if seen.pool.growable is not None:
        most = fits + seen.pool.growable
        wish = wish.at_most(
            most,
            f"cluster fits {fits}{_short_of(seen)}, and its node types may bring room for {seen.pool.growable} more",
        )
    ask = 0 if seen.pool.short == FOR_TASKS else NODE_ASK  # they would take what is left for the tasks
    asked = max(seen.have, seen.pool.workers + seen.pool.placeable + ask)  # whoever waits is asked for already
    return wish.at_most(asked, f"{seen.pool.placeable} more fit, {ask} at a time are asked of new nodes")


def _short_of(seen: Snapshot) -> str:
    return f" (short of {seen.pool.short})" if seen.pool.short else ""


def withdraw_pending(wish: Wish, seen: Snapshot, memory: Memory, limits: PolicyLimits) -> tuple[Wish, Memory]:
    """A request that stays pending is taken back, and not repeated for a while unless room appears.

    In time before the pool would count it as a failed start.
    """
    pool = seen.pool
    patience_s = max(limits.pending_limit_s, min(3 * (pool.start_s or 0.0), limits.start_timeout_s - START_MARGIN_S))
    if not pool.starting or pool.pending_s is None or pool.pending_s < patience_s:
        return wish, memory
    size = min(max(pool.workers + pool.lent, limits.min_size), wish.size)
    if size == wish.size:
        return wish, memory
    why = (
        f"{pool.starting} workers stayed pending for {pool.pending_s:.0f} s{'' if pool.placeable else _short_of(seen)}"
    )
    blocked = Ceiling(size=size, until=seen.now + BLOCKED_S, placeable=pool.placeable, why=why)
    return Wish(size=size, kind="withdraw", notes=(why,)), replace(memory, blocked=blocked)
