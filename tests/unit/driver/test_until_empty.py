"""When a run that ends with the empty queue ends, and what it says that it waits for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rabbitray.actors.router.holds.vanished import VANISHED
from rabbitray.actors.router.report import RouterReport
from rabbitray.actors.router.status import Counts
from rabbitray.cluster.driver.run_totals import RunTotals
from rabbitray.cluster.driver.until_empty import FAILED_STARTS_MOST, Sight, not_back, start_failure, vanished, waits_for
from tests.kit.pool_status import QUIET, QUIET_REPORT

NOW_S = 1_767_312_000.0  # 2 January 2026


def report(pool: dict[str, Any] | None = None, **own: Any) -> RouterReport:
    return replace(QUIET_REPORT, pool=replace(QUIET, **(pool or {})), **own)


def sight(
    found: RouterReport | None, *, ready: int | None = 0, rungs: int | None = 0, consumers: int | None = 1
) -> Sight:
    return Sight(report=found, ready=ready, rungs=rungs, consumers=consumers)


@pytest.mark.parametrize(
    ("seen", "empty"),
    [
        (sight(report()), True),
        (sight(report({"workers": 0, "target": 0})), True),  # none is wanted
        (sight(report({"workers": 0, "target": 1})), False),  # nobody knows yet whether the handler can be loaded
        (sight(report(), ready=1), False),
        (sight(report(), ready=None), False),
        (sight(report(), consumers=0), False),  # its leader is away: RabbitMQ says 0 of both, whatever it holds
        (sight(report(holds={"paused": "at night"}), consumers=0), True),  # nobody consumes
        (sight(report(), consumers=None), True),
        (sight(report(), rungs=1), False),
        (sight(report(), rungs=None), False),
        (sight(report(retries_out=1)), False),  # RabbitMQ has it, and says nothing
        (sight(report(held_back=1)), False),  # likewise
        (sight(report(retries_overdue=1)), True),  # it was waited for
        (sight(report({"held": 1})), False),
        (sight(report(connected=False)), False),
        (sight(None), False),
    ],
)
def test_empty_is_known_to_be_empty_by_a_pool_that_can_work(seen: Sight, empty: bool) -> None:
    assert seen.empty == empty


def test_a_queue_that_vanished_ends_the_run() -> None:
    assert vanished(None) is None
    assert vanished(report(holds={"paused": "at night"})) is None
    told = vanished(report(holds={VANISHED: "queue 'jobs' vanished with 12 ready"}))
    assert told is not None
    assert told.startswith("queue 'jobs' vanished with 12 ready. ")
    assert "--vanished-queue declare" in told


BROKEN: dict[str, Any] = {"failed_starts": FAILED_STARTS_MOST, "start_error": "MAIL_TOKEN is not set"}
NONE_READY = {"workers": 0, "target": 1}


def test_three_starts_that_failed_are_enough() -> None:
    assert start_failure(report(NONE_READY, **BROKEN)) == ("workers cannot start, tried 3 times: MAIL_TOKEN is not set")


@pytest.mark.parametrize(
    "seen",
    [
        None,
        report(NONE_READY, **(BROKEN | {"failed_starts": FAILED_STARTS_MOST - 1})),
        report({"workers": 1, "target": 2}, **BROKEN),  # one works
        report({"workers": 0, "target": 0}, **BROKEN),  # none is wanted
        report(NONE_READY),
    ],
)
def test_while_there_is_hope_the_run_goes_on(seen: RouterReport | None) -> None:
    assert start_failure(seen) is None


@pytest.mark.parametrize(
    ("left_s", "rungs", "told"),
    [
        (30 * 86_400 - 60, 12, "12 messages{}, the last of them due at 2026-01-31 23:59:00 UTC (in 29 d 23 h)"),
        (95, 1, "1 message{}, the last of them due at 2026-01-02 00:01:35 UTC (in 1 min 35 s)"),
        (7, 1_200, "1,200 messages{}, the last of them due at 2026-01-02 00:00:07 UTC (in 7 s)"),
        (-5, 3, "3 messages{}"),  # a new router does not know yet
    ],
)
def test_what_it_waits_for_and_until_when(left_s: float, rungs: int, told: str) -> None:
    waiting = report(latest_due_ms=round((NOW_S + left_s) * 1_000))
    assert waits_for(sight(waiting, rungs=rungs), NOW_S) == told.format(" in the retry queues")


def test_a_retry_that_no_rung_tells_of_is_waited_for_and_then_told() -> None:
    out = report(retries_out=22, retries_until_ms=round((NOW_S + 359) * 1_000), latest_due_ms=round(NOW_S * 1_000))
    what = "22 messages on the way back from the retry queues"
    told = waits_for(sight(out), NOW_S)
    assert told == f"{what}, until 2026-01-02 00:05:59 UTC (in 5 min 59 s) at the latest"
    assert waits_for(sight(out), NOW_S + 360) == what, "it is counted as overdue within a second"
    assert (sight(out).until_ms, sight(out, rungs=1).until_ms) == (out.retries_until_ms, out.latest_due_ms)
    told = not_back(report(retries_overdue=22), 180.0)
    assert told is not None
    assert told.startswith("22 retries have not come back from their rungs within 360 s after their time: ")
    assert "tries again every 180 s" in told
    assert not_back(report(), 180.0) is None
    assert not_back(None, 180.0) is None


def test_while_there_is_work_it_waits_for_nothing_else() -> None:
    waiting = report(latest_due_ms=round((NOW_S + 60) * 1_000))
    for seen in (sight(waiting), sight(waiting, rungs=None), sight(waiting, ready=1, rungs=2), sight(None, rungs=2)):
        assert waits_for(seen, NOW_S) is None


def test_a_run_with_three_routers_counts_what_each_of_them_did() -> None:
    totals = RunTotals()
    assert totals.last() is None
    for epoch, done in ((1, 40), (1, 70), (4, 0), (4, 5), (9, 2)):
        found = totals.of_run(report({"epoch": epoch}, counts=Counts(done=done, acked=done), given_back=1))
    assert (found.counts.done, found.counts.acked, found.given_back) == (77, 77, 3)
    assert totals.last() == found
    assert found.pool.epoch == 9
