"""Rates from samples: arrivals, speed of a worker, throughput, errors. Pure.

Measured over `look_back_period_s` from a bounded row of samples. Three rules keep them right: messages that
come back from a rung are no arrivals; speed is jobs per *busy* second, so a starved worker does not look
slow; and one burst is a backlog, not a rate.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import sqrt
from statistics import median
from typing import Final

from rabbitray.autoscale.policy.signals import Memory, PolicyLimits, Rates, Sample, Snapshot

MIN_JOBS: Final = 5
"""Finished jobs below which no speed is known."""

RECENT_S: Final = 5.0
"""The span in which a new rate must show before it replaces the long average."""

Z: Final = 3.0
"""Standard errors within which a difference is taken for noise."""

MEDIAN: Final = 1.25
"""The standard error of a median is this much wider than that of a mean."""


def remember(seen: Snapshot, memory: Memory, limits: PolicyLimits) -> Memory:
    """The memory with this look added; a new epoch, falling counters or a long silence start afresh."""
    pool = seen.pool
    now = Sample(
        at=seen.now,
        entered=(seen.ready or 0) + pool.received,
        done=pool.done,
        failed=pool.failed,
        busy_s=pool.busy_s,
        saturated=seen.saturated,
    )
    last = memory.samples[-1] if memory.samples else None
    if last is None or memory.epoch != pool.epoch or _broken(last, now, limits):
        return replace(memory, samples=(now,), epoch=pool.epoch, since=seen.now, peaks=(), high_since=None)
    return replace(memory, samples=_trimmed((*memory.samples, now), limits.look_back_period_s))


def _broken(last: Sample, now: Sample, limits: PolicyLimits) -> bool:
    backwards = now.done < last.done or now.busy_s < last.busy_s or now.at < last.at
    return backwards or now.at - last.at > limits.longest_gap_s


def _trimmed(samples: tuple[Sample, ...], look_back_s: float) -> tuple[Sample, ...]:
    """At most about 60 samples; the newest always stays, a closer neighbour before it goes."""
    gap = max(0.5, look_back_s / 60)
    if len(samples) > 2 and samples[-2].at - samples[-3].at < gap:
        samples = (*samples[:-2], samples[-1])
    oldest = samples[-1].at - look_back_s
    first = next((i for i, s in enumerate(samples) if s.at > oldest), len(samples) - 1)
    return samples[max(0, first - 1) :]


def measure(seen: Snapshot, memory: Memory) -> Rates:
    """The rates over the samples of `memory`, the newest of which is `seen`."""
    samples = memory.samples
    arrival, error = _arrival(samples)
    recent = _since(samples, RECENT_S)
    errors = _error_rate(recent, samples[-1])
    before = _error_rate(samples[0], recent)
    return Rates(
        arrival=arrival,
        arrival_error=error,
        speed=speed_of(seen, memory),
        throughput=_per_s(recent, samples[-1], samples[-1].done - recent.done),
        errors=errors,
        errors_rising=errors - before >= 0.1 and samples[-1].failed - recent.failed >= MIN_JOBS,
    )


def speed_of(seen: Snapshot, memory: Memory) -> float | None:
    """Jobs per second that one busy worker does when it has enough to do; None while that is unknown.

    Measured while all were busy it is the truth. Measured while workers starved it is a lower bound, so the
    remembered truth counts if it is more; without one, free async slots count up to fourfold.
    """
    measured = _jobs_per_busy_s(memory.samples)
    if measured is None:
        return memory.speed
    if memory.speed is not None:
        return max(memory.speed, measured)
    busy = max(1, seen.pool.busy)
    occupied = min(max(1.0, seen.pool.in_flight / busy), seen.pool.slots)
    return measured * min(4.0, seen.pool.slots / occupied)


def true_speed(memory: Memory) -> float | None:
    """The speed over the last seconds, if all workers were busy all that time; else what is remembered."""
    recent = _since(memory.samples, RECENT_S)
    part = tuple(s for s in memory.samples if s.at >= recent.at)
    if len(part) < 2 or not all(s.saturated for s in part):
        return memory.speed
    measured = _jobs_per_busy_s(part)
    return memory.speed if measured is None else measured


def _jobs_per_busy_s(samples: tuple[Sample, ...]) -> float | None:
    if not samples:
        return None
    for first in (_since(samples, RECENT_S), samples[0]):
        jobs = samples[-1].done - first.done
        busy_s = samples[-1].busy_s - first.busy_s
        if jobs >= MIN_JOBS and busy_s > 0:
            return jobs / busy_s
    return None


def _arrival(samples: tuple[Sample, ...]) -> tuple[float, float]:
    """Arrivals per second and their standard error.

    The mean over the whole span without its extreme tenths (one burst is a backlog, not a rate), kept within
    three standard errors of the median of the last seconds, so that a change of the load shows soon. Noise is
    what the intervals before the newest showed: more depth never means fewer arrivals.
    """
    parts = [(b.at - a.at, b.entered - a.entered) for a, b in pairwise(samples)]
    parts = [(dt, n) for dt, n in parts if dt > 0]
    if not parts:
        return 0.0, 0.0
    mean = _trimmed_mean(parts)
    last = _last_s(parts, RECENT_S)
    recent = max(0.0, median(n / dt for dt, n in last))
    variance = _variance(parts[:-1])
    lately = _variance(_last_s(parts, 2 * RECENT_S)[:-1])
    length = sum(dt for dt, _ in last)
    slack = Z * MEDIAN * sqrt(min(variance, lately) / length) + MIN_JOBS / length
    span = sum(dt for dt, _ in parts)
    arrival = min(max(mean, recent - slack), recent + slack)
    return arrival, sqrt(variance / span) if arrival > 0 else 0.0


def _trimmed_mean(parts: list[tuple[float, int]]) -> float:
    cut = len(parts) // 10
    kept = sorted(parts, key=lambda part: part[1] / part[0])[cut : len(parts) - cut]
    total = sum(n for _, n in kept)
    single = 1 if total < MIN_JOBS else 0  # n messages have n - 1 gaps: one message is no rate
    return max(0.0, (total - single) / sum(dt for dt, _ in kept))


def _variance(parts: list[tuple[float, int]]) -> float:
    """Of the arrivals in a second, at least that of a Poisson process.

    Half the mean square of successive differences: a single step of the load hardly counts.
    """
    if not parts:
        return 1.0
    mean = max(_trimmed_mean(parts), 1 / sum(dt for dt, _ in parts))
    pairs = list(pairwise(parts))
    squares = [(b[1] / b[0] - a[1] / a[0]) ** 2 * (a[0] + b[0]) / 4 for a, b in pairs]
    return max(mean, sum(squares) / len(squares)) if squares else mean


def _last_s(parts: list[tuple[float, int]], span_s: float) -> list[tuple[float, int]]:
    total = 0.0
    for i in range(len(parts) - 1, -1, -1):
        total += parts[i][0]
        if total >= span_s:
            return parts[i:]
    return parts


def _since(samples: tuple[Sample, ...], span_s: float) -> Sample:
    """The youngest sample that is at least `span_s` old, else the oldest."""
    limit = samples[-1].at - span_s
    return next((s for s in reversed(samples) if s.at <= limit), samples[0])


def _per_s(a: Sample, b: Sample, n: float) -> float:
    return n / (b.at - a.at) if b.at > a.at else 0.0


def _error_rate(a: Sample, b: Sample) -> float:
    done = b.done - a.done
    return min(1.0, (b.failed - a.failed) / done) if done > 0 else 0.0
