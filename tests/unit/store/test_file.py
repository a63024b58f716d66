"""Which results files are refused, and how: held, foreign, of another version, damaged."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from rabbitray.actors.errors import StoreOpenError
from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.file import StoreLockedError, is_store, wal_of
from rabbitray.actors.store.store import Store
from tests.kit.file_holder import holder_of
from tests.kit.store_rows import rows_of, sql_in_a_process


async def test_a_second_process_is_refused_with_the_holders_pid(tmp_path: Path) -> None:
    config = StoreConfig(path=tmp_path / "r.duckdb", lock_wait_s=0.3)
    with holder_of(config.path) as holder:
        with pytest.raises(StoreLockedError, match=f"process {holder.pid}") as caught:
            await Store(config).open()
        assert caught.value.pid == holder.pid
        assert "\n" not in str(caught.value)
        holder.communicate()
    store = Store(config)
    await store.open()
    await store.close()


@pytest.mark.parametrize(
    ("title", "is_one"),
    [
        (b"ray::ResultStore\0", True), (b"ray::ResultStore.write", True), (b"ray::ResultStores", False),
        (b"python\0-m\0ray::ResultStore", False), (b"", False), (None, False),
    ],
)  # fmt: skip
def test_a_store_of_a_running_pool_is_known_by_the_title_of_its_process(
    tmp_path: Path, title: bytes | None, is_one: bool
) -> None:
    if title is not None:
        (tmp_path / "935").mkdir()
        (tmp_path / "935" / "cmdline").write_bytes(title)
    assert is_store(935, tmp_path) == is_one


@pytest.mark.parametrize("content", [b"", b"not a database" * 1000], ids=["empty", "text"])
async def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.duckdb"
    path.write_bytes(content)
    with pytest.raises(StoreOpenError, match="not a DuckDB file"):
        await Store(StoreConfig(path=path)).open()
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("CREATE TABLE results (a INTEGER)", "another program"),
        ("CREATE TABLE store (a INTEGER)", "another program"),
        ("CREATE TABLE store AS SELECT 99 AS schema_version, 'x' AS store_id", "schema version 99"),
    ],
    ids=["foreign-results", "foreign-store", "other-version"],
)
async def test_another_schema_is_refused(tmp_path: Path, sql: str, text: str) -> None:
    path = tmp_path / "r.duckdb"
    sql_in_a_process(path, sql)
    with pytest.raises(StoreOpenError, match=text):
        await Store(StoreConfig(path=path)).open()


async def test_a_table_with_another_column_is_refused(tmp_path: Path) -> None:
    store = Store(StoreConfig(path=tmp_path / "r.duckdb"))
    await store.open()
    await store.close()
    sql_in_a_process(tmp_path / "r.duckdb", "ALTER TABLE results ADD COLUMN more INTEGER")
    with pytest.raises(StoreOpenError, match="other columns"):
        await store.open()


def _damage(log: Path) -> bytes:
    content = bytearray(log.read_bytes())
    content[len(content) // 4] ^= 0xFF
    log.write_bytes(content)
    return bytes(content)


async def test_a_damaged_log_is_refused_and_never_deleted(tmp_path: Path) -> None:
    path = tmp_path / "r.duckdb"
    insert = "INSERT INTO t SELECT repeat('x', 100) || i FROM range(200) r(i)"
    sql_in_a_process(path, "CREATE TABLE t (a VARCHAR)", "CHECKPOINT", *[insert] * 50)
    content = _damage(wal_of(path))
    with pytest.raises(StoreOpenError, match="damaged"):
        await Store(StoreConfig(path=path)).open()
    assert wal_of(path).read_bytes() == content


async def test_with_a_private_umask_the_file_is_its_users_alone(tmp_path: Path) -> None:
    """So does what lies beside it: the write-ahead log, the side files of the dedupe. Tests run with 077."""
    store = Store(StoreConfig(path=tmp_path / "own" / "r.duckdb"))
    await store.open()
    await store.write(await store.register("test"), rows_of(["k"]))
    await store.close()
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "own").rglob("*")}
    assert (tmp_path / "own" / "r.duckdb") in found
    assert not {path: oct(mode) for path, mode in found.items() if mode & 0o077}
