"""What the policy sees, remembers, may do and says. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.router.status import PoolStatus

FOR_TASKS: Final = "cpu, beside cpus_for_tasks"
"""What is short where the CPUs that are free are left for the tasks of handlers."""

START_MARGIN_S: Final = 30.0
"""How long before `start_timeout_s` a pending worker is taken back at the latest: some looks of the loop."""

Kind = Literal["grow", "shrink", "steady", "hold", "withdraw", "fixed", "paused", "missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyLimits:
    """The bounds and the pace of the policy; times in seconds. `fixed_size` comes from `rabbitray scale N`.

    `upscaling_factor`: a step adds at most this share of the target (or `upscale_step`, if that is more).
    `downscaling_factor`: a step takes away at most this share. `backlog_per_worker`: used while no speed is
    known; the report's 20 msg/s for a worker times `drain_target_s` and `target_utilization`.
    `pending_limit_s` and `start_timeout_s`: a worker that waits for its place is taken back after the first, and
    before the second, at which the pool counts it as a failed start.
    `longest_gap_s`: after a longer silence nothing counts as known about the time in between.
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
    start_timeout_s: float = 300.0
    longest_gap_s: float = 12.0
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

    def bounded(self, size: int) -> int:
        """`size` within `min_size` .. `max_size`."""
        return min(max(size, self.min_size), self.max_size)


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
    def fed(self) -> int:
        """Workers that the window is for: those ready, or those that come first while none is."""
        return self.pool.workers or self.pool.starting

    @property
    def backlog(self) -> int:
        """Ready + held; 0 where the depth is unknown."""
        return max(0, (self.ready or 0) + self.pool.held)

    @property
    def running(self) -> int:
        """Messages that occupy a slot of a worker."""
        return min(self.pool.in_flight, self.pool.busy * self.pool.slots)

    @property
    def waiting(self) -> int:
        """The part of the backlog on which no worker works at this moment."""
        return max(0, self.backlog - self.running)

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
    throughput: float = 0.0
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
