"""What `run --until-empty` waits for, and when it ends. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from rabbitray.actors.router.holds.vanished import VANISHED
from rabbitray.actors.router.report import RouterReport
from rabbitray.actors.router.settlement.outstanding import HOPS_AGAIN

EMPTY_LOOKS: Final = 2
FAILED_STARTS_MOST: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One look. None: not known now. `ready`: messages in the queue, which has so many `consumers`; `rungs`: messages
    in the retry queues."""

    report: RouterReport | None
    ready: int | None
    rungs: int | None
    consumers: int | None = None

    @property
    def may_be_empty(self) -> bool:
        """Whether nothing waits in the queue and nothing is held; the rungs may still have something.

        They say so, but for what RabbitMQ could not move into the queue when its time was over: that counts the router.
        A queue that does not know of our consumer has no leader, and says 0 whatever it holds.
        """
        report = self.report
        if self.ready or self.ready is None or report is None or (self.consumers == 0 and not report.holds):
            return False
        return not report.pool.held and not report.held_back and report.connected

    @property
    def can_work(self) -> bool:
        """Whether a worker is ready, or none is wanted: before that nobody knows that the handler can be loaded."""
        return self.report is not None and (self.report.pool.workers > 0 or self.report.pool.target == 0)

    @property
    def empty(self) -> bool:
        """Whether there is nothing left to do, by this look."""
        return self.may_be_empty and self.rungs == 0 and self.can_work and not self.out

    @property
    def until_ms(self) -> int:
        """Until when (Unix ms) it waits: for the rungs, or for what comes back from them; 0: not known."""
        if self.report is None:
            return 0
        return self.report.latest_due_ms if self.rungs else self.report.retries_until_ms

    @property
    def out(self) -> int:
        """Retries that are expected back, wherever they are."""
        return self.report.retries_out if self.report is not None else 0


def start_failure(report: RouterReport | None) -> str | None:
    """Why this pool will never work a message, once its workers could not start so often; None while it may."""
    if report is None or report.pool.workers or report.pool.retiring or not report.pool.target:
        return None
    if report.failed_starts < FAILED_STARTS_MOST or report.start_error is None:
        return None
    return f"workers cannot start, tried {report.failed_starts} times: {report.start_error}"


def vanished(report: RouterReport | None) -> str | None:
    """Why this run will not get to the end: the pool waits for a queue that vanished; None where it does not."""
    reason = None if report is None else report.holds.get(VANISHED)
    return reason and (
        f"{reason}. A run that ends with the empty queue does not wait for that: run without --until-empty and confirm "
        "it, or with --vanished-queue declare"
    )


def not_back(report: RouterReport | None, retry_interval_s: float) -> str | None:
    """What an empty queue has not seen again although its time is over; None where there is nothing.

    `retry_interval_s`: after which RabbitMQ tries again.
    """
    if report is None or not report.retries_overdue:
        return None
    return (
        f"{report.retries_overdue:,} retries have not come back from their rungs within "
        f"{HOPS_AGAIN * retry_interval_s:,g} s after their time: RabbitMQ keeps what the queue would not take (it is "
        f"full, or its leader is away) and tries again every {retry_interval_s:,g} s (rung_retry_interval_s); run "
        "again for them, and look for policies on the rungs"
    )


def waits_for(sight: Sight, now_s: float) -> str | None:
    """What a run waits for that has nothing else to do, in words; None where that is not the rungs. `now_s`: Unix s.

    Until when is what the router knows of the messages that it put there itself: after a restart of it they pass by
    again within the longest rung.
    """
    if not sight.may_be_empty or sight.rungs is None or sight.report is None:
        return None
    if sight.rungs:
        due = _moment(sight.report.latest_due_ms, now_s)
        return f"{_messages(sight.rungs)} in the retry queues" + (f", the last of them due at {due}" if due else "")
    if sight.out:
        end = _moment(sight.report.retries_until_ms, now_s)
        what = f"{_messages(sight.out)} on the way back from the retry queues"
        return what + (f", until {end} at the latest" if end else "")
    return None


def _moment(at_ms: int, now_s: float) -> str | None:
    """A moment to come, in words; None for one that is over."""
    left_s = at_ms / 1000 - now_s
    if left_s <= 0:
        return None
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC (in {_duration(left_s)})"


def _messages(count: int) -> str:
    return f"{count:,} message{'' if count == 1 else 's'}"


def _duration(seconds: float) -> str:
    """The two largest units: 29 d 23 h, 3 h 20 min, 5 min 12 s, 12 s."""
    left = int(seconds)
    units = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
    first = next((place for place, (unit, _) in enumerate(units) if left >= unit), len(units) - 1)
    told = []
    for unit, name in units[first : first + 2]:
        told.append(f"{left // unit} {name}")
        left %= unit
    return " ".join(told)
