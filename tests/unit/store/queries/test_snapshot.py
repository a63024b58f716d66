"""The file and its log up to one commit: what lies behind the cut is not seen, however torn."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from rabbitray.actors.errors import QueryError
from rabbitray.actors.store.config import MIB, QueryLimits, StoreConfig
from rabbitray.actors.store.file import connect, connect_snapshot, wal_of
from rabbitray.actors.store.file_watch import FileWatch
from rabbitray.actors.store.queries.snapshot import Place, Snapshot
from rabbitray.actors.store.queries.snapshot_files import URL, SnapshotFiles

COUNT = "SELECT count(*), sum(n) FROM t"


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Rows in the file and in its log."""
    con = connect(StoreConfig(path=tmp_path / "my results.duckdb"))
    con.execute("CREATE TABLE t (n BIGINT)")
    con.execute("INSERT INTO t FROM range(100000)")
    con.execute("CHECKPOINT")
    con.execute("INSERT INTO t FROM range(100)")
    yield con
    con.close()


def snapshot_of(path: Path) -> Snapshot:
    seen = FileWatch(path, wal_of(path)).seen
    assert seen.file is not None
    return Snapshot(serial=1, file=Place(*seen.file), log=None if seen.log is None else Place(*seen.log))


def ask(path: Path, snapshot: Snapshot, sql: str = COUNT) -> list[tuple[object, ...]]:
    files = SnapshotFiles(path, snapshot)
    con = connect_snapshot(files, URL, path, QueryLimits(duckdb=100 * MIB))
    try:
        return con.execute(sql).fetchall()
    finally:
        con.close()
        files.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "my results.duckdb"


def test_what_was_committed_later_is_not_seen(writing: duckdb.DuckDBPyConnection, path: Path) -> None:
    at_first = ask(path, cut := snapshot_of(path))
    assert at_first == writing.execute(COUNT).fetchall()
    for _ in range(3):
        writing.execute("INSERT INTO t FROM range(200000)")  # into the file itself, past the log
        writing.execute("INSERT INTO t FROM range(10)")
        assert ask(path, cut) == at_first
    assert ask(path, snapshot_of(path)) == writing.execute(COUNT).fetchall()


def test_a_commit_that_is_half_written_is_not_seen(
    tmp_path: Path, writing: duckdb.DuckDBPyConnection, path: Path
) -> None:
    """At each length of the log's last bytes: the cut is where the one before it ended."""
    before, at_first = snapshot_of(path), ask(path, snapshot_of(path))
    writing.execute("INSERT INTO t VALUES (1), (2)")
    assert before.log is not None
    torn = tmp_path / "torn.duckdb"
    torn.write_bytes(path.read_bytes())  # a copy: the lock of the first one is lost by that, which is not used here
    whole = wal_of(path).read_bytes()
    for length in [*range(before.log.size, len(whole), 7), len(whole)]:
        wal_of(torn).write_bytes(whole[:length])
        cut = Snapshot(serial=1, file=_place(torn), log=_place(wal_of(torn), before.log.size))
        assert ask(torn, cut) == at_first, length
    wal_of(torn).write_bytes(whole[: before.log.size] + os.urandom(1_000))
    assert ask(torn, Snapshot(serial=1, file=_place(torn), log=_place(wal_of(torn), before.log.size))) == at_first


def test_the_database_has_the_name_that_the_file_would_give_it(writing: duckdb.DuckDBPyConnection, path: Path) -> None:
    name = writing.execute("SELECT current_database()").fetchall()
    assert ask(path, snapshot_of(path), "SELECT current_database()") == name
    memory = path.with_name("memory.duckdb")
    os.link(path, memory)
    os.link(wal_of(path), wal_of(memory))
    assert ask(memory, snapshot_of(path), "SELECT current_database()") == [("results",)]


@pytest.mark.parametrize(
    "name",
    [
        "main.duckdb",
        "Temp.db",
        "system",
        ".hidden",
        ".a.b",
        "x.y.z",
        "pg_catalog.duckdb",
        "information_schema.db",
        "r's.db",
        'x"y.db',
        "n\nl.db",
        "[a]*.db",
        "d\u00e9.db",
        "SELECT",
        "http:x",
    ],
)
def test_a_file_of_any_name_is_asked_as_duckdb_would(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with closing(connect(StoreConfig(path=path))) as con:
        con.execute("CREATE TABLE t (n BIGINT)")
        con.execute("INSERT INTO t VALUES (1)")
        sql = "SELECT current_database(), current_schema(), sum(n) FROM t"
        assert ask(path, snapshot_of(path), sql) == con.execute(sql).fetchall()
        assert ask(path, snapshot_of(path), "SELECT n FROM main.t") == [(1,)]


def test_another_file_in_its_place_is_refused(writing: duckdb.DuckDBPyConnection, path: Path) -> None:
    seen = snapshot_of(path)
    with pytest.raises(QueryError, match="is not the file that the store has open"):
        SnapshotFiles(path, Snapshot(serial=1, file=Place(seen.file.device, seen.file.inode + 1, 10), log=None))
    with pytest.raises(QueryError, match="No such file"):
        SnapshotFiles(path.with_name("none"), seen)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (1)",
        "ATTACH '{path}'",
        "SELECT * FROM read_text('{path}')",
        "COPY t TO 'snapshot://results'",
        "COPY t TO '{path}.csv'",
    ],
)
def test_nothing_else_is_read_or_written(writing: duckdb.DuckDBPyConnection, path: Path, sql: str) -> None:
    """Also where the guard were passed."""
    before = path.stat().st_mtime_ns, sorted(os.listdir(path.parent))
    with pytest.raises(duckdb.Error):
        ask(path, snapshot_of(path), sql.format(path=path))
    assert (path.stat().st_mtime_ns, sorted(os.listdir(path.parent))) == before


def _place(path: Path, size: int | None = None) -> Place:
    seen = path.stat()
    return Place(seen.st_dev, seen.st_ino, seen.st_size if size is None else size)
