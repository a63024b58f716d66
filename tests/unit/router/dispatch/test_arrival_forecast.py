"""How many records a free worker's batch waits for, by the rate of arrival and by the start of a burst."""

from __future__ import annotations

import pytest

from rabbitray.actors.router.dispatch.arrival_forecast import LEAST_FOR_IDLE, LOADED, PACE, ArrivalForecast

WAIT_MS, MOST_MS = 15.0, 50.0


class Loop:
    """What the router's event loop has spent, in seconds of CPU."""

    spent_s = 7.0


def forecast_of(loop: Loop | None = None) -> ArrivalForecast:
    one = loop or Loop()
    return ArrivalForecast(WAIT_MS, 100.0, most_ms=MOST_MS, cpu=lambda: one.spent_s)


def after(rate: float, *, seconds: float = 1.0) -> tuple[ArrivalForecast, int, float]:
    """A forecast after deliveries at this rate, with their number and the time."""
    return forecast_of(), round(rate * seconds), 100.0 + seconds


def after_load(spent_s: float, batches: int) -> ArrivalForecast:
    """A forecast after a second with 500 deliveries, for which the loop took so much CPU."""
    loop = Loop()
    forecast = forecast_of(loop)
    for _ in range(batches):
        forecast.sent()
    loop.spent_s += spent_s
    forecast.wanted(50, 500, 101.0, idle=True, backlog=False)
    return forecast


@pytest.mark.parametrize(("rate", "idle", "busy"), [(100, 1, 1), (200, 1, 3), (900, 1, 13.5), (2_000, 30, 30)])
def test_a_worker_waits_for_what_arrives_within_the_wait_where_that_is_much(
    rate: float, idle: float, busy: float
) -> None:
    forecast, received, now = after(rate)
    assert forecast.wanted(50, received, now, idle=True, backlog=False) == pytest.approx(idle)
    assert forecast.wanted(50, received, now, idle=False, backlog=False) == pytest.approx(busy)


def test_at_most_a_full_batch_is_waited_for() -> None:
    forecast, received, now = after(100_000)
    assert forecast.wanted(50, received, now, idle=True, backlog=False) == 50


def test_the_rate_holds_for_a_tenth_of_a_second() -> None:
    forecast, received, now = after(2_000)
    assert forecast.wanted(50, received, now, idle=True, backlog=False) == pytest.approx(30)
    assert forecast.wanted(50, received, now + 0.05, idle=True, backlog=False) == pytest.approx(30)
    assert forecast.wanted(50, received, now + 1.0, idle=True, backlog=False) == 1, "nothing came since"


def test_many_deliveries_since_the_last_look_are_the_start_of_a_burst() -> None:
    forecast = forecast_of()
    forecast.look(LEAST_FOR_IDLE - 1, 100.01)
    assert forecast.wanted(50, LEAST_FOR_IDLE - 1, 100.01, idle=True, backlog=False) == 1
    forecast.look(2 * LEAST_FOR_IDLE - 1, 100.02)
    assert forecast.wanted(50, 2 * LEAST_FOR_IDLE - 1, 100.02, idle=True, backlog=False) == 50
    assert forecast.wanted(50, 2 * LEAST_FOR_IDLE - 1, 100.04, idle=True, backlog=False) == 1, (
        "it is over after the wait"
    )


def test_while_the_router_is_loaded_a_batch_waits_a_multiple_of_what_one_costs() -> None:
    forecast = after_load(0.9, batches=100)
    assert forecast.wait_s == pytest.approx(PACE * 0.009)
    assert forecast.wanted(50, 500, 101.0, idle=True, backlog=False) == pytest.approx(500 * PACE * 0.009)
    assert forecast.wanted(10, 500, 101.0, idle=True, backlog=False) == 10


@pytest.mark.parametrize(("batches", "wait_ms"), [(10, MOST_MS), (1_000, WAIT_MS), (0, WAIT_MS)])
def test_the_wait_has_bounds(batches: int, wait_ms: float) -> None:
    assert after_load(0.9, batches=batches).wait_s == pytest.approx(wait_ms / 1000)


def test_a_router_with_time_to_spare_does_not_wait_for_what_comes_one_by_one() -> None:
    forecast = after_load(LOADED - 0.01, batches=10)
    assert forecast.wait_s == pytest.approx(WAIT_MS / 1000)
    assert forecast.wanted(50, 500, 101.0, idle=True, backlog=False) == 1


def test_the_load_is_forgotten_with_the_rate() -> None:
    forecast = after_load(0.9, batches=100)
    forecast.wanted(50, 600, 102.0, idle=True, backlog=False)
    assert forecast.wait_s == pytest.approx(WAIT_MS / 1000)


def test_with_a_backlog_a_batch_is_waited_for_at_any_load_and_rate() -> None:
    loop = Loop()
    forecast = forecast_of(loop)
    for _ in range(20):
        forecast.sent()
    loop.spent_s += 0.2
    assert forecast.wanted(50, 200, 101.0, idle=True, backlog=True) == pytest.approx(200 * PACE * 0.01)
    assert forecast.wait_s == pytest.approx(PACE * 0.01)
    forecast.wanted(50, 400, 102.0, idle=True, backlog=False)
    assert forecast.wanted(50, 400, 102.0, idle=True, backlog=False) == 1, "the queue is empty again"
