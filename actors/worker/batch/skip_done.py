"""FinishedJobs: which jobs of a batch have their result already, so that they are acked without a run.

Optional by its nature: that a key gets one row is decided at the commit. So nothing waits for long here: where the
store gives no answer, all jobs run. What stays: a crash between the effect of a handler and its commit, and two copies
that are in flight at once, run twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, Protocol

from rabbitray.actors.backoff import Backoff
from rabbitray.actors.message.key_hash import is_same_message, kind_of
from rabbitray.actors.telemetry.rate_limit import LogThrottle
from rabbitray.actors.worker.batch.unit import Unit

log = logging.getLogger(__name__)

SkipDone = Literal["always", "redelivered", "off"]
"""Which jobs are asked after: all, those that were delivered before, or none."""

ANSWER_WITHIN_S: Final = 5.0
"""A batch waits so long for the answer: with 2 s jobs ran that had their result, as the first call of a new worker took
longer on a busy machine. Less than the router waits for the first part of a batch."""

PAUSE: Final = Backoff(first_s=1.0, most_s=30.0)


class KnownKeys(Protocol):
    """The store. Raises whatever it likes where it cannot answer."""

    async def known(self, keys: Sequence[str]) -> Mapping[int, int]:
        """For the index of each key that has its result, the tag of the row that has it."""


class FinishedJobs:
    """Asks the store once a batch. After no answer it is not asked for a while, so that only one batch waits in vain.

    `unasked` is told how many jobs of a batch run although there was no answer.
    """

    def __init__(
        self,
        store: KnownKeys,
        mode: SkipDone = "always",
        *,
        unasked: Callable[[int], None] | None = None,
        within_s: float = ANSWER_WITHIN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._mode = mode
        self._told = unasked
        self._within_s = within_s
        self._clock = clock
        self._pause = PAUSE
        self._again_at = 0.0
        self._line = LogThrottle(clock)
        self.unasked = 0

    async def take_out(self, units: list[Unit]) -> tuple[list[Unit], list[Unit]]:
        """The jobs that are to run, and those that have their result, each in order.

        Another message under a known key is to run: what it comes to is kept in the table `conflicts`.
        """
        asked = units if self._mode == "always" else [unit for unit in units if unit.parcel.again or unit.attempt]
        keys = [unit.key for unit in asked if unit.key is not None]
        if not keys or not (winners := await self._ask(keys)):
            return units, []
        keyed = [unit for unit in asked if unit.key is not None]
        done = {keyed[row] for row, winner in winners.items() if _is_it(keyed[row], winner)}
        return [unit for unit in units if unit not in done], [unit for unit in units if unit in done]

    async def _ask(self, keys: list[str]) -> Mapping[int, int]:
        if self._clock() < self._again_at:
            self._count(len(keys))
            return {}
        try:
            async with asyncio.timeout(self._within_s):
                winners = await self._store.known(keys)
        except Exception as error:  # noqa: BLE001 # whatever it is, the jobs run: each key gets one row all the same
            self._give_up(error, len(keys))
            return {}
        self._pause = PAUSE
        return winners

    def _give_up(self, error: Exception, jobs: int) -> None:
        self._again_at = self._clock() + self._pause.delay_s()
        self._pause = self._pause.failed()
        self._count(jobs)
        if self._line.due():
            why = str(error) or type(error).__name__
            log.warning("The store does not say which jobs have their result (%s): %d ran unasked", why, self.unasked)

    def _count(self, jobs: int) -> None:
        self.unasked += jobs
        if self._told is not None:
            self._told(jobs)


def _is_it(unit: Unit, winner: int) -> bool:
    """Whether this job is the one that has the result, and not another message under its key."""
    return is_same_message(winner, kind_of(unit.job.message_type, unit.job.user_id), unit.payload_hash)
