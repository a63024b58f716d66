"""The report's markup, numbers and axes."""

from __future__ import annotations

import pytest

from rabbitray.cluster.results.report.axes import ceiling, clock, duration, number, number_ticks, time_ticks


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "\u2013"), (0, "0"), (12_345, "12,345"), (3.14159, "3.1"), (0.021, "0.021"), (99.96, "100.0")],
)
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("ms", "text"),
    [(None, "\u2013"), (0.42, "0.4 ms"), (250, "250 ms"), (3_210, "3.2 s"), (300_000, "5 min"), (9_000_000, "2.5 h")],
)
def test_durations(ms: float | None, text: str) -> None:
    assert duration(ms) == text


@pytest.mark.parametrize("top", [1, 7, 10, 99.5, 1_234, 5_000_000])
def test_an_axis_ends_at_a_tick_that_holds_every_value(top: float) -> None:
    end = ceiling([0, top, None])
    ticks = number_ticks(end)
    assert end >= top
    assert 2 <= len(ticks) <= 6
    assert (ticks[0].at, ticks[-1].at) == (0.0, pytest.approx(1.0))


@pytest.mark.parametrize("span_s", [0.5, 30, 600, 86_400, 30 * 86_400])
def test_time_ticks_stand_at_round_times(span_s: float) -> None:
    ticks = time_ticks(1_767_323_045.3, span_s)
    assert 1 <= len(ticks) <= 6
    assert all(0 <= tick.at <= 1 for tick in ticks)


def test_clock() -> None:
    at = 1_767_323_045.25
    assert [clock(at, step) for step in (0.1, 1, 60, 86_400)] == ["03:04:05.2", "03:04:05", "03:04", "02 Jan"]
