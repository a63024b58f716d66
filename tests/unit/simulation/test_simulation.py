"""Replay in virtual time: the loads, the simulator, the baselines and how good the policy is."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import policies
from rabbitray.actors.errors import ConfigurationError
from rabbitray.autoscale.policy.signals import PolicyLimits
from rabbitray.autoscale.simulation.baselines import Celery, Keda, RayData, RayServe, baselines
from rabbitray.autoscale.simulation.compare import against_baselines, plot, replay, table, with_baselines
from rabbitray.autoscale.simulation.ideal import Schedule, Scheduled, _held, _spread, clairvoyant
from rabbitray.autoscale.simulation.loads import SHAPES, Load, from_csv, of_curve, recorded, turns
from rabbitray.autoscale.simulation.simulate import Plant, Rabbitray, simulate
from tests.kit.command_line import runner
from tests.kit.pool_status import seen


def _fixed(size: int) -> Scheduled:
    return Scheduled(schedule=Schedule(sizes=(size,), worker_seconds=0.0))


@pytest.mark.parametrize(
    ("shape", "changes"),
    [("step", 0), ("ramp", 1), ("spike", 1), ("square", 5), ("sine", 3), ("poisson", 3)],
)
def test_each_shape_publishes_its_turning_points(shape: str, changes: int) -> None:
    load = SHAPES[shape]()
    assert load.changes == changes
    assert len(load.arrivals()) == sum(load.counts)


def test_turns_ignores_flat_parts() -> None:
    assert turns([1, 1, 2, 2, 3, 3, 2, 2, 5]) == 2


def test_a_load_from_csv() -> None:
    load = from_csv("second,messages\n0,3\n2,5\n2,1\n")
    assert load.counts == (3, 0, 6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,b\n1,2\n",
        "second,messages\n",
        *(f"second,messages\n{row}\n" for row in ("1,x", "-1,3", "1", "nan,1", "1,nan", "inf,1", "1,inf", "1e12,1")),
        "second,messages\n1,1e12\n",
        "second,messages\n0," + "1" * 200_000 + "\n",
    ],
)
def test_a_load_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        from_csv(text)


def test_a_recorded_run_keeps_its_bursts_and_its_gaps() -> None:
    assert recorded([(104, 7), (100, 4), (101, 2)]).counts == (4, 2, 0, 0, 7)
    day = [(second, 10 if second < 60 else 90) for second in range(120)]
    assert recorded([*day, (125, 5)]).changes == 1  # by the half minute, not by the second


@pytest.mark.parametrize("seconds", [[], [(0, 1), (10**12, 1)], [(0, 10**9)]])
def test_a_recorded_run_that_is_empty_or_too_large_is_refused(seconds: list[tuple[int, int]]) -> None:
    with pytest.raises(ConfigurationError):
        recorded(seconds)


@pytest.mark.parametrize(
    "numbers",
    [{"service_s": 0.0}, {"service_s": math.nan}, {"service_s": math.inf}, {"start_s": math.nan}, {"start_s": -1.0},
     {"failure_rate": math.nan}, {"failure_rate": 1.5}],
)  # fmt: skip
def test_a_plant_of_numbers_without_sense_is_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        Plant(**numbers)  # type: ignore[arg-type]  # names of fields


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(0, 50), st.integers(0, 50))
def test_the_held_need_is_the_highest_of_the_time_around(needs: list[int], after_s: int, before_s: int) -> None:
    plain = [max(needs[max(0, t - after_s) : t + before_s + 1]) for t in range(len(needs))]
    assert _held(needs, after_s, before_s) == plain


def test_a_schedule_that_needs_nothing_is_no_division() -> None:
    limits = PolicyLimits(min_size=0, initial_size=0)
    quiet = Load(name="quiet", counts=(0,) * 10, changes=0)
    assert "| - |" in table(replay(quiet, {"current": limits}, Plant(limits=limits)).rows)


def test_the_simulator_agrees_with_arithmetic() -> None:
    plant = Plant(service_s=0.5, service_spread=0.0, limits=PolicyLimits(initial_size=2))
    run = simulate(Load(name="ten", counts=(10,) + (0,) * 20, changes=1), _fixed(2), plant)
    assert run.finished == 10
    assert run.drained_s == pytest.approx(2.65)
    assert run.worker_seconds == 42


def test_what_is_left_counts_with_its_age_so_far() -> None:
    """One worker of 10 s a job, 20 messages in a second: 7 are taken up within 64 s, 13 are then 63.0 to 63.6 s old."""
    plant = Plant(service_s=10.0, service_spread=0.0, limits=PolicyLimits(max_size=1))
    load = Load(name="twenty", counts=(20,), changes=0)
    run = simulate(load, _fixed(1), plant)
    assert (run.finished, run.unfinished, run.drained_s) == (7, 13, None)
    assert run.p50_age_s == pytest.approx(63.225)  # the eleventh: 6 are younger, and 4 that wait
    assert run.max_age_s == pytest.approx(70.025 - 0.325)  # the seventh, known to end after the replay
    patient = simulate(load, _fixed(1), plant, patience_s=200)
    assert (patient.finished, patient.unfinished, patient.drained_s) == (20, 0, pytest.approx(200.025))


def test_what_waits_to_come_back_is_left_too() -> None:
    plant = Plant(failure_rate=1.0, retry_s=1e6, limits=PolicyLimits(max_size=1))
    run = simulate(Load(name="three", counts=(3,), changes=0), _fixed(1), plant)
    assert (run.finished, run.unfinished, run.drained_s) == (0, 3, None)
    assert run.p95_age_s == pytest.approx(63.8, abs=0.1)


def test_a_pool_that_is_too_small_is_not_drained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = runner(capfd)("replay", "--shape", "step", "--max-size", "1")
    assert "| not drained (57,280 left) | 1 |" in ran.out
    (row,) = runner(capfd)("replay", "--shape", "step", "--max-size", "1", "--json").json
    assert row["drained_s"] is None
    assert row["unfinished"] == 57_280
    assert row["p95_age_s"] > 3_000


def test_baselines_stand_beside_the_settings_without_ours_again() -> None:
    load, plant = SHAPES["spike"](duration_s=60), Plant()
    found = with_baselines(replay(load, {"current": plant.limits}, plant), plant)
    names = [row.policy for row in found.rows]
    assert names == ["current", *(policy.name for policy in baselines(plant, 30.0))]
    assert [run.policy for run in found.runs] == names


def test_every_message_is_worked_once_and_failures_come_back() -> None:
    load = of_curve("steady", [10.0] * 60)
    failing = simulate(load, _fixed(8), Plant(failure_rate=0.3, limits=PolicyLimits(initial_size=8)))
    assert failing.finished == 600
    assert failing.max_age_s > 2.0


def test_a_start_takes_its_time() -> None:
    load = of_curve("burst", [100.0] + [0.0] * 60)
    ages = [simulate(load, _fixed(20), Plant(start_s=s)).p95_age_s for s in (1.0, 10.0)]
    assert ages[1] > ages[0] + 2


def test_the_same_replay_gives_the_same_run() -> None:
    load = SHAPES["poisson"](duration_s=300)
    first, second = (simulate(load, Rabbitray(limits=PolicyLimits()), Plant()) for _ in range(2))
    assert first == second


def test_the_clairvoyant_schedule_keeps_its_target() -> None:
    plant = Plant()
    for shape in ("step", "square", "poisson"):
        load = SHAPES[shape](duration_s=700)
        schedule = clairvoyant(load, plant, 30.0)
        assert simulate(load, Scheduled(schedule=schedule), plant).p95_age_s <= 30.0


def test_a_steady_load_needs_the_workers_that_its_rate_fills() -> None:
    """20 msg/s of 0.2 s at 85 %: a worker has 4.25 of them, so 4 are too few and 5 enough."""
    limits = PolicyLimits(target_utilization=0.85)
    schedule = clairvoyant(of_curve("steady", [20.0] * 120), Plant(service_s=0.2, limits=limits), 30.0)
    assert max(schedule.sizes) == schedule.sizes[-1] == 5


@pytest.mark.parametrize("shape", ["step", "spike", "square"])
def test_the_clairvoyant_schedule_is_the_cheapest_of_them(shape: str) -> None:
    load, plant = SHAPES[shape](duration_s=300), Plant()
    costs = [_spread(load, plant, over_s).worker_seconds for over_s in range(1, 30)]
    assert clairvoyant(load, plant, 30.0).worker_seconds == min(costs) < max(costs)


def test_celery_grows_at_once_to_what_it_reserves_and_shrinks_after_its_keepalive() -> None:
    rule = Celery(limits=PolicyLimits(max_size=6))
    assert rule.wanted(seen(0, ready=100, workers=1)) == 4  # a prefetch of 4 for each of 1 process
    assert rule.wanted(seen(1, ready=100, workers=4)) == 6  # 16 reserved, max_size
    assert rule.wanted(seen(31, ready=0, workers=6, held=2, busy=2)) == 6
    assert rule.wanted(seen(32, ready=0, workers=6, held=2, busy=2)) == 2


def test_keda_doubles_at_most_tolerates_a_tenth_and_remembers_its_highest_wish() -> None:
    rule = Keda(value=100, limits=PolicyLimits())
    assert rule.wanted(seen(0, ready=2_000, target=3)) == 7  # 4 pods more than 3
    assert rule.wanted(seen(15, ready=2_000, target=7)) == 14  # twice 7
    assert rule.wanted(seen(30, ready=1_500, target=14)) == 14  # 15 would be 7 % more
    assert rule.wanted(seen(314, ready=300, target=14)) == 14  # 20 were wished for 299 s ago
    assert rule.wanted(seen(330, ready=300, target=14)) == 3


def test_ray_serve_waits_for_its_delays() -> None:
    rule = RayServe(value=100)
    assert rule.wanted(seen(0, ready=450, target=1)) == 1
    assert rule.wanted(seen(29, ready=450, target=1)) == 1
    assert rule.wanted(seen(30, ready=450, target=1)) == 5
    assert rule.wanted(seen(40, ready=150, target=5)) == 5
    assert rule.wanted(seen(639, ready=150, target=5)) == 5
    assert rule.wanted(seen(640, ready=150, target=5)) == 2


def test_ray_data_follows_the_utilisation_of_its_actors() -> None:
    rule = RayData()
    assert rule.wanted(seen(0, ready=100, workers=16, target=16)) == 19  # 2 of 1.75 is 14 % more: 2.3 of 16
    assert rule.wanted(seen(10, ready=9, workers=19, target=19)) == 19  # 10 s after a growth
    assert rule.wanted(seen(11, ready=9, workers=19, target=19)) == 18
    assert rule.wanted(seen(12, ready=19, workers=19, target=19)) == 19


@pytest.mark.parametrize("load", policies.loads(quick=True), ids=lambda load: load.name)
def test_age_cost_and_calm_are_as_promised(load: Load) -> None:
    ours, *others = against_baselines(load, Plant()).rows
    lowest = min(row.p95_age_s for row in others)
    assert ours.p95_age_s <= max(lowest, ours.target_age_s)
    assert ours.worker_seconds <= 1.15 * ours.ideal_worker_seconds
    assert ours.direction_changes <= ours.load_changes


def test_all_baselines_stay_within_the_bounds_and_finish() -> None:
    load, plant = SHAPES["spike"](duration_s=300), Plant()
    for policy in baselines(plant, 30.0):
        run = simulate(load, policy, plant)
        assert run.finished == sum(load.counts)
        assert run.peak <= 32


def test_settings_side_by_side() -> None:
    load = SHAPES["square"](duration_s=400, cycles=1)
    found = replay(load, {"calm": PolicyLimits(), "quick": PolicyLimits(downscale_delay_s=5)}, Plant())
    calm, quick = found.rows
    assert [row.policy for row in found.rows] == ["calm", "quick"]
    assert quick.worker_seconds < calm.worker_seconds
    assert table(found.rows).count("\n") == 3


@pytest.mark.slow  # matplotlib is imported; unit/commands/test_plan_and_replay.py draws one, too
def test_a_plot_is_a_png_file(tmp_path: Path) -> None:
    found = replay(SHAPES["spike"](duration_s=100), {"default": PolicyLimits()}, Plant())
    plot([found], tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_the_bench_rows_have_the_shape_of_the_issue() -> None:
    row = replay(SHAPES["spike"](duration_s=100), {"default": PolicyLimits()}, replace(Plant(), seed=3)).rows[0]
    asked = {"load", "policy", "p95_age_s", "target_age_s", "worker_seconds"}
    asked |= {"ideal_worker_seconds", "load_changes", "direction_changes"}
    assert asked <= row.as_json().keys()
    assert policies.table([row.as_json()]).count("\n") == 2
