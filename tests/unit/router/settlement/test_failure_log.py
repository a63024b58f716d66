"""One line for each kind of failure and minute, however many there are."""

from __future__ import annotations

import logging

import pytest

from rabbitray.actors.message.reply import Failure
from rabbitray.actors.router.settlement.failure_log import KINDS_MOST, FailureLog
from rabbitray.actors.router.settlement.retries import Park, Rung
from rabbitray.actors.telemetry.rate_limit import EVERY_S
from tests.kit.deliveries import delivery
from tests.kit.shifted_clock import ShiftedClock


def failure(error_class: str = "ValueError", **own: str) -> Failure:
    return Failure(
        position=0,
        verdict="retry",
        reason="exception",
        error="no",
        error_class=error_class,
        category="transient",
        **{"key": "k", "traceback": "jobs.py:7 in handle", "raised_in": "jobs.py:7"} | own,
    )


def test_the_next_line_says_how_many_there_were(caplog: pytest.LogCaptureFixture) -> None:
    clock = ShiftedClock()
    failures = FailureLog(clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(1_000):
            failures.tell(delivery(1), failure(), Rung(delay_ms=4_000, attempt=1), "w-1")
        assert len(caplog.records) == 1
        clock.ahead_s += EVERY_S + 1
        failures.tell(delivery(1), failure(), Park(reason="max_retries"), "w-1")
    assert caplog.records[1].getMessage() == (
        "Job k failed in run 1 on w-1, dead as max_retries: ValueError: no (999 more like it since the last line)"
    )


def test_kinds_without_end_share_a_line(caplog: pytest.LogCaptureFixture) -> None:
    failures = FailureLog(ShiftedClock())
    with caplog.at_level(logging.WARNING):
        for n in range(10 * KINDS_MOST):
            failures.tell(delivery(1), failure(f"Odd{n}"), Rung(delay_ms=4_000, attempt=1), "w-1")
    assert len(caplog.records) == KINDS_MOST + 1
