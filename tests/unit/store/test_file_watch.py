"""A results file that is moved, removed, replaced, cut off or overwritten while the store has it open."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rabbitray.actors.errors import StoreUnavailableError
from rabbitray.actors.store.answers import Answer, Call
from rabbitray.actors.store.commit.writer import CommitThread
from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.file import wal_of
from rabbitray.actors.store.file_watch import BLOCK, Fault, Finding, Seen, compare
from rabbitray.actors.store.queries.snapshots import Snapshots
from rabbitray.actors.store.read_only import read_only_query
from rabbitray.actors.store.store import Store
from tests.kit.bait import is_locked
from tests.kit.results_file import empty_file
from tests.kit.store_rows import dead_rows, rows_of

COUNT = "SELECT count(*) AS n FROM results"


@dataclass(frozen=True, slots=True)
class Opened:
    """A store with 50 rows in its file and 50 more in its log."""

    store: Store
    path: Path
    epoch: int

    async def write(self, key: str) -> int:
        return (await self.store.write(self.epoch, rows_of([key]))).committed

    async def held(self) -> str:
        """Why nothing is committed; the same for each call, and for the counters."""
        said = []
        for call in (
            self.write("more"),
            self.store.record_dead_letters(self.epoch, dead_rows(["x"])),
            self.store.set_control("paused", True),
            self.store.register("b"),
            self.write("and more"),
        ):
            with pytest.raises(StoreUnavailableError) as caught:
                await call
            said.append(str(caught.value))
        assert {*said, (await self.store.stats()).paused} == {said[0]}
        assert "\n" not in said[0]
        return said[0]


@pytest.fixture
def config(tmp_path: Path) -> StoreConfig:
    """Where another results file lies beside it: `other.duckdb`."""
    empty_file(tmp_path / "other.duckdb")
    return StoreConfig(path=tmp_path / "r.duckdb", dedupe_capacity=1_000, lock_wait_s=0.3)


@pytest.fixture
async def opened(config: StoreConfig) -> AsyncIterator[Opened]:
    first = Store(config)
    await first.open()
    await first.write(await first.register("a"), rows_of([f"old{n}" for n in range(50)]))
    await first.close()
    store = Store(config)
    await store.open()
    epoch = await store.register("a")
    await store.write(epoch, rows_of([f"new{n}" for n in range(50)]))
    yield Opened(store, config.path, epoch)
    await store.close()


def _copy(source: Path, target: Path) -> None:
    """By another process: this one must not open what DuckDB has open."""
    subprocess.run(["cp", str(source), str(target)], check=True)


def _elsewhere(path: Path) -> None:
    """What a process does that is not ours: its opening and closing drops no lock of this one."""
    subprocess.run(
        [sys.executable, "-c", "import sys; open(sys.argv[1], 'r+b').write(b'x' * 100)", str(path)], check=True
    )


def _copied_over(path: Path) -> None:
    _copy(path.with_name("other.duckdb"), path)


def _replaced(path: Path) -> None:
    os.replace(path.with_name("other.duckdb"), path)


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (lambda path: path.rename(path.with_name("away.duckdb")), "moved away or removed"),
        (Path.unlink, "moved away or removed"),
        (_replaced, "replaced by another file"),
        (lambda path: os.truncate(path, 12), "it has 12 bytes"),
        (lambda path: os.truncate(path, 0), "it has 0 bytes"),
        (lambda path: os.truncate(path, path.stat().st_size - 100), "was cut off, from"),
        (_elsewhere, "overwritten by somebody else"),
        (_copied_over, r"overwritten by somebody else|was cut off"),
    ],
    ids=["moved", "removed", "replaced", "cut to 12", "emptied", "cut", "written into", "copied over"],
)
async def test_nothing_is_acknowledged_once_the_file_is_not_its_own(
    config: StoreConfig, harm: Callable[[Path], None], what: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(config)
    await store.open()
    opened = Opened(store, config.path, await store.register("a"))
    assert await opened.write("before") == 1
    harm(config.path)
    assert re.search(what, await opened.held())
    said = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(said) == 1, "said once, not for each try"
    with pytest.raises(StoreUnavailableError, match=what):
        await store.close()
    await store.close()


async def test_a_file_that_is_put_back_is_worked_on(opened: Opened) -> None:
    away = opened.path.rename(opened.path.with_name("away.duckdb"))
    assert "put it back" in await opened.held()
    away.rename(opened.path)
    assert await opened.write("after") == 1
    assert (await opened.store.stats()).paused == ""
    assert is_locked(opened.path)
    assert (await opened.store.query(COUNT)).to_pylist() == [{"n": 101}]


async def test_damage_is_not_forgotten_when_the_bytes_come_back(opened: Opened) -> None:
    """Whatever lies there now, DuckDB does not know it."""
    copy = opened.path.with_name("copy")
    _copy(opened.path, copy)
    os.truncate(opened.path, 12)
    await opened.held()
    _copy(copy, opened.path)
    assert "copy or another file" in await opened.held()
    with pytest.raises(StoreUnavailableError):
        await opened.store.close()


async def test_the_log_of_another_file_is_left_alone(opened: Opened) -> None:
    """A checkpoint at the end would remove it: it lies where this store's log lay."""
    os.replace(opened.path.with_name("other.duckdb"), opened.path)
    wal_of(opened.path).write_bytes(b"rows of somebody else")
    with pytest.raises(StoreUnavailableError, match="replaced"):
        await opened.store.close()
    assert wal_of(opened.path).read_bytes() == b"rows of somebody else"


async def test_a_file_that_was_moved_has_all_rows_at_the_end(opened: Opened) -> None:
    shutil.move(opened.path, opened.path.with_name("away.duckdb"))
    shutil.move(wal_of(opened.path), wal_of(opened.path.with_name("away.duckdb")))
    await opened.held()
    with pytest.raises(StoreUnavailableError, match="moved"):
        await opened.store.close()
    assert not opened.path.exists(), "no new one was made"
    assert read_only_query(opened.path.with_name("away.duckdb"), COUNT).to_pylist() == [{"n": 100}]


@pytest.mark.parametrize(
    "harm",
    [
        Path.unlink,
        lambda log: os.truncate(log, 10),
        lambda log: log.write_bytes(b"something else"),
        lambda log: log.rename(log.with_name("log")),
    ],
    ids=["removed", "cut off", "overwritten", "moved"],
)
async def test_rows_of_a_lost_log_are_put_into_the_file(
    opened: Opened, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    harm(wal_of(opened.path))
    assert await opened.write("after") == 1
    assert "has put its rows into it" in caplog.text
    copy = opened.path.with_name("copy.duckdb")
    _copy(opened.path, copy)
    _copy(wal_of(opened.path), wal_of(copy))
    assert read_only_query(copy, COUNT).to_pylist() == [{"n": 101}], "as after a crash"
    assert await opened.write("later") == 1


def test_after_a_failure_no_other_file_is_taken_up(config: StoreConfig) -> None:
    core, path = CommitThread(config, Snapshots()), config.path
    core.open()
    epoch = core.register("a")
    with pytest.raises(StoreUnavailableError):
        core.use(lambda con: con.execute("SELECT no_such_column"))  # an error that is not a row's closes the instance
    away = path.rename(path.with_name("away.duckdb"))
    with pytest.raises(StoreUnavailableError, match="moved away or removed"):
        core.register("b")
    assert not path.exists(), "no new one was made"
    os.replace(path.with_name("other.duckdb"), path)
    log = wal_of(path).rename(wal_of(away))
    with pytest.raises(StoreUnavailableError, match="replaced by another file"):
        core.register("b")
    assert "replaced" in core.stats().paused
    away.rename(path)
    log.rename(wal_of(path))
    assert core.register("b") == epoch + 1
    core.close()


@pytest.mark.slow
def test_no_checkpoint_is_taken_for_damage(config: StoreConfig, caplog: pytest.LogCaptureFixture) -> None:
    """Small logs and large ones, deletions that make the file smaller."""
    core = CommitThread(replace(config, checkpoint_at=200_000), Snapshots())
    core.open()
    epoch = core.register("a")
    large = [f'"{n * 1_000}"' for n in ("ab", "cde")] * 50
    logs = []
    for turn in range(60):
        rows = rows_of([f"{turn}-{n}" for n in range(100)], results=large)
        (answer,) = core.commit([Call(epoch=epoch, rows=rows if turn % 3 else rows.slice(0, 1))])
        assert isinstance(answer, Answer)
        if turn % 20 == 19:
            core.use(lambda con: con.execute("DELETE FROM results WHERE seq > 5"))
        logs.append(wal_of(config.path).stat().st_size if wal_of(config.path).exists() else 0)
    core.close()
    assert sum(not log for log in logs) > 20, "there were checkpoints"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


HEAD = b"\x00" * 8 + b"DUCK" + b"\x00" * (3 * BLOCK - 12)
BEFORE = Seen(file=(1, 2, 800_000), log=(1, 3, 500), head=HEAD)


def _checkpointed(head: bytes, *, times: int) -> bytes:
    for _ in range(times):
        counts = [int.from_bytes(head[at + 8 : at + 16], "little") for at in (BLOCK, 2 * BLOCK)]
        at = BLOCK * (1 + counts.index(min(counts)))
        head = head[: at + 8] + (max(counts) + 1).to_bytes(8, "little") + head[at + 16 :]
    return head


@pytest.mark.parametrize(
    ("now", "fault"),
    [
        (BEFORE, None),
        (replace(BEFORE, log=(1, 3, 700), file=(1, 2, 900_000)), None),
        (replace(BEFORE, log=None), Fault.LOG_LOST),
        (replace(BEFORE, log=(1, 4, 700)), Fault.LOG_LOST),
        (replace(BEFORE, log=(1, 3, 499)), Fault.LOG_LOST),
        (replace(BEFORE, file=(1, 2, 799_999)), Fault.DAMAGED),
        (replace(BEFORE, file=(1, 9, 800_000)), Fault.ELSEWHERE),
        (replace(BEFORE, file=(7, 2, 800_000)), Fault.ELSEWHERE),
        (replace(BEFORE, file=None, log=None), Fault.ELSEWHERE),
        (replace(BEFORE, head=_checkpointed(HEAD, times=1), log=None, file=(1, 2, 500_000)), None),
        (replace(BEFORE, head=_checkpointed(HEAD, times=2), log=(1, 4, 10)), None),
        (replace(BEFORE, head=_checkpointed(HEAD, times=5)), Fault.DAMAGED),
        (replace(BEFORE, head=b"x" + HEAD[1:]), Fault.DAMAGED),
        (replace(BEFORE, head=HEAD[: BLOCK + 30] + b"x" + HEAD[BLOCK + 31 :]), Fault.DAMAGED),
        (replace(BEFORE, head=b"", log=None), None),
    ],
)
def test_what_befell_a_file_is_told_from_two_looks(now: Seen, fault: Fault | None) -> None:
    found = compare(BEFORE, now)
    assert (found.fault if isinstance(found, Finding) else None) == fault
