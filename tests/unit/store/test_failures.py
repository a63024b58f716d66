"""The table `failures`: what a failed run leaves there, what it never costs, and that it stays short."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from rabbitray.actors.message.reply import FailedRun
from rabbitray.actors.message.rows import RESULT_SCHEMA
from rabbitray.actors.store.answers import Answer, Call, Write, decode_answer, decode_write, encode
from rabbitray.actors.store.commit.failures import SLICE_ROWS, FailureTable
from rabbitray.actors.store.commit.writer import CommitThread
from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.file import connect
from rabbitray.actors.store.queries.snapshots import Snapshots
from rabbitray.actors.store.read_only import read_only_query
from rabbitray.actors.store.schema import prepare
from rabbitray.actors.store.store import Store
from tests.kit.store_rows import rows_of, sql_in_a_process

NO_ROWS = RESULT_SCHEMA.empty_table()


def run(key: str | None, attempts: int = 1, **own: Any) -> FailedRun:
    plain: dict[str, Any] = {
        "message_id": f"m-{key}",
        "reason": "exception",
        "category": "transient",
        "error": "refused",
        "error_class": "ConnectionError",
        "traceback": "jobs.py:7 in handle: call()",
        "raised_in": "jobs.py:7",
        "worker": "shop-worker-0001",
    }
    return FailedRun(key=key, attempts=attempts, **(plain | own))


@pytest.fixture
def config(tmp_path: Path) -> StoreConfig:
    return StoreConfig(path=tmp_path / "results.duckdb", dedupe_capacity=1_000)


@pytest.fixture
async def store(config: StoreConfig) -> AsyncIterator[Store]:
    store = Store(config)
    await store.open()
    yield store
    await store.close()


async def kept(store: Store) -> list[dict[str, Any]]:
    return (await store.query("SELECT * EXCLUDE (recorded_at) FROM failures ORDER BY seq")).to_pylist()


def test_a_write_and_its_answer_cross_as_they_are() -> None:
    failures = (run("a"), run(None, 3, error="Zoë", traceback=""))
    write = Write(epoch=3, queue="jobs", span="00-a-b-01", failed_keys=("a", "b"), failures=failures)
    assert decode_write(encode(write)) == write
    answer = Answer(committed=2, duplicates=(1, 3), conflicts=1, rejected=((4, "too long"),), already=("b",))
    assert decode_answer(encode(answer)) == answer
    assert decode_answer(encode(Answer())) == Answer()


async def test_failed_runs_are_kept_with_their_traceback(store: Store) -> None:
    epoch = await store.register("a")
    answer = await store.write(
        epoch, rows_of(["done"]), ["done", "b"], queue="jobs", failures=[run("b"), run(None, traceback="")]
    )
    assert (answer.committed, answer.already) == (1, ("done",))
    first, second = await kept(store)
    assert first == {"seq": 0, "queue": "jobs"} | {name: getattr(run("b"), name) for name in run("b").__struct_fields__}
    assert (second["seq"], second["key"], second["message_id"], second["traceback"]) == (1, None, "m-None", None)


async def test_they_share_the_transaction_of_the_results(store: Store) -> None:
    epoch = await store.register("a")
    before = (await store.stats()).commits
    await store.write(epoch, rows_of(["done"]), queue="jobs", failures=[run("b")])
    moments = "SELECT committed_at AS moment FROM results UNION ALL SELECT recorded_at FROM failures"
    transactions = await store.query(f"SELECT count(DISTINCT moment) AS n FROM ({moments})")
    assert transactions.to_pylist() == [{"n": 1}], "now() is the time of the transaction"
    assert (await store.stats()).commits == before + 1


async def test_without_results_they_are_kept_too(store: Store) -> None:
    epoch = await store.register("a")
    for n in range(2):
        await store.write(epoch, NO_ROWS, ["b"], queue="jobs", failures=[run("b", n + 1)])
    many = [run(f"k{n}") for n in range(SLICE_ROWS + 5)]
    await store.write(epoch, NO_ROWS, queue="jobs", failures=many)
    assert [row["attempts"] for row in (await kept(store))[:2]] == [1, 2]
    assert [row["seq"] for row in await kept(store)] == list(range(len(many) + 2))


def test_a_bad_row_of_a_result_takes_no_failed_run_along_and_none_comes_twice(config: StoreConfig) -> None:
    core = CommitThread(config, Snapshots())
    core.open()
    epoch = core.register("a")
    calls = [
        Call(epoch=epoch, rows=rows_of(["a", "b"]), queue="jobs", failures=(run("x"),)),
        Call(epoch=epoch, rows=rows_of(["bad"], results=["no json {"]), queue="jobs", failures=(run("y"),)),
    ]
    answers = core.commit(calls)
    core.close()
    assert [(one.committed, len(one.rejected)) for one in answers if isinstance(one, Answer)] == [(2, 0), (0, 1)]
    rows = read_only_query(config.path, "SELECT key, seq FROM failures ORDER BY seq").to_pylist()
    assert rows == [{"key": "x", "seq": 0}, {"key": "y", "seq": 1}]


class Damaged(FailureTable):
    """One whose rows no table takes."""

    def take(self, calls: Any) -> None:
        super().take(calls)
        if self._waiting.num_rows:
            self._waiting = self._waiting.set_column(0, "key", pa.array(["not a number"])).rename_columns(
                ["attempts", *self._waiting.column_names[1:3], "key", *self._waiting.column_names[4:]]
            )


def test_what_cannot_be_kept_of_them_costs_no_result(config: StoreConfig, caplog: pytest.LogCaptureFixture) -> None:
    core = CommitThread(config, Snapshots())
    core._failures = Damaged()
    core.open()
    epoch = core.register("a")
    with caplog.at_level(logging.WARNING):
        [answer] = core.commit([Call(epoch=epoch, rows=rows_of(["a", "b"]), queue="jobs", failures=(run("x"),))])
    assert isinstance(answer, Answer)
    assert (answer.committed, answer.rejected) == (2, ())
    assert "1 failed runs are not in the table failures" in caplog.text
    core.close()


def filled(con: duckdb.DuckDBPyConnection, table: FailureTable, runs: list[FailedRun]) -> int:
    """Writes some and trims; how many are there."""
    table.take([Call(epoch=0, rows=NO_ROWS, queue="jobs", failures=tuple(runs))])
    table.write_rest(con, 0)
    [(count,)] = con.execute("SELECT count(*) FROM failures").fetchall()
    return int(count)


def test_the_newest_runs_are_kept_and_of_a_key_the_last_three(config: StoreConfig) -> None:
    with closing(connect(config)) as con:
        prepare(con, "here")
        table = FailureTable(kept=800)
        table.learn(con)
        assert filled(con, table, [run("often", n) for n in range(1, 301)]) == 300, "not yet too many"
        most = max(filled(con, table, [run(f"k{turn}-{n}") for n in range(100)]) for turn in range(40))
        assert most <= 800 + 400
        [(oldest, newest)] = con.execute("SELECT min(seq), max(seq) FROM failures").fetchall()
        assert newest == 300 + 4_000 - 1
        assert newest - oldest < 800 + 400
        filled(con, table, [run("often", n) for n in range(1, 1_001)])
        found = con.execute("SELECT attempts FROM failures WHERE key = 'often' ORDER BY seq").fetchall()
        assert found == [(998,), (999,), (1_000,)]


async def test_a_restart_goes_on_counting(config: StoreConfig) -> None:
    for turn in range(2):
        store = Store(config)
        await store.open()
        await store.write(await store.register("a"), NO_ROWS, queue="jobs", failures=[run(f"k{turn}")])
        await store.close()
    rows = read_only_query(config.path, "SELECT seq, key FROM failures ORDER BY seq").to_pylist()
    assert rows == [{"seq": 0, "key": "k0"}, {"seq": 1, "key": "k1"}]


async def test_a_file_that_was_given_other_failures_is_refused(config: StoreConfig) -> None:
    store = Store(config)
    await store.open()
    await store.close()
    sql_in_a_process(config.path, "ALTER TABLE failures ADD COLUMN more INTEGER")
    with pytest.raises(Exception, match="table failures"):
        await Store(config).open()
