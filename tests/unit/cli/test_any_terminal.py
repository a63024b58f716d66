"""Terminals and pipes of any kind: an encoding that lacks a character, a reader that has gone, a disk that is full."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rabbitray.cluster.cli.errors import OUTPUT_GONE
from rabbitray.cluster.cli.terminal import console
from tests.kit.command_line import Run
from tests.kit.results_file import empty_file
from tests.kit.root import ROOT
from tests.kit.store_rows import sql_in_a_process

WORDS = "Žluťoučký 日本 🐇 “quoted”"
ROWS = (
    "INSERT INTO results BY NAME SELECT 0 AS seq, 'job-1' AS key, 'job-1' AS message_id, 'jobs' AS queue, "
    f"'{WORDS}' AS user_id, '{WORDS}' AS message_type, 'DONE' AS status, '{{\"said\":\"{WORDS}\"}}'::JSON AS result, "
    "1::INTEGER AS attempts, now() AS committed_at, 1::UBIGINT AS key_hash",
    f"INSERT INTO dead_letters BY NAME SELECT 'dead-1' AS key, 'jobs' AS queue, '{WORDS}' AS error, 'ValueError' AS "
    f"error_class, 'permanent' AS category, 'permanent' AS reason, 1::INTEGER AS attempts, now() AS dead_at, "
    f"encode('{WORDS}') AS body, 'd1' AS id, now() AS recorded_at",
)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = empty_file(tmp_path_factory.mktemp("words") / "results.duckdb")
    sql_in_a_process(path, *ROWS)
    return path


COMMANDS = [
    ("--help",),
    ("config",),
    ("query", "SELECT * FROM results"),
    ("query", "SELECT * FROM results", "--format", "csv"),
    ("query", "SELECT * FROM results", "--json"),
    ("trace", "job-1"),
    ("trace", "dead-1", "--json"),
    ("dlq", "ls"),
    ("dlq", "show", "dead-1"),
    ("dlq", "replay", WORDS),
    ("plan", "--rate", "10", "--service", "1s"),
    ("replay", "--shape", "step", "--duration", "60s"),
    ("check", "--no-ray", "--connect-timeout-s", "0.1"),
    ("query", f"SELECT '{WORDS}' FROM nothing"),
    (WORDS,),
    ("status", "--pool", WORDS),
    ("publish", f"{WORDS}.jsonl"),
    ("run", "--handler", f"{WORDS}:handle"),
]


def spoken(encoding: str, number: int) -> io.TextIOWrapper:
    """Standard output (1) or error (2) of a terminal with that encoding."""
    return io.TextIOWrapper(os.fdopen(os.dup(number), "wb", buffering=0), encoding=encoding, write_through=True)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", [pytest.param("ascii", marks=pytest.mark.long), "cp1252"])
def test_an_encoding_that_lacks_characters_ends_no_command(
    run: Run, filled: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    monkeypatch.setenv("RABBITRAY_RESULTS", str(filled))
    monkeypatch.setenv("RABBITRAY_CONNECT_TIMEOUT_S", "0.1")
    for arguments in COMMANDS:
        with spoken(encoding, 1) as out, spoken(encoding, 2) as err, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            ran = run(*arguments)
        assert ran.code in (0, 1, 2, 3), (arguments, ran)
        assert "Traceback" not in ran.err, (arguments, ran.err)
        assert ran.out or ran.err


def program(*arguments: str, **environ: str) -> subprocess.Popen[bytes]:
    """A command whose output nobody reads yet."""
    return subprocess.Popen(
        [sys.executable, "-m", "rabbitray", *arguments],
        cwd=ROOT,
        env=os.environ | {"RABBITMQ_URL": "amqp://127.0.0.1:1/", "RAY_ADDRESS": "127.0.0.1:1"} | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize(
    "arguments",
    [("config",), ("query", "SELECT * FROM results"), ("query", "FROM range(9999)", "--format", "csv")],
    ids=["lines", "a table", "bytes"],
)
def test_a_reader_that_has_gone_ends_it_without_a_word(filled: Path, arguments: tuple[str, ...]) -> None:
    """As `| head -0` does it."""
    ran = program(*arguments, RABBITRAY_RESULTS=str(filled))
    assert ran.stdout is not None
    ran.stdout.close()
    assert ran.stderr is not None
    with ran.stderr as told:
        assert told.read() == b""
    assert ran.wait(30) == OUTPUT_GONE


def test_without_anybody_who_reads_errors_either(filled: Path) -> None:
    """As `2>&1 | head -0` does it."""
    ran = program("query", "SELECT nothing", RABBITRAY_RESULTS=str(filled))
    for pipe in (ran.stdout, ran.stderr):
        assert pipe is not None
        pipe.close()
    assert ran.wait(30) == OUTPUT_GONE


def test_output_that_finds_no_room_is_one_line(filled: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "rabbitray", "query", "SELECT * FROM results"],
            cwd=ROOT,
            env=os.environ | {"RABBITRAY_RESULTS": str(filled), "RAY_ADDRESS": "127.0.0.1:1"},
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert ran.returncode == 1
    assert ran.stderr.decode() == "error: No space left on device; make room on that disk, or name another place\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("query", "SELECT * FROM results", "-o", "/dev/full/x.csv"),
        ("query", "SELECT * FROM results", "-o", "none/x.parquet"),
        ("export", "/dev/null/out"),
        ("export", "none/out\udcff"),
        ("report", "-o", "none/x.html"),
        ("report", "-o", "/dev/null/x.html"),
    ],
)
def test_a_file_that_cannot_be_written_is_one_line(
    run: Run, filled: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("RABBITRAY_RESULTS", str(filled))
    ran = run(*arguments)
    assert ran.code in (1, 2), ran
    assert ran.err.count("\n") == 1, ran.err
    assert ran.err.startswith(("error: cannot write ", "error: a text cannot be written as utf-8; use a UTF-8 locale"))


def test_a_console_says_nothing_of_its_own_where_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BrokenPipeError):
        console().on_broken_pipe()
