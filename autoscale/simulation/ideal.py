"""A schedule that knows the load: what the same promises cost without having to guess. Pure.

It spreads the arrivals of each second over the next T seconds (so no message is older than T plus its run),
takes whole workers at the same utilisation, has them start `start_s` ahead, keeps each for `downscale_delay_s`
after the need, stays within the bounds, and takes the cheapest T within the age target.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import accumulate
from math import ceil

from rabbitray.autoscale.policy.signals import Snapshot
from rabbitray.autoscale.simulation.loads import Load
from rabbitray.autoscale.simulation.simulate import Plant


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Workers that are up or starting, for each second, and the sum of them."""

    sizes: tuple[int, ...]
    worker_seconds: float


@dataclass(slots=True, kw_only=True)
class Scheduled:
    """A policy that follows a schedule."""

    schedule: Schedule
    name: str = "clairvoyant"
    interval_s: int = 1

    def wanted(self, seen: Snapshot) -> int:
        """The size of this second; the last one afterwards."""
        return self.schedule.sizes[min(int(seen.now), len(self.schedule.sizes) - 1)]


def clairvoyant(load: Load, plant: Plant, target_age_s: float) -> Schedule:
    """The cheapest of the schedules that keep `target_age_s`."""
    longest = max(1, int(target_age_s - plant.service_s))
    return min((_spread(load, plant, t) for t in range(1, longest + 1)), key=lambda s: s.worker_seconds)


def _spread(load: Load, plant: Plant, over_s: int) -> Schedule:
    limits = plant.limits
    runs = sum(plant.failure_rate**n for n in range(plant.max_runs))
    capacity = limits.target_utilization / (plant.service_s * runs)
    sums = [0, *accumulate(load.counts)]
    needs = []
    for t in range(load.duration_s):
        rate = (sums[t + 1] - sums[max(0, t + 1 - over_s)]) / over_s
        needs.append(min(max(ceil(rate / capacity - 1e-9), limits.min_size), limits.max_size))
    sizes = _held(needs, int(limits.downscale_delay_s), ceil(plant.start_s))
    return Schedule(sizes=tuple(sizes), worker_seconds=float(sum(sizes)))


def _held(needs: list[int], after_s: int, before_s: int) -> list[int]:
    """The highest need from `after_s` before to `before_s` after each second."""
    held: list[int] = []
    highest: deque[int] = deque()  # seconds whose need no later one of the window exceeds
    coming = 0
    for t in range(len(needs)):
        while coming <= min(t + before_s, len(needs) - 1):
            while highest and needs[highest[-1]] <= needs[coming]:
                highest.pop()
            highest.append(coming)
            coming += 1
        while highest[0] < t - after_s:
            highest.popleft()
        held.append(needs[highest[0]])
    return held
