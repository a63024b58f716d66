"""`rabbitray query` and `rabbitray export` on a results file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.store import Store
from tests.kit.command_line import Run
from tests.kit.store_rows import dead_rows, rows_of


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


@pytest.mark.parametrize(
    "to",
    [("-o", "all.parquet"), ("-o", "all.csv"), ("-o", "all.json"), ("-o", "all.txt"), ("--json",), ("--format", "csv")],
)
def test_a_cut_answer_is_no_file(run: Run, results: Path, monkeypatch: pytest.MonkeyPatch, to: tuple[str, ...]) -> None:
    """Unless the limit stands on the command line: one from the environment is forgotten by the time that it cuts."""
    monkeypatch.setenv("RABBITRAY_QUERY_MAX_ROWS", "10")
    ran = run("query", "SELECT key FROM results", *to)
    assert ran.code == 1
    assert ran.out == ""
    assert ran.err.startswith("error: only the first 10 rows of file ")
    assert ran.err.endswith("; nothing was written\n")
    assert not list(Path().glob("*all*"))
    assert run("query", "SELECT key FROM results LIMIT 10", *to).code == 0
    ran = run("query", "SELECT key FROM results", *to, "--query-max-rows", "10")
    assert ran.code == 0
    assert "note: only the first 10 rows" in ran.err


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
