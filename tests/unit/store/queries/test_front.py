"""Queries of people beside the commits: whatever they ask, the store goes on, and each of them is told in one line."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from rabbitray.actors.errors import QueryError
from rabbitray.actors.store.commit.writer import CommitThread
from rabbitray.actors.store.config import MIB, StoreConfig
from rabbitray.actors.store.file import connect, wal_of
from rabbitray.actors.store.queries.front import Queries
from rabbitray.actors.store.queries.snapshots import ENDED, Snapshots
from rabbitray.actors.store.store import Store
from tests.kit.bait import is_locked
from tests.kit.eventually import eventually, eventually_sync
from tests.kit.hostile_queries import OTHERS, Load, config_of
from tests.kit.root import ROOT
from tests.kit.store_rows import rows_of

ENDLESS = OTHERS["endless"]
COUNT = "SELECT count(*) AS n FROM results"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(config_of(tmp_path / "r.duckdb"))
    await made.open()
    yield made
    await made.close()


def children() -> list[psutil.Process]:
    """The query processes of this one that live."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if "rabbitray.actors.store.queries.child" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("levenshtein", "parsed", "json"), id="some"),
        pytest.param(tuple(set(OTHERS) - {"levenshtein", "parsed", "json"}), id="others", marks=pytest.mark.long),
    ],
)
async def test_what_ended_the_store_or_never_ended_holds_up_nobody(store: Store, names: tuple[str, ...]) -> None:
    load = Load(store)
    commits = asyncio.create_task(load.run())
    for name in names:
        asked = asyncio.create_task(store.query(OTHERS[name], timeout_s=3))
        begun = load.acknowledged
        await eventually(lambda begun=begun: load.acknowledged > begun)  # type: ignore[misc]
        [row] = (await store.query(COUNT, timeout_s=60)).to_pylist()
        assert row["n"] > begun, name
        [told] = await asyncio.gather(asked, return_exceptions=True)
        assert isinstance(told, QueryError | pa.Table), name  # the planner's are answered on a fast machine
        assert "\n" not in str(told) or isinstance(told, pa.Table)
    commits.cancel()
    with suppress(asyncio.CancelledError):
        await commits
    assert not load.refused


async def test_a_query_whose_process_is_killed_says_so_and_the_next_one_is_answered(
    store: Store, tmp_path: Path
) -> None:
    asked = asyncio.create_task(store.query(ENDLESS, timeout_s=60))
    [child] = await eventually(children)
    child.kill()
    with pytest.raises(QueryError, match=r"^the query ended its process \(SIGKILL\): it goes too deep, or needs more"):
        await asked
    assert (await store.query("SELECT 1 AS a")).to_pylist() == [{"a": 1}]
    assert is_locked(tmp_path / "r.duckdb")


async def test_a_process_that_ended_between_two_questions_is_no_error(store: Store) -> None:
    await store.query(COUNT)
    [child] = children()
    child.kill()
    child.wait(10)
    assert (await store.query(COUNT)).to_pylist() == [{"n": 0}]


def test_a_store_that_is_killed_leaves_no_process_and_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "r.duckdb"
    with subprocess.Popen([sys.executable, "-m", "tests.kit.asking_store", path], cwd=ROOT, stdout=-1) as asking:
        assert asking.stdout is not None
        assert asking.stdout.readline() == b"asked\n"
        [child] = psutil.Process(asking.pid).children()
        asking.kill()
    eventually_sync(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    with connect(StoreConfig(path=path)) as con:
        assert con.execute(COUNT).fetchall() == [(1,)]


async def test_a_store_removes_what_a_killed_one_left_on_the_disk(tmp_path: Path) -> None:
    config = StoreConfig(path=tmp_path / "r.duckdb")
    left = config.spill_dir / "query-left"
    left.mkdir(parents=True)
    (left / "duckdb_temp").write_bytes(b"x")
    store = Store(config)
    await store.open()
    assert not left.exists()
    await store.query(COUNT)
    assert len(list(config.spill_dir.glob("query-*"))) == 1
    await store.close()
    assert not list(config.spill_dir.glob("query-*"))


async def test_nobody_who_asks_nothing_pays_and_the_processes_end_with_the_store(tmp_path: Path) -> None:
    store = Store(StoreConfig(path=tmp_path / "r.duckdb"))
    await store.open()
    await store.write(await store.register("a"), rows_of(["a"]))
    assert not children()
    await store.query(COUNT)
    [child] = children()
    assert not {"RABBITMQ_URL", "PYTEST_CURRENT_TEST"} & child.environ().keys()
    await store.close()
    assert not children()


@pytest.mark.slow
async def test_ten_queries_at_once_run_in_three_processes_and_all_end_in_time(store: Store) -> None:
    asked = [asyncio.create_task(store.query(ENDLESS, timeout_s=2)) for _ in range(10)]
    await eventually(lambda: len(children()) == 3)
    most = 0
    while not all(task.done() for task in asked):
        most = max(most, len(children()))
        await asyncio.sleep(0.05)  # looks at processes, which tell nobody when they start
    told = {str(error) for error in await asyncio.gather(*asked, return_exceptions=True)}
    assert told == {ENDED, "3 queries run at once, and none ended within the time of this one: ask again"}
    assert most == 3
    assert (await store.query("SELECT 1 AS a")).num_rows == 1


async def test_exports_leave_one_process_to_queries(store: Store) -> None:
    many = "SELECT * FROM range(10000000)"
    streams = [store.stream(many, 2_048) for _ in range(3)]
    for stream in streams[:2]:
        await anext(stream)
    waiting = asyncio.create_task(anext(streams[2]))
    assert (await store.query("SELECT 1 AS a")).num_rows == 1
    assert not waiting.done()
    await streams[0].aclose()
    assert (await waiting).num_rows == 0
    for stream in streams[1:]:
        await stream.aclose()


async def test_an_export_of_which_nothing_is_taken_gives_its_process_back(tmp_path: Path) -> None:
    config = replace(config_of(tmp_path / "r.duckdb"), query_processes=1)
    snapshots = Snapshots()
    core = CommitThread(config, snapshots)
    core.open()
    queries = Queries(config, snapshots, left_alone_s=0.01)
    queries.open()
    async with aclosing(queries.stream("SELECT * FROM range(10000000)", 2_048)) as stream:
        await anext(stream)
        assert (await queries.table("SELECT 1 AS a", 10, 60)).num_rows == 1
        assert snapshots.withdraw(unless_read=True), "nobody reads"
        with pytest.raises(QueryError, match=r"nothing of it was taken for 0\.01 s"):
            async for _ in stream:
                pass
    await queries.close()
    core.close()


LARGE = '"' + "r" * 1_000 + '"'


async def _grow(store: Store, epoch: int, path: Path, most: int) -> int:
    """Commits until the log has `most` bytes or a checkpoint was made; how many rows."""
    rows, longest = 0, 0
    while (now := wal_of(path).stat().st_size if wal_of(path).exists() else 0) >= longest and now < most:
        longest = now
        keys = [f"{most}-{rows + n}" for n in range(200)]
        rows += (await store.write(epoch, rows_of(keys, results=[LARGE] * 200))).committed
    return rows


async def test_a_checkpoint_waits_for_a_query_and_then_no_longer(tmp_path: Path) -> None:
    """The query is asked again by the store itself, of the newest snapshot; an export is told."""
    path = tmp_path / "r.duckdb"
    config = StoreConfig(path=path, checkpoint_at=MIB, dedupe_capacity=100_000)
    store = Store(config)
    await store.open()
    epoch = await store.register("a")
    stream = store.stream("SELECT * FROM range(100000000)", 2_048)
    await anext(stream)
    rows = await _grow(store, epoch, path, MIB * 5 // 4)
    assert wal_of(path).stat().st_size > MIB, "the checkpoint waits"
    asked = asyncio.create_task(store.query(f"{COUNT}, range(30000000) r(i) WHERE hash(i) % 3 = 5", timeout_s=60))
    rows += await _grow(store, epoch, path, 10 * MIB)
    assert not wal_of(path).exists() or wal_of(path).stat().st_size < MIB, "the checkpoint was made"
    with pytest.raises(QueryError, match="ended for a checkpoint of the results file: ask again"):
        async for _ in stream:
            pass
    assert (await asked).num_rows == 1
    assert (await store.query(COUNT)).to_pylist() == [{"n": rows}]
    await store.close()


async def test_a_lost_log_is_put_into_the_file_and_queries_go_on(tmp_path: Path) -> None:
    store = Store(StoreConfig(path=tmp_path / "r.duckdb"))
    await store.open()
    epoch = await store.register("a")
    await store.write(epoch, rows_of(["a"]))
    wal_of(tmp_path / "r.duckdb").unlink()
    await store.write(epoch, rows_of(["b"]))
    assert (await store.query(COUNT)).to_pylist() == [{"n": 2}]
    await store.close()


async def test_every_type_comes_through(store: Store) -> None:
    sql = (
        "SELECT 1::UHUGEINT a, [1, NULL] b, {'x': 1} c, MAP {'k': [1]} d, uuid() e, INTERVAL 1 DAY f, 'x'::BLOB g, "
        "union_value(n := 1) h, '1'::JSON i, now() j, TIME '01:02:03' k, '101'::BIT l, NULL m, 1.5::DECIMAL(30, 2) n"
    )
    [row] = (await store.query(sql)).to_pylist()
    assert row["b"] == [1, None]
    assert row["i"] == "1"
    assert len(row) == 14


async def test_what_a_query_may_take_of_memory_and_disk_is_set_and_stays_set(store: Store) -> None:
    """Of the disk a quarter of what is free at most: there is more here."""
    names = ("memory_limit", "max_temp_directory_size", "threads", "lock_configuration", "enable_external_access")
    [row] = (
        await store.query("SELECT " + ", ".join(f"current_setting('{name}')::VARCHAR" for name in names))
    ).to_pylist()
    memory, spill, *rest = row.values()
    assert memory == "128.0 MiB"
    assert spill.endswith("iB")
    assert float(spill.split()[0]) <= 4.0 or spill.endswith("MiB")
    assert rest == ["1", "true", "false"]
