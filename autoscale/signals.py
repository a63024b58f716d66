"""What the policy sees, remembers, may do and says. Pure.

Rates are measured over `look_back_period_s` from a bounded row of samples. Three rules keep them honest:
messages that come back from a rung are no arrivals; speed is jobs per *busy* second, so a starved worker
does not look slow; and one burst is a backlog, not a rate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
from statistics import median
from typing import Final, Literal

from actors.errors import ConfigurationError
from actors.status import PoolStatus

MIN_JOBS: Final = 5
"""Finished jobs below which no speed is known."""

RECENT_S: Final = 5.0
"""The span in which a new rate must show before it replaces the long average."""

Z: Final = 3.0
"""Standard errors within which a difference is taken for noise."""

MEDIAN: Final = 1.25
"""The standard error of a median is this much wider than that of a mean."""

GAP_S: Final = 12.0
"""Silence after which nothing is known about the time in between."""

Kind = Literal["grow", "shrink", "steady", "hold", "withdraw", "fixed", "paused", "missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds and the temper of the policy; times in seconds. `fixed_size` comes from `rabbitray scale N`.

    `upscaling_factor`: a step adds at most this share of the target (or `upscale_step`, if that is more).
    `downscaling_factor`: a step takes away at most this share. `backlog_per_worker`: used while no speed is
    known; the report's 20 msg/s for a worker times `drain_target_s` and `target_utilization`.
    """

    min_size: int = 1
    initial_size: int = 1
    max_size: int = 32
    upscale_delay_s: float = 0.0
    downscale_delay_s: float = 30.0
    downscale_to_zero_delay_s: float | None = None
    upscaling_factor: float = 1.0
    upscale_step: int = 8
    downscaling_factor: float = 0.5
    look_back_period_s: float = 30.0
    drain_target_s: float = 30.0
    target_utilization: float = 0.85
    backlog_per_worker: int = 500
    pending_limit_s: float = 120.0
    fixed_size: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_size <= self.initial_size <= self.max_size or self.max_size < 1:
            sizes = f"{self.min_size} / {self.initial_size} / {self.max_size}"
            raise ConfigurationError(f"min_size <= initial_size <= max_size must hold, got {sizes}")
        if not 0 < self.target_utilization <= 1 or self.drain_target_s <= 0 or self.look_back_period_s <= 0:
            raise ConfigurationError(
                "target_utilization must be in (0, 1], drain_target_s and look_back_period_s above 0"
            )
        if not 0 < self.downscaling_factor <= 1 or self.upscaling_factor <= 0 or self.upscale_step < 1:
            raise ConfigurationError(
                "downscaling_factor must be in (0, 1], upscaling_factor above 0, upscale_step at least 1"
            )
        if self.backlog_per_worker < 1 or min(self.upscale_delay_s, self.downscale_delay_s) < 0:
            raise ConfigurationError("backlog_per_worker must be at least 1 and delays not below 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One look: depth and pool status read together. `ready` is None where the broker gave no answer."""

    now: float
    ready: int | None
    pool: PoolStatus

    @property
    def have(self) -> int:
        """Workers that are ready or starting."""
        return self.pool.workers + self.pool.starting

    @property
    def backlog(self) -> int:
        """Ready + held; 0 where the depth is unknown."""
        return max(0, (self.ready or 0) + self.pool.held)

    @property
    def waiting(self) -> int:
        """The part of the backlog on which no worker works at this moment."""
        running = min(self.pool.in_flight, self.pool.busy * self.pool.slots)
        return max(0, self.backlog - running)

    @property
    def saturated(self) -> bool:
        """Every worker is busy and there is more to do."""
        return self.pool.busy >= self.pool.workers > 0 and self.waiting > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The counters at one moment."""

    at: float
    entered: int  # ready + received: grows by arrivals only, up to messages on their way back
    done: int
    failed: int
    busy_s: float
    saturated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """A growth whose effect on throughput is still to be judged."""

    workers: int
    throughput: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """No growth above `size`, and what was true when it was set, so that a change can lift it."""

    size: int
    until: float
    speed: float | None = None
    placeable: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What the policy remembers between looks; bounded, and only ever replaced as a whole."""

    samples: tuple[Sample, ...] = ()
    epoch: int | None = None
    since: float | None = None  # demand is known without a gap since then
    speed: float | None = None  # jobs per busy second of workers that had enough to do
    peaks: tuple[tuple[float, int], ...] = ()  # falling wants of the last downscale_delay_s
    high_since: float | None = None
    quiet_since: float | None = None
    grew_at: float | None = None
    shrank_at: float | None = None
    growth: Growth | None = None
    plateau: Ceiling | None = None
    blocked: Ceiling | None = None
    window_changed_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Measured per second: `arrival` with its standard error, `speed` of one worker, `throughput` of all."""

    arrival: float
    arrival_error: float
    speed: float | None
    throughput: float
    errors: float
    errors_rising: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a decision was made from, for the log and for replays."""

    ready: int | None
    held: int
    waiting: int
    workers: int
    starting: int
    target: int
    arrival: float
    speed: float | None
    throughput: float
    errors: float
    oldest_held_s: float | None
    placeable: int | None
    need: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How many workers, of which kind of decision, why in words, and from what."""

    wanted: int
    kind: Kind
    reason: str
    inputs: Inputs


def remember(seen: Snapshot, memory: Memory, limits: Limits) -> Memory:
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
    if last is None or memory.epoch != pool.epoch or _broken(last, now):
        return replace(memory, samples=(now,), epoch=pool.epoch, since=seen.now, peaks=(), high_since=None)
    return replace(memory, samples=_trimmed((*memory.samples, now), limits.look_back_period_s))


def _broken(last: Sample, now: Sample) -> bool:
    backwards = now.done < last.done or now.busy_s < last.busy_s or now.at < last.at
    return backwards or now.at - last.at > GAP_S


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
    parts = [(b.at - a.at, b.entered - a.entered) for a, b in zip(samples, samples[1:], strict=False)]
    parts = [(dt, n) for dt, n in parts if dt > 0]
    if not parts:
        return 0.0, 0.0
    mean = _trimmed_mean(parts)
    last = _last_s(parts, RECENT_S)
    recent = max(0.0, median(n / dt for dt, n in last))
    variance = _variance(parts[:-1])
    length = sum(dt for dt, _ in last)
    slack = Z * MEDIAN * sqrt(variance / length) + MIN_JOBS / length
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
    pairs = list(zip(parts, parts[1:], strict=False))
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
