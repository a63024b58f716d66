"""Capacity advice: the report's scenarios and presets, and the simulator's word."""

from __future__ import annotations

import math

import pytest

from actors.errors import ConfigurationError
from autoscale.plan import plan, preset, report_workers, text


@pytest.mark.parametrize(("per_min", "workers"), [(100, 1), (1_000, 1), (10_000, 8)])
def test_the_three_scenarios_of_the_report(per_min: int, workers: int) -> None:
    assert report_workers(8, per_min / 60) == workers


def test_cores_and_the_database_pool_bound_the_report_formula() -> None:
    assert report_workers(2, 1_000) == 4
    assert report_workers(64, 1_000, db_pool=10) == 10


@pytest.mark.parametrize(
    ("per_min", "name", "workers", "memory_mb"),
    [
        (999, "low", 2, 512),
        (1_000, "medium", 5, 1_024),
        (5_000, "high", 10, 2_048),
        (20_000, "very high", 20, 4_096),
    ],
)
def test_the_presets_of_the_report(per_min: int, name: str, workers: int, memory_mb: int) -> None:
    found = preset(per_min / 60)
    assert (found.name, found.workers, found.memory_mb) == (name, workers, memory_mb)


def test_the_advice_for_a_rate_a_service_time_and_an_age_target() -> None:
    found = plan(50, 0.3, 5, cpu_cores=8)
    assert found.steady == 18
    assert found.fixed is not None
    assert 15 <= found.fixed <= 18
    assert found.meets_target
    assert found.elastic_mean <= found.elastic_peak <= 32
    lines = text(found)
    assert "18 workers" in lines
    assert "meets the target" in lines


def test_slots_of_an_async_worker_count() -> None:
    found = plan(500, 0.05, 5, cpu_cores=2, slots=32)
    assert found.steady == 1
    assert found.elastic_p95_age_s >= 0.045


def test_a_target_that_max_size_cannot_meet_is_said() -> None:
    found = plan(200, 0.5, 5, cpu_cores=8)
    assert found.fixed is None
    assert not found.meets_target
    assert "misses the target" in text(found)


@pytest.mark.parametrize("rate", [0, -1, math.nan, math.inf, 50_001])
def test_a_rate_that_makes_no_sense_or_is_too_high_is_refused(rate: float) -> None:
    with pytest.raises(ConfigurationError):
        plan(rate, 0.3, 5, cpu_cores=8)


@pytest.mark.parametrize("seconds", [0, math.nan, math.inf, 1e12])
def test_times_that_make_no_sense_are_refused(seconds: float) -> None:
    with pytest.raises(ConfigurationError):
        plan(10, seconds, 5, cpu_cores=8)
    with pytest.raises(ConfigurationError):
        plan(10, 0.3, seconds, cpu_cores=8)


def test_the_smallest_rate_needs_one_worker() -> None:
    assert plan(5e-324, 0.3, 5, cpu_cores=8).steady == 1
