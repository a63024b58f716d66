"""Recording: the rows of a part become safe in the store, however long that takes; nothing is acked before it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from rabbitray.actors.backoff import retry_while_unavailable
from rabbitray.actors.errors import StoreUnavailableError
from rabbitray.actors.message.reply import Part
from rabbitray.actors.router.delivery import Batch
from rabbitray.actors.router.settlement.failpoints import Failpoints
from rabbitray.actors.store.answers import Answer

P = TypeVar("P")
P_contra = TypeVar("P_contra", contravariant=True)


class ResultWriter(Protocol[P_contra]):
    """Where results go.

    Raises StoreUnavailableError (try again), PayloadLostError (the rows are gone) or FencedError (stop for good).
    """

    async def write(self, payload: P_contra, failed_keys: tuple[str, ...], span: str | None) -> Answer: ...


@dataclass(slots=True, eq=False)
class PendingPart:
    """A part on its way into the store. `given_up`: its messages were given back, none of them may be acked."""

    batch: Batch
    part: Part
    since: float  # monotonic s
    given_up: bool = False


class Conclusion(Generic[P]):
    """Writes parts. `away` is told of each try that found the store unavailable, `back` when that is over."""

    def __init__(
        self,
        recorder: ResultWriter[P],
        failpoints: Failpoints,
        *,
        away: Callable[[StoreUnavailableError], Awaitable[None]],
        back: Callable[[], Awaitable[None]],
    ) -> None:
        self._recorder = recorder
        self._failpoints = failpoints
        self._away = away
        self._back = back
        self._open: set[PendingPart] = set()

    def enter(self, batch: Batch, part: Part) -> PendingPart:
        """From now on this part waits for the store."""
        entry = PendingPart(batch, part, time.monotonic())
        self._open.add(entry)
        return entry

    def older_than(self, moment: float) -> list[PendingPart]:
        """What has waited since before `moment` (monotonic s) and was not given up."""
        return [entry for entry in self._open if entry.since < moment and not entry.given_up]

    async def commit(self, entry: PendingPart, payload: P) -> Answer:
        """The store's answer on a part: which rows are committed, duplicate or rejected.

        Goes on for a part that was given up meanwhile: its rows are results, and its messages, when they come
        again, duplicates of them.
        """
        part = entry.part
        keys = tuple(failure.key for failure in part.failures if failure.key is not None)
        try:
            if not part.rows and not keys:
                return Answer()
            self._failpoints.reach("before_commit")
            answer = await self._stored(lambda: self._recorder.write(payload, keys, part.span))
            self._failpoints.reach("after_commit")
            return answer
        finally:
            self._open.discard(entry)

    async def _stored(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Asks the store, however long it is unavailable; nothing new is consumed meanwhile."""
        try:
            return await retry_while_unavailable(call, unavailable=self._away)
        finally:  # also when it ends with another error: the hold must not outlive the question
            await self._back()
