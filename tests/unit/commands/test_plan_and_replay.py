"""`rabbitray plan` and `rabbitray replay` as commands."""

from __future__ import annotations

from pathlib import Path

from tests.kit.command_line import Run
from tests.kit.results_file import REPLAYED, eventful_file, replayed_file
from tests.kit.store_rows import sql_in_a_process

# plan, replay, check


def test_plan_gives_the_advice_of_the_report_and_of_the_simulator(run: Run) -> None:
    found = run("plan", "--rate", "20", "--service", "0.2s", "--cores", "4", "--json").json
    assert found["report_workers"] == 4
    assert found["meets_target"] is True


def test_replay_compares_settings_and_draws(run: Run) -> None:
    ran = run("replay", "--shape", "step", "--duration", "2m", "--with", "max_size=2", "--plot", "out.png", "--json")
    assert [row["policy"] for row in ran.json] == ["current", "max_size=2"]
    assert Path("out.png").read_bytes().startswith(b"\x89PNG")


def test_replay_of_a_recorded_run_has_its_bursts_and_its_gap(run: Run, tmp_path: Path) -> None:
    """The eventful file: 100 msg/s for 30 s, nothing but a dead letter now and then for 90 s, 100 msg/s again."""
    file = str(eventful_file(tmp_path / "eventful.duckdb"))
    (row,) = run("replay", "--recorded", "--results", file, "--service", "0.05s", "--json").json
    assert (row["messages"], row["duration_s"]) == (6_060, 150)
    assert row["load_changes"] == 1
    assert row["peak"] >= 6  # a burst of 100 a second is 5 workers at full use; on average it would be 2
    (last,) = run("replay", "--recorded", "--duration", "20s", "--results", file, "--json").json
    assert (last["messages"], last["duration_s"]) == (2_008, 20)


def test_what_was_replayed_arrives_again_and_did_not_wait_meanwhile(run: Run, tmp_path: Path) -> None:
    file = str(replayed_file(tmp_path / "replayed.duckdb"))
    (row,) = run("replay", "--recorded", "--results", file, "--service", "0.05s", "--json").json
    assert (row["messages"], row["duration_s"]) == (2 * REPLAYED, 668)
    assert row["p95_age_s"] < 60
    (last,) = run("replay", "--recorded", "--duration", "20s", "--results", file, "--service", "0.05s", "--json").json
    assert last["messages"] == REPLAYED, "those that died again, too"


def test_replay_takes_the_last_run_and_its_service_time(run: Run, tmp_path: Path) -> None:
    """What waited when the run began arrives as it begins; a worker's seconds for a job are those recorded."""
    file = eventful_file(tmp_path / "eventful.duckdb")
    began = "TIMESTAMPTZ '2026-01-02 03:02:00.5+00'"
    sql_in_a_process(
        file,
        f"INSERT INTO runs BY NAME SELECT 1 AS epoch, 'test' AS router, {began} AS registered_at",
        "INSERT INTO runs BY NAME SELECT 2 AS epoch, 'idle' AS router, now() AS registered_at",
        f"UPDATE results SET published_at = {began} - to_hours(1), started_at = {began} + to_seconds(seq), "
        f"finished_at = {began} + to_seconds(seq) + to_milliseconds(120) WHERE seq % 2 = 1",
    )
    (row,) = run("replay", "--recorded", "--results", str(file), "--json").json
    assert row["messages"] == 3_000 + 13  # the second wave, and the dead letters that were parked since
    assert row["duration_s"] == 28  # up to the last dead letter: the wave stood in the queue
    slow = run("replay", "--recorded", "--results", str(file), "--json", "--service", "0.12s").json
    assert slow == [row]
    sql_in_a_process(file, "UPDATE results SET finished_at = started_at")  # quicker than its clock can tell
    (quick,) = run("replay", "--recorded", "--results", str(file), "--json").json
    assert quick["p95_age_s"] < row["p95_age_s"]
