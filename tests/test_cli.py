"""The command line: what people get for their mistakes, publishing, reading the results, advice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.store import Store
from rabbitray.cluster.cli.app import COMMANDS
from tests.command_line import Run, runner
from tests.queue_access import declare, depth
from tests.results_file import eventful_file
from tests.store_rows import dead_rows, rows_of, sql_in_a_process

ROOT = Path(__file__).parent.parent
NOWHERE = "amqp://127.0.0.1:1/"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RABBITMQ_URL", NOWHERE)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    return runner(capfd)


@pytest.fixture
async def results(tmp_path: Path) -> Path:
    path = tmp_path / "results.duckdb"
    store = Store(StoreConfig(path=path))
    await store.open()
    epoch = await store.register("test")
    await store.write(epoch, rows_of([f"k{number}" for number in range(25)]))
    await store.record_dead_letters(epoch, dead_rows(["d1"]))
    await store.close()
    return path


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(run: Run, name: str) -> None:
    ran = run(name, "--help")
    assert ran.code == 0
    assert "Usage: rabbitray" in ran.out


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("broker", "dlq")])
def test_every_command_that_reports_has_json(run: Run, name: str) -> None:
    assert "--json" in run(name, "--help").out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("publish", "--generate", "1", "--queue", "amq.x"), "--queue='amq.x'"),
        (("publish", "--generate", "1", "--packed", "-1"), "--packed"),
        (("publish", "--generate", "1", "--packed", "5000"), "at most max_records = 1000"),
        (("publish", "missing.jsonl"), "missing.jsonl"),
        (("run",), "no handler"),
        (("run", "--handler", "no_such_module:handle"), "no_such_module"),
        (("query", "SELECT 1", "--results", "nothing.duckdb"), "there is no results file nothing.duckdb"),
        (("query", "SELECT 1", "--format", "parquet"), "-o FILE"),
        (("export", "out", "--table", "decisions", "--after", "1"), "--after"),
        (("scale", "many"), "neither a number of workers"),
        (("dlq", "replay"), "say which"),
        (("dlq", "replay", "--older-than", "soon"), "'soon' is no time"),
        (("plan", "--rate", "0", "--service", "1s"), "must be above 0"),
        (("plan", "--rate", "nan", "--service", "1s"), "must be above 0"),
        (("plan", "--rate", "inf", "--service", "1s"), "50,000/s at most"),
        (("plan", "--rate", "1000000", "--service", "0.1s"), "50,000/s at most"),
        (("plan", "--rate", "10", "--service", "0s"), "must be above 0"),
        (("plan", "--rate", "10", "--service", "99999999d"), "at most a week"),
        (("replay", "--duration", "0"), "from 1 s"),
        (("replay", "--duration", "0.5s"), "from 1 s"),
        (("replay", "--duration", "8d"), "a week"),
        (("replay", "--service", "0"), "must be above 0"),
        (("replay", "--low", "nan"), "not a number at or above 0"),
        (("replay", "--high", "inf"), "not a number at or above 0"),
        (("replay", "--high", "1000000"), "10,000,000 at most"),
        (("replay", "--failure-rate", "nan"), "from 0 to 1"),
        (("replay", "--low", "0", "--high", "0", "--min-size", "0"), "has no messages"),
        (("replay", "--recorded", "--high", "3"), "imagined load"),
        (("replay", "--recorded", "--shape", "step"), "one load at a time"),
        (("replay", "--recorded", "--results", "nothing.duckdb"), "there is no results file nothing.duckdb"),
        (("replay", "--with", "speed=1"), "NAME=VALUE"),
        (("replay", "--with", "max_size=0"), "--max-size='0'"),
        (("nonsense",), "No such command"),
        (("status", "--nonsense"), "No such option"),
    ],
)
def test_a_mistake_ends_with_code_2_and_says_what_it_is(run: Run, arguments: tuple[str, ...], says: str) -> None:
    ran = run(*arguments)
    assert ran.code == 2, ran
    assert says in ran.err
    assert "Traceback" not in ran.err
    assert not ran.out


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (b"1,nan", "line 2"),
        (b"1,inf", "line 2"),
        (b"nan,1", "line 2"),
        (b"inf,1", "line 2"),
        (b"1,1\n1e12,1", "line 3"),
        (b"0,0", "has no messages"),
        (b"1,1e12", "10,000,000 at most"),
        (b"\xff\xfe", "is no text"),
    ],
)
def test_a_bad_load_from_csv_is_one_line(run: Run, rows: bytes, says: str) -> None:
    Path("load.csv").write_bytes(b"second,messages\n" + rows)
    ran = run("replay", "--csv", "load.csv")
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1), ran
    assert says in ran.err


def test_an_unknown_variable_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITRAY_MAX_SIZZE", "3")
    assert "RABBITRAY_MAX_SIZZE is set, but there is no such setting" in run("config", "--json").err


def test_an_unreachable_broker_is_named_with_the_time_that_was_tried(run: Run) -> None:
    ran = run("publish", "--generate", "1", "--connect-timeout-s", "0.5")
    assert ran.code == 2
    assert ran.err.startswith("error: RabbitMQ at amqp://127.0.0.1:1/ cannot be reached (tried for ")
    assert len(ran.err.splitlines()) == 1


def test_wrong_credentials_are_one_line_without_them(run: Run, amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITMQ_URL", amqp_url.replace("guest:guest", "guest:wr0ng-secret"))
    ran = run("publish", "--generate", "1")
    assert ran.code == 2
    assert "login refused" in ran.err
    assert len(ran.err.splitlines()) == 1
    assert "wr0ng-secret" not in ran.err


@pytest.mark.parametrize("command", ["status", "pause", "resume", "drain"])
def test_a_pool_that_does_not_run_is_code_3(run: Run, command: str) -> None:
    ran = run(command, "--pool", "nobody")
    assert ran.code == 3
    assert "no pool 'nobody' runs" in ran.err
    assert len(ran.err.splitlines()) == 1


# publish


def test_publish_does_not_create_a_queue_silently(run: Run, amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITMQ_URL", amqp_url)
    ran = run("publish", "--generate", "5")
    assert ran.code == 2
    assert "queue 'jobs' does not exist" in ran.err
    assert "--create" in ran.err
    created = run("publish", "--generate", "5", "--create", "--json")
    assert created.code == 0
    assert created.json["published"] == 5


async def test_publish_lines_of_both_forms_and_report_the_bad_ones(
    amqp_url: str,
) -> None:
    await declare(amqp_url, "jobs")
    lines = '{"i":"a","t":"B","u":"u1"}\nnope\n\n{"messageId":"b","messageType":"BIRTHDAY","userId":"u2"}\n[1]'
    ran = _program(amqp_url, "publish", "--json", stdin=lines)
    assert ran.returncode == 1
    found = json.loads(ran.stdout)
    assert (found["published"], found["bad_lines"]) == (2, 2)
    assert "line 2: bad_json" in ran.stderr
    assert "line 5: " in ran.stderr
    assert await depth(amqp_url, "jobs") == 2


async def test_publish_strict_stops_at_the_first_bad_line(amqp_url: str) -> None:
    await declare(amqp_url, "jobs")
    ran = _program(amqp_url, "publish", "--strict", stdin='{"i":"a","t":"B"}\nnope\n{"i":"c","t":"B"}\n')
    assert ran.returncode == 1
    assert "stopped: line 2 is no job" in ran.stderr
    assert await depth(amqp_url, "jobs") == 1


async def test_publish_packed_puts_many_jobs_into_a_message(amqp_url: str) -> None:
    await declare(amqp_url, "jobs")
    ran = _program(amqp_url, "publish", "--generate", "1000", "--packed", "100", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["published"] == 1000
    assert await depth(amqp_url, "jobs") == 10


async def test_publish_reports_failures_by_kind(amqp_url: str) -> None:
    await declare(amqp_url, "jobs", x_max_length=3, x_overflow="reject-publish")
    ran = _program(amqp_url, "publish", "--generate", "40", "--json")
    assert ran.returncode == 1
    found = json.loads(ran.stdout)
    assert found["failed"]["refused"] == 40 - found["published"] > 0
    assert "refused" in found["errors"][0]


# query and export


def test_query_prints_each_form(run: Run, results: Path) -> None:
    sql = "SELECT key, attempts, finished_at FROM results ORDER BY seq LIMIT 2"
    assert run("query", sql).out.split()[:4] == ["key", "attempts", "finished_at", "k0"]
    assert run("query", sql, "--json").json[0] == {"key": "k0", "attempts": 1, "finished_at": "2026-01-02T03:04:05Z"}
    assert run("query", sql, "--format", "csv").out.splitlines()[0] == '"key","attempts","finished_at"'
    assert run("query", sql, "-o", "two.parquet").code == 0
    assert pyarrow.parquet.read_table("two.parquet").num_rows == 2


def test_query_sums_are_numbers_and_bytes_survive(run: Run, results: Path) -> None:
    sql = "SELECT sum(attempts) AS runs, (SELECT body FROM dead_letters) AS body FROM results"
    assert run("query", sql, "--json").json == [{"runs": 25, "body": "AP9kMQ=="}]
    assert "00ff6431" in run("query", sql, "--format", "csv").out


def test_query_says_when_rows_were_cut(run: Run, results: Path) -> None:
    ran = run("query", "SELECT key FROM results", "--query-max-rows", "10", "--json")
    assert len(ran.json) == 10
    assert "only the first 10 rows" in ran.err


@pytest.mark.parametrize("sql", ["DROP TABLE results", "SELECT 1; SELECT 2", "SELEC 1", "SELECT * FROM nothing"])
def test_a_bad_query_is_one_line(run: Run, results: Path, sql: str) -> None:
    ran = run("query", sql)
    assert ran.code == 1
    assert len(ran.err.splitlines()) == 1


def test_export_writes_whole_tables_and_what_is_new(run: Run, results: Path) -> None:
    found = run("export", "out", "--table", "results", "--table", "dead_letters", "--json").json["files"]
    assert [(one["table"], one["rows"], one["last_seq"]) for one in found] == [
        ("results", 25, 24),
        ("dead_letters", 1, None),
    ]
    assert pyarrow.parquet.read_table("out/results.parquet").num_rows == 25
    newer = run("export", "out", "--after", "20", "--json").json["files"][0]
    assert (newer["rows"], newer["last_seq"]) == (4, 24)
    nothing = run("export", "out", "--after", "24", "--json").json["files"][0]
    assert (nothing["rows"], nothing["last_seq"]) == (0, 24)
    assert not list(Path("out").glob(".*"))


def test_a_file_that_another_process_holds_is_named_with_it(run: Run, results: Path) -> None:
    script = "import duckdb, sys; con = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(results)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        ran = run("query", "SELECT 1")
        holder.communicate("")
    assert ran.code == 2
    assert f"is in use by process {holder.pid}" in ran.err
    assert "no pool 'jobs' runs" in ran.err


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


def test_check_finds_everything_well(run: Run, amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITMQ_URL", amqp_url)
    ran = run("check", "--no-ray", "--json")
    assert ran.code == 0
    assert {row["area"] for row in ran.json} >= {"packages", "settings", "broker", "results", "disk"}
    assert not [row for row in ran.json if row["level"] == "refuse"]


async def test_check_refuses_what_would_keep_a_pool_from_starting(amqp_url: str, tmp_path: Path) -> None:
    await declare(amqp_url, "jobs.retry.2000", x_message_ttl=5)
    (tmp_path / "results.duckdb").write_text("no database, but longer than a header of DuckDB would be" * 100)
    ran = _program(amqp_url, "check", "--no-ray", "--json", "--results", str(tmp_path / "results.duckdb"))
    assert ran.returncode == 2
    refused = [row["text"] for row in json.loads(ran.stdout) if row["level"] == "refuse"]
    assert any("jobs.retry.2000" in text for text in refused)
    assert any("is not a DuckDB file" in text for text in refused)


def test_check_names_a_broker_that_is_not_there(run: Run) -> None:
    ran = run("check", "--connect-timeout-s", "0.3")
    assert ran.code == 2
    assert "REFUSE broker" in ran.out
    assert "REFUSE ray" in ran.out


def _program(url: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The program as people start it, with standard input."""
    return subprocess.run(
        [sys.executable, "-m", "rabbitray", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "RABBITMQ_URL": url},
        check=False,
    )
