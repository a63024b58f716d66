"""What people get for their mistakes on the command line: one line and the right exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.command_line import Run


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("publish", "--generate", "1", "--queue", "amq.x"), "--queue='amq.x'"),
        (("publish", "--generate", "1", "--packed", "-1"), "--packed"),
        (("publish", "--generate", "1", "--packed", "5000"), "at most max_records = 1000"),
        (("publish", "missing.jsonl"), "missing.jsonl"),
        (("run",), "no handler"),
        (("run", "--handler", "no_such_module:handle"), "no_such_module"),
        (("run", "--handler", "tests.kit.asking_handlers:undefined"), "'job' cannot be resolved: NameError"),
        (("run", "--handler", "tests.kit.asking_handlers:no_data"), "NoData is no type of data"),
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


@pytest.mark.parametrize("command", ["status", "pause", "resume", "drain"])
def test_a_pool_that_does_not_run_is_code_3(run: Run, command: str) -> None:
    ran = run(command, "--pool", "nobody")
    assert ran.code == 3
    assert "no pool 'nobody' runs" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_check_names_a_broker_that_is_not_there(run: Run) -> None:
    ran = run("check", "--connect-timeout-s", "0.3")
    assert ran.code == 2
    assert "REFUSE broker" in ran.out
    assert "REFUSE ray" in ran.out
