"""`rabbitray submit` with mistakes: one line and code 2, before anything is looked for or uploaded."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.kit.command_line import Run

GOOD = ("--handler", "myjobs:handle", "--results", "/data/orders.duckdb")


@pytest.fixture
def project(run: Run) -> Run:
    """`run` in a folder with a handler."""
    Path("myjobs.py").write_text("def handle(job): ...")
    Path("hidden.py").write_text("def handle(job): ...")
    Path(".gitignore").write_text("hidden.py\n")
    Path("open").write_text("A=1")
    Path("open").chmod(0o644)
    Path("bad").write_text("A=1\ngeheim")
    Path("bad").chmod(0o600)
    return run


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--max-size", "many"), "--max-size='many' (command line): must be a whole number"),
        (("--max-siez", "2"), "No such option"),
        (("--ray-address", "auto"), "No such option"),
        (("--prefetch-min", "100"), "PREFETCH_MIN 100 is above PREFETCH_MAX 50"),
        (("--max-size", "2", "--min-size", "3"), "min_size 3 <= initial_size 3 <= max_size 2"),
        (("--handler", "nonsense"), "--handler='nonsense' (command line): must be module:attribute"),
        (("--handler", "hidden:handle"), "hidden would not be uploaded"),
        (("--results", "orders.duckdb"), "must be an absolute path on the machine where the job runs"),
        (("--working-dir", "nowhere"), "is no folder"),
        (("--secrets-file", "missing"), "--secrets-file missing: cannot be read: No such file or directory"),
        (("--secrets-file", "open"), "others can read the password (mode 0644); run chmod 600 open"),
        (("--secrets-file", "bad"), "--secrets-file bad line 2: must be NAME=VALUE"),
        (("--url-file-on-head", "url"), "must be an absolute path on that machine"),
        (("--runtime-env-json", "{"), "--runtime-env-json: no JSON"),
        (("--runtime-env-json", '{"env_vars": {"DB_PASSWORD": "geheim"}}'), "DB_PASSWORD would be seen"),
        (("--runtime-env-json", '{"pip": "requirements.txt"}'), "pip names a file of this machine"),
        (("--worker-runtime-env", '{"env_vars": {"DB_PASSWORD": "geheim"}}'), "worker_runtime_env: DB_PASSWORD would"),
        (("--worker-runtime-env", '{"pip": ["--find-links=https://u:geheim@h/"]}'), "worker_runtime_env: pip would"),
        (("--address", "anyscale://x"), "--address=anyscale://x: must be http://HOST:8265"),
        (("--address", "127.0.0.1:1"), "no job server of Ray answers at http://127.0.0.1:1"),
        (("--address", "http://127.0.0.1:1"), "no job server of Ray answers at http://127.0.0.1:1 (tried"),
        ((), "--address=127.0.0.1:1: no job server of Ray answers"),  # RAY_ADDRESS
        (("--submission-id", "a/b"), "--submission-id a/b: must be"),
    ],
)
def test_a_mistake_is_one_line_within_the_time(project: Run, more: tuple[str, ...], says: str) -> None:
    began = time.monotonic()
    ran = project("submit", *GOOD, *more)
    assert (ran.code, ran.out) == (2, ""), ran
    assert says in ran.err
    assert "Traceback" not in ran.err
    assert "geheim" not in ran.err
    assert time.monotonic() - began < 10
    if "No such option" not in says:  # click says how a command is used
        (line,) = [line for line in ran.err.splitlines() if not line.startswith("note: ")]
        assert line.startswith("error: ")


def test_a_collector_of_this_shell_stays_here_and_that_is_said(project: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "OTEL_" not in project("submit", *GOOD).err
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=geheim")
    ran = project("submit", *GOOD)
    assert (
        "note: the job sends nothing to this shell's collector (OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_EXPORTER); put "
        "these into --secrets-file"
    ) in ran.err.splitlines()
    assert "geheim" not in ran.err
    named = '{"env_vars": {"OTEL_SERVICE_NAME": "orders"}}'
    assert "collector" in project("submit", *GOOD, "--runtime-env-json", named).err
    own = '{"env_vars": {"OTEL_TRACES_EXPORTER": "console"}}'
    assert "collector" not in project("submit", *GOOD, "--runtime-env-json", own).err


def test_without_a_handler_it_says_so(run: Run) -> None:
    ran = run("submit")
    assert (ran.code, ran.err) == (
        2, "error: no handler: give --handler module:attribute, e.g. mypackage.jobs:handle\n"
    )  # fmt: skip


def test_job_server_variables_beat_those_of_the_cluster_and_an_option_beats_both(
    project: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:2")
    assert "--address=http://127.0.0.1:2: no job server" in project("submit", *GOOD).err
    assert "--address=http://127.0.0.1:3: no job" in project("submit", *GOOD, "--address", "http://127.0.0.1:3").err
