"""kill -9 at random points and a full disk: acknowledged rows stay, none twice."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rabbitray.actors.errors import StoreOpenError, StoreUnavailableError
from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.file import wal_of
from rabbitray.actors.store.read_only import read_only_query
from rabbitray.actors.store.store import Store
from tests.kit.root import ROOT
from tests.kit.small_disk import resize, small_disk
from tests.kit.store_crash_child import config_of
from tests.kit.store_rows import rows_of

pytestmark = pytest.mark.slow  # processes that are killed


def _write_until_killed(path: Path, turn: int, groups: int) -> set[str]:
    """Kill -9 the child after this many acknowledged groups; the keys of whole groups that it printed."""
    command = [sys.executable, "-m", "tests.kit.store_crash_child", str(path), str(turn)]
    acked: set[str] = set()
    group: list[str] = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line != ".\n":
                group.append(line.strip())
                continue
            acked.update(group)
            group = []
            groups -= 1
            if groups == 0:
                child.kill()
    assert groups <= 0, "the child ended by itself"
    return acked


async def test_kill_9_loses_no_acknowledged_row_and_doubles_none(tmp_path: Path, rounds: int) -> None:
    path = tmp_path / "r.duckdb"
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    acked: set[str] = set()
    for turn in range(max(2, rounds)):  # a writer goes on in the file of one that was killed
        acked |= _write_until_killed(path, turn, chance.randint(5, 60))
        found = read_only_query(path, "SELECT key FROM results", max_rows=10**7)["key"].to_pylist()
        assert len(found) == len(set(found)), f"seed {seed}, round {turn}: a key has two rows"
        assert acked <= set(found), f"seed {seed}, round {turn}: an acknowledged row is gone"
    store = Store(config_of(path))
    await store.open()
    answer = await store.write(await store.register("last"), rows_of(sorted(acked)))
    await store.close()
    assert answer.committed == 0
    assert len(answer.duplicates) == len(acked)


async def test_a_log_that_lost_sealed_rows_is_refused(tmp_path: Path) -> None:
    """DuckDB takes a damaged length field for a torn tail and drops what follows: the segments notice it."""
    path = tmp_path / "r.duckdb"
    _write_until_killed(path, 0, 40)
    log = wal_of(path)
    os.truncate(log, 0)
    with pytest.raises(StoreOpenError, match="rows were acknowledged and the table holds"):
        await Store(config_of(path)).open()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as place:
        yield place


@pytest.mark.parametrize("threshold", [2**30, 2**20], ids=["in-the-log", "in-a-checkpoint"])
async def test_a_full_disk_pauses_and_loses_nothing(disk: Path, threshold: int) -> None:
    config = StoreConfig(path=disk / "r.duckdb", checkpoint_at=threshold, dedupe_capacity=64 * 1000)
    store = Store(config)
    await store.open()
    epoch = await store.register("a")
    reader = store.stream("SELECT * FROM range(1000000)", 2_048)
    await anext(reader)
    acked, keys, reason = await _fill(store, epoch)
    assert "\n" not in reason
    assert (await store.stats()).paused
    resize(disk, "120m")
    answer = await store.write(epoch, rows_of([*keys, *acked[:50]]))
    assert answer.committed + len(answer.duplicates) == 250
    assert (await store.stats()).paused == ""
    await reader.aclose()
    await store.close()
    found = read_only_query(config.path, "SELECT key FROM results", max_rows=10**7)["key"].to_pylist()
    assert len(found) == len(set(found))
    assert set(found) == {*acked, *keys}


async def _fill(store: Store, epoch: int) -> tuple[list[str], list[str], str]:
    """Write until the disk is full: the acknowledged keys, those of the write that failed, and why."""
    acked: list[str] = []
    for turn in range(2_000):
        keys = [f"{turn}-{n}-{random.getrandbits(256):x}" for n in range(200)]
        try:
            await store.write(epoch, rows_of(keys))
        except StoreUnavailableError as error:
            return acked, keys, str(error)
        acked += keys
    raise AssertionError("the disk never got full")


def test_nothing_in_the_process_opens_the_file_beside_duckdb(tmp_path: Path) -> None:
    """The lock is dropped by any open and close in the process; run apart, since audit hooks cannot be removed."""
    command = [sys.executable, "-m", "tests.kit.store_audit_child", str(tmp_path / "r.duckdb")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "opens: 0, locked: True\n", done.stderr
