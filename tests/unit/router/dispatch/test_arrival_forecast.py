"""How many records a free worker's batch waits for, by the rate of arrival and by the start of a burst."""

from __future__ import annotations

import pytest

from rabbitray.actors.router.dispatch.arrival_forecast import LEAST_FOR_IDLE, ArrivalForecast

WAIT_MS = 15.0


def after(rate: float, *, seconds: float = 1.0) -> tuple[ArrivalForecast, int, float]:
    """A forecast after deliveries at this rate, with their number and the time."""
    return ArrivalForecast(WAIT_MS, 100.0), round(rate * seconds), 100.0 + seconds


@pytest.mark.parametrize(("rate", "idle", "busy"), [(100, 1, 1), (200, 1, 3), (900, 1, 13.5), (2_000, 30, 30)])
def test_a_worker_waits_for_what_arrives_within_the_wait_where_that_is_much(
    rate: float, idle: float, busy: float
) -> None:
    forecast, received, now = after(rate)
    assert forecast.wanted(50, received, now, idle=True) == pytest.approx(idle)
    assert forecast.wanted(50, received, now, idle=False) == pytest.approx(busy)


def test_at_most_a_full_batch_is_waited_for() -> None:
    forecast, received, now = after(100_000)
    assert forecast.wanted(50, received, now, idle=True) == 50


def test_the_rate_holds_for_a_tenth_of_a_second() -> None:
    forecast, received, now = after(2_000)
    assert forecast.wanted(50, received, now, idle=True) == pytest.approx(30)
    assert forecast.wanted(50, received, now + 0.05, idle=True) == pytest.approx(30)
    assert forecast.wanted(50, received, now + 1.0, idle=True) == 1, "nothing came since"


def test_many_deliveries_since_the_last_look_are_the_start_of_a_burst() -> None:
    forecast = ArrivalForecast(WAIT_MS, 100.0)
    forecast.look(LEAST_FOR_IDLE - 1, 100.01)
    assert forecast.wanted(50, LEAST_FOR_IDLE - 1, 100.01, idle=True) == 1
    forecast.look(2 * LEAST_FOR_IDLE - 1, 100.02)
    assert forecast.wanted(50, 2 * LEAST_FOR_IDLE - 1, 100.02, idle=True) == 50
    assert forecast.wanted(50, 2 * LEAST_FOR_IDLE - 1, 100.04, idle=True) == 1, "it is over after the wait"
