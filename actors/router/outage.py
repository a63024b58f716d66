"""Outage: when one transient error dominates, stop burning attempts and probe until it is over. Pure.

`now` is monotonic seconds everywhere. The router holds on `check`, lets one probe message through when `probe_due`,
and tells how the probe ended.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Literal

from rabbitray.actors.backoff import Backoff
from rabbitray.actors.message.reply import Failure, Part

Ending = Literal["over", "failed", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageLimits:
    """`share` of at least `least` outcomes within `look_back_s` must fail with one transient error class."""

    enabled: bool = True
    share: float = 0.8
    least: int = 20
    look_back_s: float = 10.0
    probe_first_s: float = 1.0
    probe_most_s: float = 30.0


class Outage:
    """The recent outcomes, and the state of the hold. Memory is bounded by the parts of `look_back_s`."""

    def __init__(self, limits: OutageLimits) -> None:
        self._limits = limits
        self._seen: deque[tuple[float, int, Counter[str]]] = deque()
        self._jobs = 0  # running totals over `_seen`: parts are many, and most have no error
        self._errors: Counter[str] = Counter()
        self._backoff = self._first_probe = Backoff(first_s=limits.probe_first_s, most_s=limits.probe_most_s)
        self._probe_at: float | None = None  # not None: held

    @property
    def held(self) -> bool:
        """Whether dispatch is on hold."""
        return self._probe_at is not None

    def note(self, part: Part, now: float) -> None:
        """Counts the outcomes of a part; what handlers asked for themselves (`Retry`) is no outage."""
        errors = Counter(failure.error_class for failure in part.failures if _hurts(failure))
        if part.jobs:
            self._seen.append((now, part.jobs, errors))
            self._jobs += part.jobs
            self._errors.update(errors)
        while self._seen and self._seen[0][0] < now - self._limits.look_back_s:
            _, jobs, gone = self._seen.popleft()
            self._jobs -= jobs
            self._errors -= gone  # drops what falls to 0

    def check(self, now: float) -> str | None:
        """The reason to hold, in words, when an outage begins now; else None."""
        if not self._limits.enabled or self.held:
            return None
        jobs = self._jobs
        if jobs < self._limits.least or not self._errors:
            return None
        name, count = self._errors.most_common(1)[0]
        if count < self._limits.share * jobs:
            return None
        self._forget()
        self._backoff = self._first_probe
        self._probe_at = now + self._backoff.delay_s()
        return f"{name} ended {count} of the last {jobs} jobs; probing with one message at a time"

    def probe_due(self, now: float) -> bool:
        """Whether one message may go out to find out; the next probe waits twice as long."""
        if self._probe_at is None or now < self._probe_at:
            return False
        self._backoff = self._backoff.failed()
        self._probe_at = now + self._backoff.delay_s()
        return True

    def end_probe(self, part: Part, done: int, now: float) -> Ending:
        """How a probe ended, of which `done` jobs got their result.

        Only a job that is DONE has reached the service for sure. A job that ended in any other way may not have: it
        was not readable, or refused before the call. It says nothing, and the next probe goes soon.
        """
        if done:
            self._probe_at = None
            self._forget()
            return "over"
        if any(_hurts(failure) for failure in part.failures):
            return "failed"
        if self._probe_at is not None and part.jobs:
            self._probe_at = min(self._probe_at, now + self._first_probe.delay_s())
        return "unknown"

    def _forget(self) -> None:
        self._seen.clear()
        self._jobs = 0
        self._errors.clear()


def _hurts(failure: Failure) -> bool:
    """A transient error that the handler did not ask for: an exception, or our time-out of an async job."""
    return failure.category == "transient" and failure.reason in ("exception", "handler_timeout")
