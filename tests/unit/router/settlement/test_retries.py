"""Where a failed job goes: the ladder, Retry(after_s), the dead letters."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.errors import Retry
from rabbitray.actors.message.reply import Failure
from rabbitray.actors.router.settlement.retries import Park, RetryLimits, Rung, ladder, settlement, spare, wait_until
from rabbitray.actors.worker.outcome.verdict import AFTER_MOST_S, Categories, judge

NOW_MS = 1_700_000_000_000
LIMITS = RetryLimits()


def failure(**changes: Any) -> Failure:
    plain: dict[str, Any] = {
        "position": 0,
        "verdict": "retry",
        "reason": "exception",
        "error": "x",
        "error_class": "ConnectionError",
        "category": "transient",
    }
    return Failure(**(plain | changes))


def test_the_ladder_of_the_report() -> None:
    assert ladder(2_000, 60_000) == LIMITS.rungs_ms == (2_000, 4_000, 8_000, 16_000, 32_000, 60_000)


@pytest.mark.parametrize(
    ("base", "most", "exponential", "rungs"),
    [
        (2_000, 60_000, False, (2_000,)),
        (2_000, 2_000, True, (2_000,)),
        (5_000, 2_000, True, (2_000,)),
        (1_000, 8_000, True, (1_000, 2_000, 4_000, 8_000)),
        (1_000, 9_000, True, (1_000, 2_000, 4_000, 8_000, 9_000)),
    ],
)
def test_other_ladders(base: int, most: int, exponential: bool, rungs: tuple[int, ...]) -> None:
    assert ladder(base, most, exponential=exponential) == rungs


@pytest.mark.parametrize(("attempt", "delay_ms"), list(enumerate([2_000, 4_000, 8_000, 16_000, 32_000])))
def test_each_attempt_waits_longer(attempt: int, delay_ms: int) -> None:
    assert settlement(failure(attempt=attempt), LIMITS, NOW_MS) == Rung(delay_ms=delay_ms, attempt=attempt + 1)


def test_many_retries_stay_on_the_longest_rung() -> None:
    limits = RetryLimits(max_retries=20)
    assert settlement(failure(attempt=12), limits, NOW_MS) == Rung(delay_ms=60_000, attempt=13)


@pytest.mark.parametrize("attempt", [5, 6, 1_000])
def test_after_the_last_attempt_it_is_parked(attempt: int) -> None:
    assert settlement(failure(attempt=attempt), LIMITS, NOW_MS) == Park(reason="max_retries")


@pytest.mark.parametrize("limits", [RetryLimits(max_retries=0), RetryLimits(max_retries=0, rungs_ms=())])
def test_without_retries_the_first_failure_is_parked_with_its_reason(limits: RetryLimits) -> None:
    assert settlement(failure(), limits, NOW_MS) == Park(reason="exception")
    assert settlement(failure(after_s=1.0), limits, NOW_MS) == Park(reason="exception")


def test_a_permanent_failure_is_parked_at_once() -> None:
    assert settlement(failure(verdict="dead", reason="rejected", after_s=9), LIMITS, NOW_MS) == Park(reason="rejected")


@pytest.mark.parametrize(
    ("after_s", "delay_ms"),
    [(0, 2_000), (0.5, 2_000), (2, 2_000), (2.001, 4_000), (9, 16_000), (33, 60_000), (60, 60_000)],
)
def test_a_wanted_delay_takes_the_next_rung_that_is_long_enough(after_s: float, delay_ms: int) -> None:
    assert settlement(failure(after_s=after_s, attempt=1), LIMITS, NOW_MS) == Rung(delay_ms=delay_ms, attempt=2)


def test_beyond_the_longest_rung_a_due_time_lets_it_come_back_uncharged() -> None:
    first = settlement(failure(after_s=100, attempt=1), LIMITS, NOW_MS)
    assert first == Rung(delay_ms=60_000, attempt=2, due_ms=NOW_MS + 100_000)
    again = wait_until(NOW_MS + 100_000, LIMITS.rungs_ms, NOW_MS + 60_000, 2)
    assert again == Rung(delay_ms=60_000, attempt=2), "40 s are left: one more rung, the same attempt"


@given(st.floats(0, AFTER_MOST_S), st.integers(0, 4))
def test_a_wanted_delay_is_never_cut_short(after_s: float, attempt: int) -> None:
    move = settlement(failure(after_s=after_s, attempt=attempt), LIMITS, NOW_MS)
    assert isinstance(move, Rung)
    assert max(move.delay_ms, move.due_ms - NOW_MS) >= round(after_s * 1000)
    assert move.delay_ms in LIMITS.rungs_ms
    assert move.attempt == attempt + 1


@pytest.mark.parametrize(
    ("before", "least_ms", "delay_ms"), [(0, 0, 2_000), (3, 0, 16_000), (0, 30_000, 32_000), (1_000, 30_000, 60_000)]
)
def test_a_failure_that_is_not_charged_waits_longer_each_time_and_beyond_the_next_probes(
    before: int, least_ms: int, delay_ms: int
) -> None:
    rung = spare(failure(attempt=2), before, LIMITS, NOW_MS, least_ms=least_ms)
    assert rung == Rung(delay_ms=delay_ms, attempt=2, spared=before + 1)


@given(
    st.integers(0, 1_000), st.integers(0, 1_000), st.sampled_from([0, 30_000]), st.sampled_from([(100,), (100, 800)])
)
def test_however_long_an_outage_lasts_nothing_dies_of_it(
    attempt: int, before: int, least_ms: int, rungs_ms: tuple[int, ...]
) -> None:
    limits = RetryLimits(rungs_ms=rungs_ms, max_retries=0)
    rung = spare(failure(attempt=attempt), before, limits, NOW_MS, least_ms=least_ms)
    assert rung.delay_ms in rungs_ms
    assert rung.attempt == attempt
    assert max(rung.delay_ms, rung.due_ms - NOW_MS) >= least_ms


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        (-5, 0.0),
        (float("nan"), None),
        (float("inf"), AFTER_MOST_S),
        pytest.param(10**400, AFTER_MOST_S, id="huge"),
        ("soon", None),
        (True, None),
        (None, None),
    ],
)
def test_a_delay_that_makes_no_sense_harms_nobody(asked: Any, granted: float | None) -> None:
    error = Retry()
    error.after_s = asked  # it is refused where it is made
    after_s = judge(error, Categories()).after_s
    assert after_s == granted
    assert isinstance(settlement(failure(after_s=after_s), LIMITS, NOW_MS), Rung)
