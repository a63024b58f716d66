"""Recycling: workers that have done enough, grown too large or become too old are replaced, one after another.

The replacement is asked for first, and the worker leaves once it is ready; where the cluster has no place for one
more, the worker leaves first. A replacement that cannot start keeps the worker in service.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from rabbitray.actors.router.dispatch.member import Member
from rabbitray.actors.router.dispatch.pool import Pool

log = logging.getLogger(__name__)

P = TypeVar("P")

LEAVE_FIRST_AFTER_S: Final = 5.0
"""So long a replacement may wait for its place; then a worker gives its own up."""

AT_ONCE: Final = 4
"""Of so many workers one is replaced at the same time, and one of fewer."""

MIB: Final = 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class WearLimits:
    """When a worker is replaced; None: never for that reason. `most_bytes`: resident memory."""

    most_jobs: int | None = None
    most_bytes: int | None = None
    most_age_s: float | None = None

    @property
    def any(self) -> bool:
        """Whether workers are replaced at all."""
        return (self.most_jobs, self.most_bytes, self.most_age_s) != (None, None, None)

    def worn(self, *, jobs: int, rss_bytes: int, age_s: float) -> str | None:
        """Why a worker with these figures is to be replaced; None where it is not."""
        if self.most_jobs is not None and jobs >= self.most_jobs:
            return f"{jobs:,} jobs, max_jobs_per_worker is {self.most_jobs:,}"
        if self.most_bytes is not None and rss_bytes >= self.most_bytes:
            return f"{rss_bytes / MIB:,.0f} MiB, max_memory_per_worker is {self.most_bytes / MIB:,.0f} MiB"
        if self.most_age_s is not None and age_s >= self.most_age_s:
            return f"{age_s:,.0f} s old, max_age_per_worker_s is {self.most_age_s:,.0f}"
        return None


class Recycling(Generic[P]):
    """Replaces the workers of one pool by these limits. `clock`: monotonic seconds, as `Member.ready_at`."""

    def __init__(
        self,
        pool: Pool[P],
        limits: WearLimits,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool, self._limits, self._clock = pool, limits, clock
        self._told = False  # that a new worker is larger than they may become
        self.on = limits.any

    async def look(self) -> None:
        """Once a second: marks who is worn; where a replacement finds no place, one of them leaves."""
        pool, now = self._pool, self._clock()
        for member in [one for one in pool.members if one.state == "ready" and one.name not in pool.worn]:
            if self._under_way() >= max(1, pool.wanted // AT_ONCE):
                break
            if (why := self._why(member, now)) is not None:
                log.info("Worker %s is replaced: %s", member.name, why)
                pool.replace(member)
        if pool.worn and await self._no_place(now):
            pool.retire_worn()

    def _under_way(self) -> int:
        """Replacements that are not there yet."""
        return max(len(self._pool.worn), self._pool.count("starting"))

    def _why(self, member: Member[P], now: float) -> str | None:
        rss_bytes = member.usage.rss_bytes if member.usage is not None else 0
        if self._begins_too_large(member):
            rss_bytes = 0
        return self._limits.worn(jobs=member.jobs, rss_bytes=rss_bytes, age_s=now - member.ready_at)

    def _begins_too_large(self, member: Member[P]) -> bool:
        """Whether it was as large as a worker may become before it had a job: another one would be no smaller."""
        first, most = member.info.usage if member.info is not None else None, self._limits.most_bytes
        if first is None or most is None or first.rss_bytes < most:
            return False
        if not self._told:
            log.warning(
                "max_memory_per_worker is %d MiB, and a new worker has %d MiB: it is not replaced for its memory",
                most // MIB, first.rss_bytes // MIB,
            )  # fmt: skip
        self._told = True
        return True

    async def _no_place(self, now: float) -> bool:
        late = [
            one for one in self._pool.members if one.state == "starting" and now - one.asked_at >= LEAVE_FIRST_AFTER_S
        ]
        for one in late:
            if await one.handle.waits_for_place():
                return True
        return False
