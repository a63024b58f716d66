"""Results files of earlier schema versions: each step whole or not at all, no row lost, whatever happens meanwhile."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import duckdb
import pytest

from rabbitray.actors.errors import QueryError, StoreOpenError
from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.dedupe.restore import load
from rabbitray.actors.store.file import connect, connect_read_only
from rabbitray.actors.store.migrations import MIGRATIONS, Migration, statements
from rabbitray.actors.store.queries.file import FileQueries
from rabbitray.actors.store.read_only import ReadOnlyFile, read_only_query, results_version
from rabbitray.actors.store.schema import CURRENT, SCHEMA_VERSION, TABLES, Schema, prepare, version_note
from rabbitray.actors.store.store import Store
from rabbitray.cluster.operate.doctor import results as doctor_results
from rabbitray.cluster.settings import load as load_settings
from tests.kit.later_schema import ADDED, ADDS, FILLS, NOW, bring, next_schema, schema_after, small
from tests.kit.recorded import kept_results, unpack_results, version_of
from tests.kit.small_disk import resize, small_disk
from tests.kit.store_rows import dead_rows, rows_of, sql_in_a_process

pytestmark = pytest.mark.slow  # files of some MB, processes that are killed

ROOT = next(parent for parent in Path(__file__).resolve().parents if (parent / "pyproject.toml").exists())
CHILD = "tests.kit.later_schema"
KEYS = [f"k{n}" for n in range(300)]
MANY = 1_000_000
WIDENS = ("UPDATE results SET a_lane = md5(key) || md5(a_lane) || md5(key || a_lane)",)
RANGE_ROWS = """
INSERT INTO results BY NAME SELECT n AS seq, 'm' || n AS key, 'jobs' AS queue, 'DONE' AS status,
 '{"ok":true}'::JSON AS result, 1 AS attempts, n::UBIGINT AS key_hash, now() AS committed_at
FROM range(300, %d) AS made(n)
"""


async def filled(path: Path, *sql: str) -> StoreConfig:
    """A results file of the present version with rows, sealed segments, dead letters and a control in it."""
    config = small(path)
    store = Store(config)
    await store.open()
    epoch = await store.register("a")
    await store.write(epoch, rows_of(KEYS))
    await store.record_dead_letters(epoch, dead_rows(["d0", "d1"]))
    await store.set_control("paused", False)
    await store.close()
    if sql:
        sql_in_a_process(path, *sql)
    return config


@pytest.fixture
async def config(tmp_path: Path) -> StoreConfig:
    return await filled(tmp_path / "results.duckdb")


def asked(path: Path, sql: str) -> list[dict[str, Any]]:
    return read_only_query(path, sql, max_rows=10**7).to_pylist()


def side_files(config: StoreConfig) -> dict[str, int]:
    """When each segment was written."""
    return {path.name: path.stat().st_mtime_ns for path in config.side_dir.glob("segment-*.arrow")}


def shape(path: Path) -> set[tuple[str, str, str, bool]]:
    """Each column: its table, name, type and whether it may be null."""
    sql = "SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns() WHERE NOT internal"
    return {tuple(row.values()) for row in asked(path, sql)}  # type: ignore[misc]  # four columns


# what is kept of earlier versions


def test_every_version_before_this_one_has_a_kept_file_and_a_step() -> None:
    """To make the file: run `tests/kit/record_upgrade.py` in a checkout of the version before."""
    assert {version_of(archive) for archive in kept_results()} >= {1, *range(1, SCHEMA_VERSION)}
    assert [step.to for step in MIGRATIONS] == list(range(2, SCHEMA_VERSION + 1))


@pytest.mark.parametrize("archive", kept_results(), ids=lambda archive: archive.name.split(".")[0])
async def test_a_kept_file_opens_with_every_row(archive: Path, tmp_path: Path) -> None:
    path = unpack_results(archive, tmp_path)
    tables = [row["table_name"] for row in asked(path, "SELECT table_name FROM duckdb_tables()")]
    before = {table: asked(path, f"SELECT * FROM {table}") for table in tables}
    assert all(before[table] for table in ("results", "dead_letters", "decisions", "runs", "store", "control"))
    config = StoreConfig(path=path, dedupe_capacity=1_000)
    segments = side_files(config)
    assert segments
    store = Store(config)
    await store.open()
    again = rows_of([row["key"] for row in before["results"]], queue=before["results"][0]["queue"])
    answer = await store.write(await store.register("new"), again)
    await store.close()
    assert (answer.committed, len(answer.duplicates)) == (0, len(before["results"]))
    assert side_files(config) == segments, "the sealed segments are of use as they are"
    assert results_version(path) == SCHEMA_VERSION
    for table in tables:
        columns = ", ".join(name for name in before[table][0] if name != "schema_version")
        rows = [{name: row[name] for name in row if name != "schema_version"} for row in before[table]]
        assert [row for row in asked(path, f"SELECT {columns} FROM {table}") if row in rows] == rows
    fresh = await filled(tmp_path / "fresh.duckdb")
    assert shape(path) == shape(fresh.path)


# the steps


async def test_a_step_adds_columns_and_a_table_and_keeps_what_is_there(tmp_path: Path) -> None:
    config = await filled(tmp_path / "r.duckdb", "CREATE TABLE somebodys AS SELECT 1 AS one")
    rows, segments = asked(config.path, "SELECT * FROM results ORDER BY seq"), side_files(config)
    store_id = bring(config, next_schema())
    assert asked(config.path, "SELECT schema_version, store_id FROM store") == [
        {"schema_version": NOW + 1, "store_id": store_id}
    ]
    added = asked(config.path, "SELECT * FROM results ORDER BY seq")
    assert added == [row | {"a_lane": None, "a_count": 7} for row in rows]
    assert asked(config.path, "SELECT note FROM some_notes") == [{"note": "rows: 300"}]
    assert asked(config.path, "SELECT * FROM somebodys") == [{"one": 1}]
    assert bring(config, next_schema()) == store_id, "and once is enough"
    assert side_files(config) == segments != {}


async def test_the_dedupe_knows_its_keys_after_a_step_that_rewrites_every_row(config: StoreConfig) -> None:
    segments = side_files(config)
    store_id = bring(config, schema_after())
    with closing(connect(config)) as con:
        assert len(load(con, config, store_id).sealed) == len(segments) == 4
    assert side_files(config) == segments, "none was made again"


async def test_two_steps_are_like_a_new_file(config: StoreConfig, tmp_path: Path) -> None:
    bring(config, schema_after())
    fresh = small(tmp_path / "fresh.duckdb")
    bring(fresh, schema_after())
    assert shape(config.path) == shape(fresh.path)
    assert asked(config.path, "SELECT DISTINCT a_lane = 'lane of ' || key AS filled FROM results") == [{"filled": True}]


async def refused(config: StoreConfig, schema: Schema, *words: str) -> None:
    """The open says in one line why not, and the file has all that it had, in the version that it had."""
    before = asked(config.path, "SELECT * FROM results ORDER BY seq"), shape(config.path)
    with pytest.raises(StoreOpenError) as caught:
        bring(config, schema)
    for word in (str(config.path), *words):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (asked(config.path, "SELECT * FROM results ORDER BY seq"), shape(config.path)) == before
    assert results_version(config.path) == NOW


def swallows(con: duckdb.DuckDBPyConnection) -> None:
    """An aborted transaction whose COMMIT would return normally and store nothing."""
    for sql in (*ADDS, "SELECT nothing FROM nowhere"):
        try:
            con.execute(sql)
        except duckdb.Error:
            continue


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("SELECT no_such_column FROM results", "no_such_column"),
        ("INSERT INTO results (seq, queue, status) VALUES (300, NULL, 'DONE')", "NOT NULL"),
        ("DELETE FROM results WHERE seq = 299", "acknowledged"),
        ("UPDATE results SET key_hash = 1 WHERE seq = 7", "acknowledged"),
        ("UPDATE results SET seq = seq + 1", "acknowledged"),
        ("ALTER TABLE dead_letters ADD COLUMN unforeseen INTEGER", "dead_letters"),
        ("DROP TABLE some_notes", "some_notes"),
        ("SELECT error('two\nlines')", "two"),
    ],
)
async def test_a_step_that_fails_half_way_changes_nothing(config: StoreConfig, more: str, words: str) -> None:
    await refused(config, next_schema(more=(more,)), words, f"the step to {NOW + 1} (a lane) failed")
    bring(config, next_schema())
    assert results_version(config.path) == NOW + 1, "a program whose step is right goes on from there"


async def test_a_step_that_swallows_an_error_is_not_committed(config: StoreConfig) -> None:
    await refused(config, next_schema(run=swallows), "aborted")


async def test_a_step_without_memory_says_what_to_do(config: StoreConfig) -> None:
    greedy = statements(*ADDS, "SELECT list(n) FROM range(100_000_000) AS made(n)")
    await refused(config, next_schema(run=greedy), "duckdb_memory")


async def test_a_step_without_room_on_the_disk_says_so_and_runs_once_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "24m") as disk:
        config = await filled(disk / "r.duckdb", RANGE_ROWS % 400_000, "CHECKPOINT")
        with pytest.raises(StoreOpenError, match=f"stays at schema version {NOW + 1}.*make room on the disk") as caught:
            bring(config, schema_after(statements(*FILLS, *WIDENS)))
        assert "\n" not in str(caught.value)
        resize(disk, "400m")
        whole(config, [NOW + 1])
        bring(config, schema_after(statements(*FILLS, *WIDENS)))
        assert results_version(config.path) == NOW + 2


async def test_a_step_that_ends_its_transaction_is_found_out(config: StoreConfig) -> None:
    with pytest.raises(StoreOpenError, match="ended its own transaction"):
        bring(config, next_schema(more=("COMMIT",)))
    assert results_version(config.path) == NOW


async def test_the_first_of_two_steps_stays_when_the_second_one_fails(config: StoreConfig) -> None:
    with pytest.raises(StoreOpenError, match=f"stays at schema version {NOW + 1}"):
        bring(config, schema_after(statements(*FILLS, "SELECT nothing FROM nowhere")))
    assert results_version(config.path) == NOW + 1
    assert asked(config.path, "SELECT DISTINCT a_lane, a_count FROM results") == [{"a_lane": None, "a_count": 7}]
    bring(config, schema_after())
    assert results_version(config.path) == NOW + 2


async def test_a_version_without_a_step_to_it_is_refused(config: StoreConfig) -> None:
    only_second = (*CURRENT.migrations, Migration(to=NOW + 2, what="lanes filled", run=statements(*FILLS)))
    schema = Schema(version=NOW + 2, tables=schema_after().tables, migrations=only_second)
    await refused(config, schema, f"schema version {NOW}", f"no step to {NOW + 1}")


async def test_an_unknown_column_of_the_same_version_is_refused(config: StoreConfig) -> None:
    bring(config, next_schema())
    sql_in_a_process(config.path, "ALTER TABLE some_notes ADD COLUMN more INTEGER")
    with pytest.raises(StoreOpenError, match=r"some_notes .* has other columns"):
        bring(config, next_schema())


# crashes


def killed(path: Path, way: str, *, after_s: float | None = None) -> str:
    """Kill -9 a process that migrates: as soon as it is in its second step, or so many seconds later."""
    command = [sys.executable, "-m", CHILD, str(path), way]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "in the step\n"
        if after_s is not None:
            with suppress(subprocess.TimeoutExpired):
                child.wait(after_s)
        child.kill()
        return child.stdout.read()


def whole(config: StoreConfig, versions: Iterable[int]) -> int:
    """Each row is there, and as the file's version has it: never half; the version."""
    version = results_version(config.path)
    assert version in versions
    filled_now = version == NOW + 2
    lanes = asked(config.path, "SELECT count(*) AS n, count(a_lane) AS lanes, count(DISTINCT key) AS keys FROM results")
    assert lanes[0]["n"] == lanes[0]["keys"]
    assert lanes[0]["lanes"] == (lanes[0]["n"] if filled_now else 0)
    assert ("a_lane" in asked(config.path, "SELECT * FROM dead_letters LIMIT 1")[0]) == filled_now
    return version


@pytest.mark.parametrize("way", ["between", "half-way"])
async def test_kill_9_leaves_the_version_of_the_last_whole_step(config: StoreConfig, way: str) -> None:
    killed(config.path, way)
    whole(config, [NOW + 1])
    assert asked(config.path, "SELECT count(*) AS n FROM results") == [{"n": 300}]
    bring(config, schema_after())
    whole(config, [NOW + 2])


async def test_kill_9_at_any_moment_leaves_one_version_or_the_next(tmp_path: Path, rounds: int) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    for turn in range(max(2, rounds)):
        config = await filled(tmp_path / f"{turn}.duckdb", RANGE_ROWS % 200_000)
        said = killed(config.path, "at-random", after_s=chance.uniform(0, 1.5))
        version = whole(config, [NOW + 1, NOW + 2])
        assert version == NOW + 2 or not said, f"seed {seed}, round {turn}: it said that it was done"
        bring(config, schema_after())
        assert asked(config.path, "SELECT count(*) AS n FROM results") == [{"n": 200_000}]
        whole(config, [NOW + 2])


def growth_of(path: Path) -> int:
    """Most bytes that a process took to migrate this file, beyond what Python and its libraries had taken before."""
    command = [sys.executable, "-m", CHILD, str(path), "at-random"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-3])


async def test_a_step_that_rewrites_a_million_rows_stays_within_its_memory(tmp_path: Path) -> None:
    config = await filled(tmp_path / "r.duckdb", RANGE_ROWS % MANY)
    growth = growth_of(config.path)
    assert growth < small(config.path).memory + 128 * 2**20, f"{growth:,} bytes"
    whole(config, [NOW + 2])


# other versions, read and refused


@pytest.fixture
async def newer(config: StoreConfig) -> StoreConfig:
    """A file that the next version of this program has written."""
    bring(config, next_schema())
    return config


async def test_a_file_of_a_newer_version_is_refused_and_kept(newer: StoreConfig) -> None:
    with pytest.raises(StoreOpenError) as caught:
        await Store(newer).open()
    assert str(caught.value) == (
        f"{newer.path} has schema version {NOW + 1}, this program writes {NOW}: "
        "use the program that made it, or choose another results file"
    )
    assert results_version(newer.path) == NOW + 1


async def test_a_file_of_another_version_can_be_read(newer: StoreConfig) -> None:
    assert asked(newer.path, "SELECT count(*) AS n FROM results") == [{"n": 300}]
    with closing(ReadOnlyFile(newer.path)) as file:
        assert sum(batch.num_rows for batch in file.stream("SELECT * FROM results", 50)) == 300
    with closing(FileQueries(newer.path)) as queries:
        assert queries.table("SELECT * FROM results", max_rows=500, timeout_s=60).num_rows == 300


async def test_what_a_file_of_another_version_does_not_have_is_told_with_its_version(newer: StoreConfig) -> None:
    told = f"schema version {NOW + 1}, this program's is {NOW}: use a newer program"
    with closing(FileQueries(newer.path)) as queries, closing(ReadOnlyFile(newer.path)) as file:
        for sql in ("SELECT no_such FROM results", "SELECT * FROM no_such"):
            with pytest.raises(QueryError, match=told):
                file.table(sql)
            with pytest.raises(QueryError, match=told):
                list(file.stream(sql, 50))
            with pytest.raises(QueryError, match=told):
                queries.table(sql, max_rows=50, timeout_s=60)
    with pytest.raises(QueryError) as caught:
        read_only_query(newer.path, "SELECT error('mine')")
    assert "schema version" not in str(caught.value)


async def test_a_file_of_an_earlier_version_is_told_with_what_brings_it_there(config: StoreConfig) -> None:
    with closing(connect_read_only(config.path)) as con:
        assert version_note(con) == ""
        note = version_note(con, next_schema())
    assert (
        note
        == f"the file has schema version {NOW}, this program's is {NOW + 1}: a pool that is run on it brings it there"
    )


async def test_the_doctor_says_that_a_newer_file_will_be_refused(newer: StoreConfig) -> None:
    loaded = load_settings({"results": newer.path}, {}, None)
    row = next(iter(doctor_results(loaded)))
    assert (row.level, f"schema version {NOW + 1}" in row.text) == ("refuse", True)


def test_a_store_table_without_a_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.duckdb"
    for version in ("NULL", "'one'", "0"):
        sql_in_a_process(path, f"CREATE OR REPLACE TABLE store AS SELECT {version} AS schema_version, 'x' AS store_id")
        with pytest.raises(StoreOpenError, match="names no schema version"):
            bring(small(path), CURRENT)


def test_no_column_of_a_test_is_in_the_real_tables() -> None:
    assert not ADDED.keys() & {name for columns in TABLES.values() for name in columns}


def test_prepare_of_nothing_makes_the_newest_version(tmp_path: Path) -> None:
    with closing(connect(small(tmp_path / "r.duckdb"))) as con:
        prepare(con, "here")
    assert results_version(tmp_path / "r.duckdb") == SCHEMA_VERSION
