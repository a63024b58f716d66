"""Outage: when one transient error dominates, stop burning attempts and probe until it is over. Pure.

`now` is monotonic seconds everywhere. The router holds on `check`, sends out probes in rounds, and tells how each
ended.

    flowing -> held      one transient error dominates
    held    -> on trial  a job of a probe is DONE: consuming goes on
    on trial -> flowing  `least` jobs have ended, and that error does not dominate any more
    on trial -> held     it still does: that job was answered without the service, or is one good among many bad ones

While held and on trial a failure of a service charges no attempt.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Literal

from rabbitray.actors.backoff import Backoff
from rabbitray.actors.message.reply import Failure, Part
from rabbitray.actors.router.holds.probes import ProbeRounds

State = Literal["flowing", "held", "on trial"]
Ending = Literal["over", "failed", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageLimits:
    """`share` of at least `least` outcomes within `look_back_s` must fail with one transient error class.

    The others: see ProbeRounds.
    """

    enabled: bool = True
    share: float = 0.8
    least: int = 20
    look_back_s: float = 10.0
    probe_first_s: float = 1.0
    probe_most_s: float = 30.0
    probes_most: int = 100
    probes_start_within_s: float = 10.0
    probes_half_life_s: float = 60.0


class Outage:
    """The recent outcomes, and the state of the hold. Memory is bounded by the parts of `look_back_s`."""

    def __init__(self, limits: OutageLimits) -> None:
        self._limits = limits
        self._seen: deque[tuple[float, int, Counter[str]]] = deque()
        self._jobs = 0  # running totals over `_seen`: parts are many, and most have no error
        self._errors: Counter[str] = Counter()
        self._state: State = "flowing"
        self._cause = ""  # of the hold, in words
        self._probes: Counter[str] = Counter()  # ended in this hold: by error class, "" for those that say nothing
        self.rounds = ProbeRounds(
            Backoff(first_s=limits.probe_first_s, most_s=limits.probe_most_s),
            most=limits.probes_most,
            start_within_s=limits.probes_start_within_s,
            half_life_s=limits.probes_half_life_s,
        )

    @property
    def held(self) -> bool:
        """Whether dispatch is on hold."""
        return self._state == "held"

    @property
    def spares(self) -> bool:
        """Whether a failure of a service charges no attempt now: in the hold, and until it is clear that it is over."""
        return self._state != "flowing"

    @property
    def reason(self) -> str:
        """The reason of the hold, in words: which error ended how many of the jobs before, and of the probes since."""
        ended = self._probes.total()
        if not ended:
            return f"{self._cause}; probing"
        failed = {name: count for name, count in self._probes.most_common() if name}
        classes = ", ".join(f"{name} {count / ended:.0%}" for name, count in failed.items())
        found = f"{sum(failed.values())} of {ended} probes failed since" + (f" ({classes})" if classes else "")
        return f"{self._cause}; {found}, the latest round had {self.rounds.width}"

    def note(self, part: Part, now: float) -> None:
        """Counts the outcomes of a part; what handlers asked for themselves (`Retry`) is no outage, and a job that was
        not run says nothing of a service.
        """
        errors = Counter(failure.error_class for failure in part.failures if of_a_service(failure))
        if ran := part.jobs - part.skipped:
            self._seen.append((now, ran, errors))
            self._jobs += ran
            self._errors.update(errors)
        while self._state != "on trial" and self._seen and self._seen[0][0] < now - self._limits.look_back_s:
            _, jobs, gone = self._seen.popleft()
            self._jobs -= jobs
            self._errors -= gone  # drops what falls to 0

    def check(self, now: float) -> str | None:
        """The reason to hold, in words, when an outage begins now; else None."""
        jobs = self._jobs
        if not self._limits.enabled or self.held or jobs < self._limits.least:
            return None
        name, count = self._errors.most_common(1)[0] if self._errors else ("", 0)
        if not count or count < self._limits.share * jobs:
            self._state = "flowing"
            return None
        self._state = "held"
        self._cause = f"{name} ended {count} of the last {jobs} jobs ({count / jobs:.0%})"
        self._probes.clear()
        self._forget()
        self.rounds.begin(now)
        return self.reason

    def end_probe(self, part: Part, done: int, now: float) -> Ending:
        """How a probe ended, of which `done` jobs got their result.

        Only a job that is DONE has reached the service for sure. A job that ended in any other way may not have: it
        was not readable, or refused before the call. It says nothing, and the next probe goes soon.
        """
        if done:
            self._state = "on trial"
            self._forget()
            self.rounds.end(now)
            return "over"
        error = next((failure.error_class for failure in part.failures if of_a_service(failure)), "")
        if part.jobs:
            self._probes[error] += 1
        if error:
            self.rounds.failed()
            return "failed"
        if part.jobs:
            self.rounds.said_nothing(now)
        return "unknown"

    def _forget(self) -> None:
        self._seen.clear()
        self._jobs = 0
        self._errors.clear()


def of_a_service(failure: Failure) -> bool:
    """A transient error that the handler did not ask for: an exception, or our time-out of an async job."""
    return failure.category == "transient" and failure.reason in ("exception", "handler_timeout")
