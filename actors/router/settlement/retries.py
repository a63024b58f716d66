"""Settlement: what becomes of a failure: a rung with its delay, or the dead letters. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rabbitray.actors.message.headers import WAIT_MOST_MS
from rabbitray.actors.message.parcel import Record
from rabbitray.actors.message.reply import Failure

LADDER_BASE_MS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryLimits:
    """The ladder. `rungs_ms` ascending; a job runs at most `max_retries` + 1 times."""

    rungs_ms: tuple[int, ...] = (2_000, 4_000, 8_000, 16_000, 32_000, 60_000)
    max_retries: int = 5

    @property
    def hops_most(self) -> int:
        """How often a message is put back without a charge, whatever clocks and headers say; 0 where there is no rung.

        Twice as often as it can be in the 30 days that it may wait: a wait may begin and end with shorter rungs.
        """
        return 2 * -(-WAIT_MOST_MS // self.rungs_ms[-1]) + 100 if self.rungs_ms else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """Publish a copy into the retry queue of `delay_ms`, with this attempt; `due_ms` (Unix ms) when it is later.

    `spared`: how often it failed without a charge, `hops`: how often it was put back without one; 0: as its message
    says.
    """

    delay_ms: int
    attempt: int
    due_ms: int = 0
    spared: int = 0
    hops: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Park:
    """Publish into the dead-letter queue and append to `dead_letters`."""

    reason: str


Settlement = Rung | Park


def ladder(base_ms: int, most_ms: int, *, exponential: bool = True) -> tuple[int, ...]:
    """The distinct delays: base, twice, four times ... up to and including the cap (report 4.1)."""
    if not exponential or base_ms >= most_ms:
        return (min(base_ms, most_ms),)
    delays = [base_ms]
    while delays[-1] * 2 < most_ms:
        delays.append(delays[-1] * 2)
    return (*delays, most_ms)


def settlement(failure: Failure, limits: RetryLimits, now_ms: int, *, latest_ms: int | None = None) -> Settlement:
    """Where a failed job goes now. `latest_ms` (Unix ms): it waits no longer, whatever its handler asked for."""
    match failure:
        case Failure(verdict="dead"):
            return Park(reason=failure.reason)
        case Failure(attempt=attempt) if attempt >= limits.max_retries or not limits.rungs_ms:
            return Park(reason="max_retries" if limits.max_retries else failure.reason)
        case Failure(after_s=None, attempt=attempt):
            return Rung(delay_ms=limits.rungs_ms[min(attempt, len(limits.rungs_ms) - 1)], attempt=attempt + 1)
        case Failure(after_s=after_s, attempt=attempt):
            due_ms = now_ms + round((after_s or 0) * 1000)
            if latest_ms is not None:
                due_ms = min(due_ms, latest_ms)
            return wait_until(due_ms, limits.rungs_ms, now_ms, attempt + 1)


def spare(record: Record, before: int, limits: RetryLimits, now_ms: int, *, least_ms: int) -> Rung:
    """Where a job goes whose failure charges no attempt: into a rung. How long that may go on is the caller's to say.

    `before`: how often it was. Each time it waits longer, up to the longest rung, and `least_ms` at least: what has
    just failed as a probe is not to be the next one. `limits` must have a rung.
    """
    rungs_ms = limits.rungs_ms
    wait_ms = max(rungs_ms[min(before, len(rungs_ms) - 1)], least_ms)
    return replace(wait_until(now_ms + wait_ms, rungs_ms, now_ms, record.attempt), spared=before + 1)


def wait_until(due_ms: int, rungs_ms: tuple[int, ...], now_ms: int, attempt: int) -> Rung:
    """The shortest rung that is long enough; beyond the longest, that one and a due time to re-enter with."""
    wait_ms = due_ms - now_ms
    for rung in rungs_ms:
        if rung >= wait_ms:
            return Rung(delay_ms=rung, attempt=attempt)
    return Rung(delay_ms=rungs_ms[-1], attempt=attempt, due_ms=due_ms)
