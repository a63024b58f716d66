"""Lending: the pool gives a place up while the quarantine's worker waits for one in a cluster that is full.

Else a message that ends workers is never isolated there: the replacement of the worker that it ended has taken the
last place, and the quarantine's worker waits for ever.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from rabbitray.actors.router.dispatch.member import Member
from rabbitray.actors.router.dispatch.pool import Pool

log = logging.getLogger(__name__)

P = TypeVar("P")

LEND_AFTER_S: Final = 2.0
"""So long a worker of the quarantine may wait for its place, and so long a place that was given up has to reach it."""


def places(lent: int, *, wanted: int, ready: int, waiting_s: float | None, lent_s: float, at_once: bool = False) -> int:
    """How many places the pool gives up now; `lent`: until now, for `lent_s` seconds. Pure.

    `wanted` and `ready`: workers of the quarantine; `waiting_s`: how long the oldest that has no place waits for one;
    None where none does. `at_once`: the quarantine may take no other room. What is given up stays so until the
    quarantine wants no worker: its next one would wait again.
    """
    if not wanted or at_once:
        return wanted
    short = not ready and waiting_s is not None and waiting_s >= LEND_AFTER_S and lent_s >= LEND_AFTER_S
    return min(lent + 1, wanted) if short else lent


class Lending(Generic[P]):
    """Lends places of `pool` to the workers of `isolated`, the quarantine's. `at_once`: the room that is left beside
    the pool is for others. `clock`: monotonic seconds.
    """

    def __init__(
        self,
        pool: Pool[P],
        isolated: Pool[P],
        *,
        at_once: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._at_once = at_once
        self._pool, self._isolated, self._clock = pool, isolated, clock
        self._lent_at = clock() - LEND_AFTER_S
        self.waiting_s: float | None = None  # how long a worker of the quarantine has waited for a place

    async def look(self) -> None:
        """Once a second; it asks Ray only where a worker of the quarantine does not come, and none is there."""
        isolated, now = self._isolated, self._clock()
        ready = isolated.count("ready")
        self.waiting_s = None if ready else await self._waits(now)
        wanted = isolated.target
        lent = places(
            self._pool.lent,
            wanted=wanted,
            ready=ready,
            waiting_s=self.waiting_s,
            lent_s=now - self._lent_at,
            at_once=self._at_once,
        )
        if lent == self._pool.lent:
            return
        if lent:
            log.warning("A message that may end workers runs alone, and there is no room: the pool lends a place")
        self._lent_at = now
        self._pool.lend(lent)

    async def _waits(self, now: float) -> float | None:
        pending: list[Member[P]] = [one for one in self._isolated.members if one.state == "starting"]
        late = [one for one in pending if now - one.asked_at >= LEND_AFTER_S]
        waits = [now - one.asked_at for one in late if await one.handle.waits_for_place()]
        return max(waits, default=None)
