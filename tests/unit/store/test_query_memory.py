"""Queries that make values of gigabytes: they end, the store goes on committing, and its process stays small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rabbitray.actors.store.query import read_only_query
from tests.kit.hostile_queries import config_of
from tests.kit.root import ROOT

pytestmark = pytest.mark.slow  # a process that takes gigabytes where it may

MEMORY = config_of(Path()).query_memory


@pytest.mark.parametrize("names", [("doubled", "replaced", "list", "rows"), ("string_agg", "window", "json", "format")])
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
        assert ended["committed"], f"{name}: no commit while it was asked"
    [row] = read_only_query(path, "SELECT count(*) AS n, count(DISTINCT key) AS keys FROM results").to_pylist()
    assert row == {"n": found["acknowledged"], "keys": found["acknowledged"]}
