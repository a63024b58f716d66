"""Queries that make values of gigabytes: they end, the store goes on committing, and its process stays small."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from rabbitray.actors.errors import QueryError
from rabbitray.actors.store.config import QueryMemory
from rabbitray.actors.store.read_only import read_only_query
from tests.kit.hostile_queries import SHAPES, config_of, forget_peak, own
from tests.kit.root import ROOT
from tests.kit.store_rows import sql_in_a_process

pytestmark = pytest.mark.slow  # a process that takes gigabytes where it may

MEMORY = config_of(Path()).query_memory


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("doubled", "list", "window", "rows", "format"), id="some"),
        pytest.param(("replaced", "string_agg", "list_agg", "json", "map"), id="others", marks=pytest.mark.faults),
    ],
)
def test_a_value_of_gigabytes_ends_its_query_alone(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = tmp_path / "r.duckdb"
    asked = [sys.executable, "-m", "tests.kit.hostile_queries", str(path), *names]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name, ended in found["asked"].items():
        assert "more memory than queries may take" in ended["said"], name
        assert "\n" not in ended["said"]
        assert ended["grown"] <= MEMORY.growth + MEMORY.answer, name
    assert sum(ended["committed"] for ended in found["asked"].values()), "no commit meanwhile"
    missing = (
        f"SELECT 'k' || i AS key FROM range({found['acknowledged']}) r(i) WHERE key NOT IN (SELECT key FROM results)"
    )
    assert read_only_query(path, missing).num_rows == 0, "acknowledged rows are gone"
    [row] = read_only_query(path, "SELECT count(*) = count(DISTINCT key) AS once FROM results").to_pylist()
    assert row["once"]


def test_a_file_that_nobody_writes_is_asked_within_the_same_memory(tmp_path: Path) -> None:
    """In the command's own process, whose limit is what it was afterwards."""
    path = tmp_path / "r.duckdb"
    sql_in_a_process(path, "CREATE TABLE results (key VARCHAR)")
    before, limit = forget_peak(), resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(QueryError, match="more memory than queries may take"):
        read_only_query(path, SHAPES["doubled"])
    memory = QueryMemory()
    assert own("VmHWM") - before <= memory.growth + memory.answer
    assert resource.getrlimit(resource.RLIMIT_DATA) == limit
