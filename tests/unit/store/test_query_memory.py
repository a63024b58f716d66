"""Queries that make values of gigabytes: they end, the store goes on committing, and its process does not grow."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from rabbitray.actors.errors import QueryError
from rabbitray.actors.store.queries.file import FileQueries
from rabbitray.actors.store.read_only import read_only_query
from tests.kit.hostile_queries import OTHERS, SHAPES, config_of, forget_peak, own
from tests.kit.root import ROOT
from tests.kit.store_rows import sql_in_a_process

pytestmark = pytest.mark.slow  # a process that takes gigabytes where it may

MEMORY = config_of(Path()).query_limits
TOO_MUCH = "the query (needs more memory than a query may take|ended its process)"


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("doubled", "list", "window", "rows", "format"), id="some"),
        pytest.param(("replaced", "string_agg", "list_agg", "json", "map"), id="others", marks=pytest.mark.long),
    ],
)
def test_a_value_of_gigabytes_ends_its_query_alone(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = tmp_path / "r.duckdb"
    asked = [sys.executable, "-m", "tests.kit.hostile_queries", str(path), *names]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name, ended in found["asked"].items():
        assert re.match(TOO_MUCH, ended["said"]), (name, ended["said"])
        assert "\n" not in ended["said"]
        assert ended["grown"] <= 2 * MEMORY.answer, name  # an answer of this size, cut, may have come first
    assert sum(ended["committed"] for ended in found["asked"].values()), "no commit meanwhile"
    missing = (
        f"SELECT 'k' || i AS key FROM range({found['acknowledged']}) r(i) WHERE key NOT IN (SELECT key FROM results)"
    )
    assert read_only_query(path, missing).num_rows == 0, "acknowledged rows are gone"
    [row] = read_only_query(path, "SELECT count(*) = count(DISTINCT key) AS once FROM results").to_pylist()
    assert row["once"]


def test_a_file_that_nobody_writes_is_asked_within_the_same_memory(tmp_path: Path) -> None:
    """By the same kind of process, beside the command's own."""
    path = tmp_path / "r.duckdb"
    sql_in_a_process(path, "CREATE TABLE results (key VARCHAR)")
    before = forget_peak()
    with closing(FileQueries(path, MEMORY)) as queries:
        with pytest.raises(QueryError, match=TOO_MUCH):
            queries.table(SHAPES["format"], max_rows=10, timeout_s=60)
        assert queries.table("SELECT count(*) AS n FROM results", max_rows=10, timeout_s=60).num_rows == 1
    assert own("VmHWM") - before <= MEMORY.answer


def test_a_query_of_a_file_ends_at_its_deadline_whatever_it_does(tmp_path: Path) -> None:
    path = tmp_path / "r.duckdb"
    sql_in_a_process(path, "CREATE TABLE results (key VARCHAR)")
    with closing(FileQueries(path)) as queries:
        with pytest.raises(QueryError, match="ran out of its time"):
            queries.table(OTHERS["parsed"], max_rows=10, timeout_s=1)
        assert queries.table("FROM range(5000)", max_rows=9_000, timeout_s=60).num_rows == 5_000
