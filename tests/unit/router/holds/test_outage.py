"""When an outage begins, how it is probed, and when it is over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.message.reply import Failure, Part
from rabbitray.actors.router.holds.outage import Outage, OutageLimits


def part(
    done: int, failed: int, *, error: str = "ConnectionError", category: str = "transient", reason: str = "exception"
) -> Part:
    """So many finished jobs, of which some failed."""
    failure = Failure(
        position=0,
        verdict="retry",
        reason=reason,
        error="down",
        error_class=error,
        category=category,  # type: ignore[arg-type] # one of the three words
    )
    return Part(jobs=done + failed, rows=done, failures=[failure] * failed)


def test_one_transient_class_that_dominates_is_an_outage() -> None:
    outage = Outage(OutageLimits())
    outage.note(part(4, 16), 0.0)
    reason = outage.check(0.0)
    assert reason is not None
    assert "ConnectionError ended 16 of the last 20 jobs" in reason
    assert outage.held


def test_async_jobs_that_run_into_our_time_out_are_an_outage_too() -> None:
    outage = Outage(OutageLimits())
    outage.note(part(4, 16, error="TimeoutError", reason="handler_timeout"), 0.0)
    assert "TimeoutError ended 16 of the last 20 jobs" in (outage.check(0.0) or "")
    assert outage.rounds.begin_round(1.0) == 1
    assert outage.end_probe(part(0, 1, error="TimeoutError", reason="handler_timeout"), 0, 1.0) == "failed"


def test_jobs_that_were_not_run_say_nothing_of_a_service() -> None:
    outage = Outage(OutageLimits())
    outage.note(part(4, 16), 0.0)
    outage.note(Part(jobs=500, skipped=500), 0.0)
    assert "ConnectionError ended 16 of the last 20 jobs" in (outage.check(0.0) or "")
    assert outage.rounds.begin_round(1.0) == 1
    assert outage.end_probe(Part(jobs=1, skipped=1), 0, 1.0) == "unknown"


def test_few_mixed_or_permanent_failures_are_none() -> None:
    outage = Outage(OutageLimits())
    outage.note(part(0, 19), 0.0)
    assert outage.check(0.0) is None, "fewer than 20 outcomes say nothing"
    mixed = Outage(OutageLimits())
    mixed.note(part(0, 10), 0.0)
    mixed.note(part(0, 10, error="TimeoutError"), 0.0)
    assert mixed.check(0.0) is None
    bad = Outage(OutageLimits())
    bad.note(part(0, 50, category="permanent"), 0.0)
    assert bad.check(0.0) is None


def test_it_is_forgotten_after_the_look_back_and_off_by_a_setting() -> None:
    outage = Outage(OutageLimits(look_back_s=10.0))
    outage.note(part(0, 19), 0.0)
    outage.note(part(1, 0), 11.0)
    assert outage.check(11.0) is None
    off = Outage(OutageLimits(enabled=False))
    off.note(part(0, 100), 0.0)
    assert off.check(0.0) is None


def held_outage(now: float = 0.0) -> Outage:
    """The hold has begun."""
    outage = Outage(OutageLimits(probe_most_s=4.0))
    outage.note(part(0, 20), now)
    assert outage.check(now)
    return outage


def test_probes_are_further_and_further_apart_until_one_succeeds() -> None:
    outage = held_outage()
    due = [second for second in range(20) if outage.rounds.begin_round(float(second))]
    assert due == [1, 3, 7, 11, 15, 19]
    assert outage.end_probe(part(0, 1), 0, 20.0) == "failed"
    assert outage.held
    assert outage.end_probe(part(1, 0), 1, 20.0) == "over"
    assert not outage.held
    assert outage.check(20.0) is None


@pytest.mark.parametrize(
    "unreached",
    [
        part(0, 1, category="permanent", reason="bad_json"),
        part(0, 1, category="permanent", reason="rejected", error="Reject"),
        part(0, 1, reason="retry_requested", error="Retry"),
        part(1, 0),
    ],
    ids=["unreadable", "rejected", "retry", "duplicate"],
)
def test_a_probe_that_may_not_have_reached_the_service_ends_nothing_and_the_next_goes_soon(unreached: Part) -> None:
    outage = held_outage()
    assert [second for second in range(12) if outage.rounds.begin_round(float(second))] == [1, 3, 7, 11]
    assert outage.end_probe(unreached, 0, 11.0) == "unknown"
    assert outage.held
    assert outage.rounds.begin_round(12.0), "not only after another 4 s"


def test_the_hold_says_which_share_of_what_fails_and_how_many_probes_did() -> None:
    outage = held_outage()
    assert outage.reason == "ConnectionError ended 20 of the last 20 jobs (100%); probing"
    for error in ("ConnectionError", "ConnectionError", "TimeoutError"):
        outage.end_probe(part(0, 1, error=error), 0, 1.0)
    outage.end_probe(part(0, 1, category="permanent"), 0, 1.0)
    assert outage.reason == (
        "ConnectionError ended 20 of the last 20 jobs (100%); "
        "3 of 4 probes failed since (ConnectionError 50%, TimeoutError 25%), the latest round had 1"
    )


def test_one_good_job_among_failing_ones_ends_no_outage_and_charges_nobody() -> None:
    outage = held_outage()
    assert outage.spares
    assert outage.end_probe(part(1, 0), 1, 1.0) == "over"
    for second in range(2, 12):  # over more than the look-back
        assert outage.spares, "on trial"
        outage.note(part(0, 2), second * 2.0)
        held = outage.check(second * 2.0)
    assert held
    assert outage.spares


def test_jobs_that_are_done_end_the_trial() -> None:
    outage = held_outage()
    outage.end_probe(part(1, 0), 1, 1.0)
    outage.note(part(5, 15), 2.0)
    assert outage.check(2.0) is None
    assert not outage.spares


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5), st.integers(0, 5)), max_size=40))
def test_the_running_totals_are_those_of_the_look_back(steps: list[tuple[int, int, int]]) -> None:
    limits = OutageLimits(look_back_s=10.0, least=1)
    outage, now, seen = Outage(limits), 0.0, []
    for wait, done, failed in steps:
        now += wait
        outage.note(part(done, failed), now)
        seen = [one for one in [*seen, (now, done, failed)] if one[0] >= now - 10.0]
        jobs, errors = sum(d + f for _, d, f in seen), sum(f for _, _, f in seen)
        expected = bool(errors) and errors >= limits.share * jobs
        assert (outage.check(now) is not None) == expected
        if expected:
            return
