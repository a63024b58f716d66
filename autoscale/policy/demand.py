"""How many workers the work needs, before steps, brakes and bounds. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

from rabbitray.autoscale.policy.rates import Z
from rabbitray.autoscale.policy.signals import PolicyLimits, Rates, Snapshot

TOLERANCE: Final = 0.05
"""Demand above the target by at most this share is left to the reserve of `target_utilization`."""

START_S: Final = 1.0
"""Time that a worker takes to start, until it is measured."""

SLOW_JOBS: Final = 10
"""A slot that does fewer jobs than this in the look-back period is slow: its rate is mostly noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Workers needed, as a fraction, and what that rests on in words.

    `margin`: the noise of that number. `floor`: workers that a shrinking pool keeps whatever the rates say.
    """

    need: float
    margin: float
    floor: int
    words: str


def demand(seen: Snapshot, rates: Rates, limits: PolicyLimits) -> Demand:
    """How many workers the arrivals and the backlog need.

    need = max(arrival / (speed x target_utilization), arrival / speed + backlog / (speed x time left to drain it))

    arrival and speed in messages per second (speed: of one worker), backlog in messages. The reserve that
    `target_utilization` keeps is there to drain a backlog; only what it cannot drain within `drain_target_s` asks for
    more.

    Example. 1,000 msg/s arrive, 12,000 wait; 10 workers do 100 msg/s each, and a new one takes 1 s to start; the other
    limits are the defaults (`target_utilization` 0.85, `drain_target_s` 30). Arrivals alone: 1,000 / (100 x 0.85) =
    11.8. With the backlog, in the 29 s that are left once new workers are up: 1,000 / 100 + 12,000 / (100 x 29) = 14.1.
    So 15.

    The backlog is taken as it will be once new workers are up. No more slots are asked for than there are messages
    here, or come while a worker starts. Where a job takes longer than rates are good for, the busy slots are the least
    that is kept (`floor`). While no speed is known, depth alone counts (`backlog_per_worker`), and how long nothing has
    finished.

    Source: the report's rate over the rate of a worker (8.1), with a reserve and the backlog; docs/decisions.md says
    why the backlog is not divided by `target_utilization`.
    """
    if rates.speed is None:
        return _by_depth(seen, limits)
    late_s = min(until_started_s(seen), limits.drain_target_s / 2)
    growing = max(0.0, rates.arrival - seen.pool.workers * rates.speed) * late_s
    ahead = seen.waiting + growing
    steady = rates.arrival / (rates.speed * limits.target_utilization)
    backlog = min(ahead / ((limits.drain_target_s - late_s) * rates.speed), ahead / seen.pool.slots)
    words = f"{_n(rates.arrival)} msg/s arriving, {seen.waiting:,} waiting, {_n(rates.speed)} msg/s per worker"
    noise = Z * rates.arrival_error / (rates.speed * limits.target_utilization)
    need = max(steady, rates.arrival / rates.speed + backlog)
    most = (seen.backlog + rates.arrival * (1.0 + late_s)) / seen.pool.slots
    slow = rates.speed * limits.look_back_period_s < SLOW_JOBS * seen.pool.slots
    return Demand(
        need=min(need, most),
        margin=min(noise, 1 + steady / 4) + TOLERANCE * steady,
        floor=ceil(seen.running / seen.pool.slots) if slow else 0,
        words=words,
    )


def _by_depth(seen: Snapshot, limits: PolicyLimits) -> Demand:
    need = seen.backlog / limits.backlog_per_worker
    pool = seen.pool
    if pool.busy > 0 and pool.oldest_held_s is not None and pool.oldest_held_s > START_S:
        speed = pool.slots / pool.oldest_held_s  # nothing has finished for so long: it is no faster than this
        slow = min(seen.waiting / (speed * limits.drain_target_s), seen.waiting / pool.slots)
        need = max(need, pool.busy + slow if seen.waiting else need)
    return Demand(need=need, margin=0.0, floor=0, words=f"{seen.backlog:,} waiting, speed unknown yet")


def until_started_s(seen: Snapshot) -> float:
    """Seconds until the workers that are starting, or would be started now, are up."""
    start_s = START_S if seen.pool.start_s is None else seen.pool.start_s
    if seen.pool.starting and seen.pool.pending_s is not None:
        return max(0.0, start_s - seen.pool.pending_s)
    return start_s


def _n(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def round_up(need: float) -> int:
    """Whole workers for a need."""
    return ceil(need - 1e-9)
