"""The prefetch window and the batch size. Pure.

The window is the report's formula for each worker (8.3), its ceiling lifted for fast handlers, times the
workers, within a number of messages and a number of bytes. A batch is about `work_s` of measured work.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import Final

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.router.status import PoolStatus
from rabbitray.autoscale.policy.rates import speed_of
from rabbitray.autoscale.policy.signals import Memory, Snapshot

PER_WORKER_MIN: Final = 5
PER_WORKER_MAX: Final = 50
CHANGE_EVERY_S: Final = 1.0
NARROW_EVERY_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowLimits:
    """Bounds of window and batch; a number in `window` or `batch_size` fixes it (None: adaptive).

    `per_worker_min`, `per_worker_max`: the report's range for one worker, before a fast handler lifts it.
    `in_flight`: batches at a worker at the same time. `buffer_s`: how long the window feeds a fast worker.
    An adaptive batch holds at most `max_batch` messages and, of packed messages, at most `batch_records` records.
    The first batch is the report's 10 until a speed is known, which takes a fraction of a second. Until a message has
    come each is taken to have `largest_message` bytes (0: of any size). `hold_s`: what waits longer is given back, so
    no more is asked for than begins to run within that time; `long_jobs`: until a speed is known, jobs are taken to
    last longer than that.
    """

    window: int | None = None
    batch_size: int | None = None
    in_flight: int = 2
    per_worker_min: int = PER_WORKER_MIN
    per_worker_max: int = PER_WORKER_MAX
    buffer_s: float = 0.5
    work_s: float = 0.05
    max_window: int = 2_000
    max_batch: int = 500
    batch_records: int = 2_500
    byte_budget: int = 64 * 1024 * 1024
    largest_message: int = 0
    first_window: int = 200
    first_batch: int = 10
    hold_s: float = 300.0
    long_jobs: bool = False

    def __post_init__(self) -> None:
        numbers = (self.in_flight, self.max_window, self.max_batch, self.byte_budget, self.first_window)
        given = tuple(n for n in (self.window, self.batch_size, self.first_batch) if n is not None)
        if min(*numbers, *given) < 1 or min(self.buffer_s, self.work_s) <= 0:
            raise ConfigurationError("window and batch bounds must be at least 1 (a window of 0 is unlimited)")
        if not 1 <= self.per_worker_min <= self.per_worker_max:
            low, high = self.per_worker_min, self.per_worker_max
            raise ConfigurationError(f"the window of one worker needs 1 <= PREFETCH_MIN {low} <= PREFETCH_MAX {high}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowDecision:
    """The window in messages and the batch size to use; `changed` where the window needs a hand-over.

    `backlog`: more waits in the queue than a window holds.
    """

    messages: int
    batch_size: int
    reason: str
    changed: bool
    backlog: bool = False

    def differs(self, pool: PoolStatus) -> bool:
        """Whether the pool must be told."""
        return self.changed or (self.batch_size, self.backlog) != (pool.batch_size, pool.backlog)


def report_prefetch(
    depth: int, workers: int, rate: float, *, least: int = PER_WORKER_MIN, most: int = PER_WORKER_MAX
) -> int:
    """The prefetch for one worker by the report's formula 8.3: depth / workers, from `least` to `most` messages.

    `depth` in messages; `rate`: what one worker does, in messages per second; above 50 the share counts 1.5 times. 0
    workers count as one. Example: 1,000 messages, 10 workers of 30 msg/s: a share of 100, cut to 50.
    """
    share = ceil(depth / max(1, workers))
    multiplier = 1.5 if rate > 50 else 1.0
    return floor(min(max(share * multiplier, least), most))


def window(seen: Snapshot, memory: Memory, limits: WindowLimits) -> WindowDecision:
    """Window (messages) and batch (jobs) for what is seen now.

    window = workers x max(the report's prefetch for one worker, speed x buffer_s, three batches), within `max_window`
    and `byte_budget`; batch = speed x work_s, at most window / (workers x (in_flight + 1)).

    Example. 4 workers do 300 msg/s each, 12,000 wait, with the defaults of WindowLimits. The report's prefetch is 50
    (12,000 / 4 x 1.5, cut to 50), half a second of work is 300 x 0.5 = 150, three batches are 3 x 15 = 45: the window
    is 4 x 150 = 600. A batch is 300 x 0.05 = 15 jobs; 600 / (4 x 3) = 50 would be the most.

    Where a job lasts longer than `hold_s`, what waited for it would be given back: then the window is what the workers
    run, workers x slots, and what older consumers still hold counts towards it.

    The window changes by a quarter or more, at most once a second, and never while older consumers hold more than a
    quarter of the new one, so unacked messages stay within the old window and 1.25 times the new one.
    """
    speed = speed_of(seen, memory)
    now = seen.pool.window
    if _are_long(seen, speed, limits):
        all_run = _run_at_once(seen)
        why = f"{seen.fed} workers, no more than they run: jobs are longer than max_hold_s"
        run, why = _bounded(all_run, why, seen, limits)
        fits = max(1, run - seen.pool.held)  # what is held when a new consumer begins is the older ones'
        kept = _kept_running(seen, memory, run, near=run // 4 if run < all_run else 0)
    else:
        fits, why = _fitting(seen, speed, limits)
        kept = _kept(seen, memory, fits)
    messages = now if kept else fits
    batch = _settled(seen.pool.batch_size, batch_size(seen, speed, messages, limits), limits)
    reason = f"window {messages}: {kept or why}; batch {batch}"
    backlog = (seen.ready or 0) > messages
    return WindowDecision(messages=messages, batch_size=batch, reason=reason, changed=not kept, backlog=backlog)


def batch_size(seen: Snapshot, speed: float | None, messages: int, limits: WindowLimits) -> int:
    """Jobs for one call: `work_s` of measured work, at least the async slots, at most what leaves a window of
    `messages` enough for every worker's batches in flight and one more."""
    full = _full_batch(seen, speed, limits)
    if seen.fed == 0:
        return full  # the window of 1 is only for the delivery that wakes the pool
    room = int(messages * seen.pool.records_per_message) // (seen.fed * (limits.in_flight + 1))
    return max(1, min(full, room))


def _full_batch(seen: Snapshot, speed: float | None, limits: WindowLimits) -> int:
    """Records; speed is in messages. While no speed is known (start, after a lull) what was found before stays."""
    if limits.batch_size is not None:
        return limits.batch_size
    most = max(limits.max_batch, min(int(limits.max_batch * seen.pool.records_per_message), limits.batch_records))
    if speed is None:
        work = max(limits.first_batch, seen.pool.batch_size)
    else:
        work = ceil(speed * seen.pool.records_per_message * limits.work_s)
    slots = seen.pool.slots if seen.pool.slots > 1 else 1
    return min(max(work, slots), most)


def _fitting(seen: Snapshot, speed: float | None, limits: WindowLimits) -> tuple[int, str]:
    """The window that would fit now, and why."""
    if seen.fed == 0:
        return 1, "no workers, the next delivery wakes the pool"
    if limits.window is not None:
        return limits.window, "fixed"
    if speed is None and limits.batch_size is None:
        wide, why = max(limits.first_window, _wide(seen, 0.0, limits)), "speed unknown yet"
    else:
        rate = speed or 0.0
        wide, why = _wide(seen, rate, limits), f"{rate:,.3g} msg/s each of {seen.fed} workers"
    return _bounded(wide, why, seen, limits)


def _bounded(wide: int, why: str, seen: Snapshot, limits: WindowLimits) -> tuple[int, str]:
    """A window of `wide` messages, or of fewer where that is more than may be held, and why."""
    if wide > limits.max_window:
        wide, why = limits.max_window, f"at most {limits.max_window}"
    known = seen.pool.mean_message_bytes
    size = limits.largest_message if known is None else known
    if size and wide > limits.byte_budget / size:
        wide, why = int(limits.byte_budget / size), f"{limits.byte_budget:,} bytes in messages of {size:,.0f}"
    return max(1, wide), why


def _are_long(seen: Snapshot, speed: float | None, limits: WindowLimits) -> bool:
    """Whether a job lasts longer than a message may wait; never while nobody works, or where the window is fixed."""
    if seen.fed == 0 or limits.window is not None:
        return False
    if speed is None:
        return limits.long_jobs
    return speed * seen.pool.records_per_message * limits.hold_s < seen.pool.slots


def _run_at_once(seen: Snapshot) -> int:
    """The messages that the workers run, and those that others have beside them."""
    return seen.fed * _run_by_worker(seen) + seen.pool.beside


def _run_by_worker(seen: Snapshot) -> int:
    return max(1, ceil(seen.pool.slots / seen.pool.records_per_message))


def _kept_running(seen: Snapshot, memory: Memory, wanted: int, *, near: int) -> str | None:
    """As `_kept`, where jobs are long: there are few hand-overs, and none waits for what older consumers hold.

    `wanted`: what may be held in all, give or take `near`.
    """
    now, pool = seen.pool.window, seen.pool
    allowed = now + pool.old_window_held
    if abs(allowed - wanted) <= near or (allowed > wanted and now == 1):
        return "as it was"
    if now < 1:
        return None
    if (fixed := _fixed(seen)) is not None:
        return fixed
    since = memory.window_changed_at
    if since is not None and seen.now - since < CHANGE_EVERY_S:
        return "changed just now"
    return None


def _fixed(seen: Snapshot) -> str | None:
    """Why no window may change now, whatever would fit."""
    if seen.pool.window_fixed is not None:
        return seen.pool.window_fixed
    if seen.ready is None or seen.pool.paused or seen.pool.hold is not None:
        return "kept while the depth is unknown, paused or on hold"
    return None


def _wide(seen: Snapshot, rate: float, limits: WindowLimits) -> int:
    workers = seen.fed
    filled = ceil(_full_batch(seen, rate or None, limits) / seen.pool.records_per_message) * (limits.in_flight + 1)
    lifted = ceil(rate * limits.buffer_s)
    asked = report_prefetch(seen.backlog, workers, rate, least=limits.per_worker_min, most=limits.per_worker_max)
    wide = max(asked, lifted, filled)
    if rate:  # what begins to run before it would be given back
        wide = min(wide, _run_by_worker(seen) + floor(rate * limits.hold_s))
    return workers * wide


def _kept(seen: Snapshot, memory: Memory, fits: int) -> str | None:
    """Why the window stays as it is, or None where it may change."""
    now, pool = seen.pool.window, seen.pool
    if now == fits:
        return "as it was"
    if now < 1:
        return None
    if (fixed := _fixed(seen)) is not None:
        return fixed
    if abs(fits - now) * 4 < now:
        return f"{fits} is less than a quarter away"
    since = memory.window_changed_at
    if since is not None and seen.now - since < (CHANGE_EVERY_S if fits > now else NARROW_EVERY_S):
        return "changed just now"
    if pool.old_window_held * 4 > fits:
        return f"older consumers still hold {pool.old_window_held}"
    return None


def _settled(now: int, fits: int, limits: WindowLimits) -> int:
    """The batch size in use, unless it is more than a quarter away or too large."""
    if limits.batch_size is not None or now < 1 or now > fits:
        return fits
    return now if (fits - now) * 4 < now else fits
