"""FailureLog: one line with its traceback for each kind of failure, at most once a minute; one for dead letters."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from rabbitray.actors.message.reply import Failure
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.settlement.retries import Park, Settlement
from rabbitray.actors.telemetry.rate_limit import LogThrottle
from rabbitray.actors.telemetry.trace_context import trace_id_of

log = logging.getLogger(__name__)

KINDS_MOST: Final = 50
"""So many kinds have a line of their own each minute; all others share one."""
ERROR_SHOWN: Final = 500


class FailureLog:
    """A kind is an error class and the line that raised it. Each failure is counted, one of them is told."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def tell(self, delivery: Delivery, failure: Failure, move: Settlement, worker: str) -> None:
        """`move`: what becomes of the job. Dead letters without a traceback have their line already."""
        if isinstance(move, Park) and not failure.traceback:
            return
        kind = self._kind(failure)
        kind.since += 1
        if not kind.throttle.due():
            return
        count, kind.since = kind.since, 0
        log.warning(
            "Job %s failed in run %d on %s, %s: %s: %s%s",
            failure.key or failure.message_id or "(no id)",
            failure.attempt + 1,
            worker or "no worker",
            f"dead as {move.reason}" if isinstance(move, Park) else f"runs again in {move.delay_ms / 1000:g} s",
            failure.error_class,
            failure.error[:ERROR_SHOWN],
            f" ({count - 1} more like it since the last line)" if count > 1 else "",
            extra=_ids(delivery, failure) | ({"traceback": failure.traceback} if failure.traceback else {}),
        )

    def _kind(self, failure: Failure) -> _Kind:
        name = (failure.error_class, failure.raised_in)
        if name not in self._kinds and len(self._kinds) >= KINDS_MOST:
            name = ("", "")
        return self._kinds.setdefault(name, _Kind(self._clock))


class _Kind:
    __slots__ = ("since", "throttle")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.throttle = LogThrottle(clock)
        self.since = 0  # the last line


def log_dead_letters(dead: Sequence[tuple[Delivery, Failure, str]]) -> None:
    """One line for all dead letters of a part, with the ids of the first; every one of them is in the table."""
    delivery, first, reason = dead[0]
    log.warning(
        "%d to the dead letters, the first as %s: %s: %s",
        len(dead),
        reason,
        first.error_class,
        first.error[:200],
        extra=_ids(delivery, first) | {"attempt": first.attempt},
    )


def _ids(delivery: Delivery, failure: Failure) -> dict[str, object]:
    """What a line about a job is found by."""
    trace_id = trace_id_of(delivery.parcel.traceparent)
    ids: dict[str, object] = {"key": failure.key, "message_id": failure.message_id}
    return ids | ({"trace_id": trace_id} if trace_id else {})
