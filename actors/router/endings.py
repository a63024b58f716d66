"""Endings: how the last jobs ended, well or in the dead letters, and when there are too many of those. Pure.

A job that goes into a rung has not ended. So a handler that fails whatever it gets is noticed once its jobs have used
up their retries, and a service that is away for a minute is not taken for one.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from rabbitray.actors.message.reply import Failure
from rabbitray.actors.router.status import RING_TTL_S, ErrorCount

WINDOW: Final = 100
"""Jobs that ended last."""

DEAD_IN_A_ROW_MOST: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LastEndings:
    """Of the last WINDOW jobs that ended, `jobs` within an hour: how many are `dead`, and how many of the newest
    follow each other so (`in_a_row`, which may be more than WINDOW). `error`: the most frequent one of them.

    `limit`: the setting `dead_in_a_row`; 0: however many there are, it is well.
    """

    jobs: int = 0
    dead: int = 0
    in_a_row: int = 0
    error: ErrorCount | None = None
    limit: int = DEAD_IN_A_ROW_MOST

    @property
    def too_many_dead(self) -> bool:
        """`limit` of them in a row, or more than half of all; the share counts from `limit` jobs on (or WINDOW)."""
        if not self.limit:
            return False
        enough = self.jobs >= min(self.limit, WINDOW)
        return self.in_a_row >= self.limit or (enough and 2 * self.dead > self.jobs)


NONE_ENDED: Final = LastEndings()


@dataclass(slots=True)
class _Run:
    """Jobs that ended alike, one after another."""

    at: float
    count: int
    error_class: str | None = None  # None: they ended well
    error: str = ""


class Endings:
    """The last WINDOW endings; those older than `ttl_s` are forgotten. `now`: monotonic seconds."""

    def __init__(self, ttl_s: float = RING_TTL_S) -> None:
        self._ttl_s = ttl_s
        self._runs: deque[_Run] = deque()
        self._jobs = 0
        self._in_a_row = 0

    def add_good(self, count: int, now: float) -> None:
        """Jobs that have their result."""
        self._in_a_row = 0
        if self._runs and self._runs[-1].error_class is None:
            self._runs[-1].at, self._runs[-1].count = now, self._runs[-1].count + count
            self._jobs += count
            self._cut()
        else:
            self._add(_Run(now, count))

    def add_dead(self, failures: Iterable[Failure], now: float) -> None:
        """Jobs whose copies are in the dead letters."""
        for failure in failures:
            self._in_a_row += 1
            self._add(_Run(now, 1, failure.error_class, failure.error[:200]))

    def last(self, now: float, limit: int = DEAD_IN_A_ROW_MOST) -> LastEndings:
        """How it stands; `limit` as in LastEndings."""
        while self._runs and self._runs[0].at < now - self._ttl_s:
            self._jobs -= self._runs.popleft().count
        if not self._runs:
            self._in_a_row = 0
        dead = [run for run in self._runs if run.error_class is not None]
        return LastEndings(
            jobs=self._jobs,
            dead=len(dead),
            in_a_row=self._in_a_row,
            error=_most_frequent(dead, now),
            limit=limit,
        )

    def _add(self, run: _Run) -> None:
        self._runs.append(run)
        self._jobs += run.count
        self._cut()

    def _cut(self) -> None:
        """Forgets what is beyond the window."""
        while self._jobs > WINDOW:
            oldest, beyond = self._runs[0], self._jobs - WINDOW
            gone = min(oldest.count, beyond)
            oldest.count -= gone
            self._jobs -= gone
            if not oldest.count:
                self._runs.popleft()


def _most_frequent(dead: list[_Run], now: float) -> ErrorCount | None:
    if not dead:
        return None
    [(name, count)] = Counter(run.error_class or "" for run in dead).most_common(1)
    newest = next(run for run in reversed(dead) if (run.error_class or "") == name)
    return ErrorCount(error_class=name, count=count, example=newest.error, last_s=round(max(0.0, now - newest.at), 1))
