"""Capacity advice: the report's scenarios and presets, and the simulator's word."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from rabbitray.actors.errors import ConfigurationError
from rabbitray.autoscale.plan import plan, preset, report_workers, text
from rabbitray.autoscale.policy.signals import PolicyLimits
from tests.kit.command_line import runner


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
    assert 16 <= found.fixed <= 18  # 15 would be busy all the time and have no end of the backlog
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


def test_an_overload_misses_the_target_though_what_finishes_is_young_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """8 workers finish 16 of 1,000 messages a second: within the trial's 300 s that is 4,747 of 59,573."""
    monkeypatch.chdir(tmp_path)
    ran = runner(capfd)("plan", "--rate", "1000", "--service", "0.5s", "--age-target", "5m", "--max-size", "8")
    assert ran.code == 1
    assert "54,826 of 59,573 messages not finished" in ran.out
    assert "misses the target, as max_size workers finish no more than arrives" in ran.out


def test_an_overload_that_the_trial_outlasts_misses_the_target_too() -> None:
    """12 of 8 workers' worth for ten minutes is done in fifteen; for ever it is not."""
    found = plan(24, 0.5, 1_200, cpu_cores=8, limits=PolicyLimits(max_size=8))
    assert found.elastic_unfinished == 0
    assert found.elastic_p95_age_s < 600
    assert found.fixed is None
    assert not found.meets_target


def test_a_pool_that_grows_late_is_waited_for_up_to_the_age_target() -> None:
    """It grows only 50 minutes after the start; four times the trial's ten minutes would not tell."""
    late = plan(20, 0.5, 7_200, cpu_cores=8, limits=PolicyLimits(upscale_delay_s=3_000))
    assert late.elastic_unfinished == 0
    assert 2_000 < late.elastic_p95_age_s < 7_200
    assert late.meets_target


def test_the_formula_says_whose_speed_it_takes() -> None:
    assert "4 workers (with your speed, 2 msg/s each; the report has 20)" in text(plan(8, 0.5, 30, cpu_cores=8))
    assert "your speed" not in text(plan(8, 0.05, 30, cpu_cores=8))


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
