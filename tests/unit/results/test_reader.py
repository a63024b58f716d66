"""Where a command reads results: the running pool, the file, or the file that it was told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from rabbitray.actors.errors import StoreOpenError
from rabbitray.cluster.operate import running_pool
from rabbitray.cluster.operate.running_pool import NotRunningError
from rabbitray.cluster.results import reader
from rabbitray.cluster.results.reader import results
from rabbitray.cluster.settings import Loaded, load
from tests.kit.fake_pool import FakePool


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "results.duckdb"
    with duckdb.connect(path) as made:
        made.execute("CREATE TABLE results AS SELECT 1 AS key")
    return path


def loaded_of(file: Path, *, named: bool) -> Loaded:
    own: dict[str, Any] = {"results": file} if named else {}
    return load(own, {} if named else {"RABBITRAY_RESULTS": str(file), "DATABASE_URL": ""}, None)


@contextmanager
def pool(_: object) -> Iterator[Any]:
    yield FakePool()


@contextmanager
def no_pool(_: object) -> Iterator[Any]:
    raise NotRunningError("no pool 'default' runs")
    yield


def where(loaded: Loaded) -> str:
    with results(loaded) as found:
        return found.where


@pytest.mark.parametrize("ray_here", [True, False])
def test_the_running_pool_is_asked_before_a_file_that_lies_there(
    file: Path, monkeypatch: pytest.MonkeyPatch, *, ray_here: bool
) -> None:
    monkeypatch.setattr(reader, "raylet_here", lambda: ray_here)
    monkeypatch.setattr(running_pool, "running", pool)
    expected = "running pool 'jobs'" if ray_here else f"file {file}"
    assert where(loaded_of(file, named=False)) == expected


def test_a_file_that_is_named_comes_first(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "raylet_here", lambda: True)
    monkeypatch.setattr(running_pool, "running", pool)
    assert where(loaded_of(file, named=True)) == f"file {file}"


def test_without_a_pool_it_is_the_file_and_without_both_the_error_names_both(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "raylet_here", lambda: True)
    monkeypatch.setattr(running_pool, "running", no_pool)
    assert where(loaded_of(file, named=False)) == f"file {file}"
    file.unlink()
    for named in (True, False):
        with pytest.raises(StoreOpenError, match=f"{file.name}.*no pool 'default' runs"):
            where(loaded_of(file, named=named))
