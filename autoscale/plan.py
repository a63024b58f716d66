"""Capacity advice: the report's sizing formula (8.1), its presets (8.2), and what the simulator says. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Final

from rabbitray.actors.errors import ConfigurationError
from rabbitray.autoscale.policy.signals import PolicyLimits
from rabbitray.autoscale.simulation.ideal import Schedule, Scheduled
from rabbitray.autoscale.simulation.loads import MOST_S, of_curve
from rabbitray.autoscale.simulation.simulate import Plant, Rabbitray, simulate

REPORT_RATE: Final = 20.0
"""Messages per second that the report expects of one worker."""

TRIAL_S: Final = 600
TRIAL_MESSAGES: Final = 60_000
TRIAL_LEAST_S: Final = 60
MOST_RATE: Final = 50_000.0
"""Messages per second: 3 million in the shortest trial, some seconds of computing for each size of pool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A size of installation: the report's table 8.2. Rates in messages per minute."""

    name: str
    from_per_min: int
    memory_mb: int
    workers: int


PRESETS: Final = (
    Preset(name="low", from_per_min=0, memory_mb=512, workers=2),
    Preset(name="medium", from_per_min=1_000, memory_mb=1_024, workers=5),
    Preset(name="high", from_per_min=5_000, memory_mb=2_048, workers=10),
    Preset(name="very high", from_per_min=20_000, memory_mb=4_096, workers=20),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The advice for a rate (msg/s), a service time (s) and an age target (s, 95th percentile).

    `steady` keeps `target_utilization`; `fixed` is the smallest fixed pool that meets the target in the
    simulator under Poisson arrivals (None: not within `max_size`); `elastic_*` is what our policy would do, in a
    trial of `trial_messages`. A pool `keeps_up` where `max_size` workers finish more than arrives: a shorter trial can
    end well before an overload does harm. `report_workers` takes the `worker_rate_per_s` that you give.
    """

    rate_per_s: float
    service_s: float
    age_target_s: float
    worker_rate_per_s: float
    report_workers: int
    preset: Preset
    steady: int
    fixed: int | None
    elastic_mean: float
    elastic_peak: int
    elastic_p95_age_s: float
    elastic_unfinished: int
    trial_messages: int
    keeps_up: bool

    def as_json(self) -> dict[str, object]:
        """The advice as plain values."""
        return {**asdict(self), "meets_target": self.meets_target}

    @property
    def meets_target(self) -> bool:
        """Whether the elastic pool keeps the age target in the simulator, finishes all, and would for ever."""
        return self.keeps_up and not self.elastic_unfinished and self.elastic_p95_age_s <= self.age_target_s


def report_workers(
    cpu_cores: int, rate_per_s: float, *, per_worker_per_s: float = REPORT_RATE, db_pool: int = 10
) -> int:
    """The report's formula 8.1: min(cores x 2, rate / rate of a worker, database pool), whole, at least 1."""
    if cpu_cores < 1 or rate_per_s < 0 or per_worker_per_s <= 0 or db_pool < 1:
        raise ConfigurationError("cores, a worker's rate and the database pool must be above 0, the rate not below")
    return max(1, int(min(cpu_cores * 2, rate_per_s / per_worker_per_s, db_pool)))


def preset(rate_per_s: float) -> Preset:
    """The report's preset for a rate."""
    return next(p for p in reversed(PRESETS) if rate_per_s * 60 >= p.from_per_min)


def plan(
    rate_per_s: float,
    service_s: float,
    age_target_s: float,
    *,
    cpu_cores: int,
    db_pool: int = 10,
    start_s: float = 3.0,
    slots: int = 1,
    limits: PolicyLimits | None = None,
) -> Plan:
    """What a rate needs, by the report and by the simulator; `slots` are the concurrent jobs of a worker.

    The trial has Poisson arrivals for ten minutes, fewer where the rate is very high. Raises
    ConfigurationError where a number makes no sense.
    """
    if not (rate_per_s > 0 and 0 < service_s <= MOST_S and 0 < age_target_s <= MOST_S and slots >= 1):
        raise ConfigurationError(
            "rate, service time and age target must be above 0, the times at most a week, slots at least 1"
        )
    if rate_per_s > MOST_RATE:
        raise ConfigurationError(
            f"a rate of {rate_per_s:,.0f}/s: the simulator takes {MOST_RATE:,.0f}/s at most; plan for a part of it"
        )
    limits = limits or PolicyLimits()
    own = replace(limits, drain_target_s=min(limits.drain_target_s, age_target_s))
    plant = Plant(service_s=service_s / slots, start_s=start_s, limits=own)
    trial_s = max(TRIAL_LEAST_S, int(min(TRIAL_S, TRIAL_MESSAGES / rate_per_s)))
    load = of_curve("plan", [rate_per_s] * trial_s, seed=1)
    keeps_up = _enough(rate_per_s, plant) <= own.max_size
    run = simulate(load, Rabbitray(limits=own), plant, patience_s=age_target_s if keeps_up else 0.0)
    longer_s = service_s - plant.service_s  # a slot is `slots` times slower than the worker
    return Plan(
        rate_per_s=rate_per_s,
        service_s=service_s,
        age_target_s=age_target_s,
        worker_rate_per_s=slots / service_s,
        report_workers=report_workers(cpu_cores, rate_per_s, per_worker_per_s=slots / service_s, db_pool=db_pool),
        preset=preset(rate_per_s),
        steady=max(1, ceil(rate_per_s * plant.service_s / own.target_utilization - 1e-9)),
        fixed=_smallest_fixed(rate_per_s, age_target_s - longer_s, trial_s, plant),
        elastic_mean=run.worker_seconds / trial_s,
        elastic_peak=run.peak,
        elastic_p95_age_s=run.p95_age_s + longer_s,
        elastic_unfinished=run.unfinished,
        trial_messages=sum(load.counts),
        keeps_up=keeps_up,
    )


def _enough(rate_per_s: float, plant: Plant) -> int:
    """The fewest workers that finish more than arrives: with fewer, the backlog grows for as long as the rate lasts."""
    return int(rate_per_s * plant.service_s + 1e-9) + 1


def _smallest_fixed(rate_per_s: float, age_target_s: float, trial_s: int, plant: Plant) -> int | None:
    load = of_curve("plan", [rate_per_s] * trial_s, seed=1)
    for size in range(_enough(rate_per_s, plant), plant.limits.max_size + 1):
        limits = replace(plant.limits, min_size=min(size, plant.limits.min_size), initial_size=size)
        policy = Scheduled(schedule=Schedule(sizes=(size,), worker_seconds=0.0), name="fixed")
        run = simulate(load, policy, replace(plant, limits=limits), patience_s=age_target_s)
        if not run.unfinished and run.p95_age_s <= age_target_s:
            return size
    return None


def text(found: Plan) -> str:
    """The advice in lines for a person."""
    fixed = "none within max_size" if found.fixed is None else f"{found.fixed} workers"
    lines: Sequence[str] = (
        f"for {found.rate_per_s:g} msg/s of {found.service_s:g} s each, 95 % done within {found.age_target_s:g} s:",
        f"  report formula (8.1)   {found.report_workers} workers{_your_speed(found)}",
        f"  report preset (8.2)    {found.preset.name}: {found.preset.workers} workers, {found.preset.memory_mb} MB",
        f"  steady state           {found.steady} workers",
        f"  smallest fixed pool    {fixed}",
        f"  elastic pool           {found.elastic_mean:.1f} workers on average, {found.elastic_peak} at most, "
        f"p95 age {_elastic_age(found)}",
    )
    return "\n".join(lines)


def _your_speed(found: Plan) -> str:
    """Which speed of a worker the formula has, where it is not the report's."""
    if found.worker_rate_per_s == REPORT_RATE:
        return ""
    return f" (with your speed, {found.worker_rate_per_s:g} msg/s each; the report has {REPORT_RATE:g})"


def _elastic_age(found: Plan) -> str:
    """The age that the elastic pool reaches, what it leaves, and the verdict with its reason."""
    verdict = "meets the target" if found.meets_target else "misses the target"
    age = f"{found.elastic_p95_age_s:.2f} s"
    if found.elastic_unfinished:
        age = f"at least {age} ({found.elastic_unfinished:,} of {found.trial_messages:,} messages not finished)"
    return f"{age}: {verdict}" + ("" if found.keeps_up else ", as max_size workers finish no more than arrives")
