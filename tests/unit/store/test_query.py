"""Reading while the store writes: what is refused, what is bounded, what a reader may not disturb."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.errors import QueryError, StoreUnavailableError
from rabbitray.actors.store.config import ARROW_BYTES, StoreConfig
from rabbitray.actors.store.query import FETCH_ROWS, gathered, truncated
from rabbitray.actors.store.store import Store
from rabbitray.actors.worker.outcome.result_json import MAX_RESULT_BYTES
from rabbitray.cluster.results.parquet import ParquetFile, write_parquet
from tests.kit.store_rows import rows_of

ENDLESS = "SELECT count(*) FROM range(100000000000) r(i) WHERE hash(i) % 7 = 3"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(StoreConfig(path=tmp_path / "r.duckdb"))
    await made.open()
    await made.write(await made.register("a"), rows_of([f"k{n}" for n in range(100)]))
    yield made
    await made.close()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 AS a",
        "VALUES (1)",
        "WITH a AS (SELECT 1) FROM a",
        "DESCRIBE results",
        "SHOW TABLES",
        "EXPLAIN SELECT 1",
    ],
)
async def test_reading_statements_are_answered(store: Store, sql: str) -> None:
    assert (await store.query(sql)).num_rows >= 1


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO runs VALUES (9, 'x', now())",
        "WITH x AS (INSERT INTO runs VALUES (9, 'x', now()) RETURNING *) SELECT * FROM x",
        "EXPLAIN ANALYZE INSERT INTO runs VALUES (9, 'x', now())",
        "DELETE FROM results",
        "DROP TABLE results",
        "COPY results TO 'out.csv'",
        "SELECT 1; SELECT 2",
        "BEGIN",
        "SET threads = 2",
        "CHECKPOINT",
        "SELECT * FROM checkpoint()",
        'SELECT * FROM "checkpoint" ()',
        "ATTACH 'x.duckdb'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM nowhere",
        "SELEC",
        "",
    ],
)
async def test_everything_else_is_refused_in_one_line(store: Store, sql: str) -> None:
    with pytest.raises(QueryError) as caught:
        await store.query(sql)
    assert "\n" not in str(caught.value)
    counts = "SELECT (SELECT count(*) FROM results) AS rows, (SELECT count(*) FROM runs) AS runs"
    assert (await store.query(counts)).to_pylist() == [{"rows": 100, "runs": 1}]


async def test_an_answer_is_capped_in_bytes_too(tmp_path: Path) -> None:
    """Ten thousand bodies of megabytes must not be gathered in the only process that can write."""
    store = Store(StoreConfig(path=tmp_path / "r.duckdb", answer_bytes=10_000))
    await store.open()
    await store.write(await store.register("a"), rows_of([f"k{n}" for n in range(100)]))
    cut = await store.query(f"SELECT '{'x' * 1_000}' AS body FROM results", max_rows=100)
    await store.close()
    assert 1 <= cut.num_rows <= 10
    assert truncated(cut)


async def test_rows_are_capped_and_marked(store: Store) -> None:
    cut = await store.query("SELECT * FROM results ORDER BY seq", max_rows=7)
    assert cut.num_rows == 7
    assert truncated(cut)
    assert not truncated(await store.query("SELECT * FROM results", max_rows=100))
    assert cut["seq"].to_pylist() == list(range(7))


@pytest.mark.slow
async def test_a_query_ends_at_its_deadline_and_commits_go_on(store: Store) -> None:
    epoch = await store.register("b")
    asked = asyncio.create_task(store.query(ENDLESS, timeout_s=3))
    assert (await store.write(epoch, rows_of(["new"]))).committed == 1
    assert not asked.done()
    with pytest.raises(QueryError, match="time"):
        await asked
    assert (await store.query("SELECT 1 AS a")).num_rows == 1


async def test_a_cancelled_query_lets_go(store: Store) -> None:
    for _ in range(4):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(store.query(ENDLESS, timeout_s=60), 0.1)
    assert (await store.query("SELECT 1 AS a", timeout_s=30)).num_rows == 1


async def test_a_query_sees_what_was_committed_before_it(store: Store) -> None:
    epoch = await store.register("b")
    for n in range(5):
        await store.write(epoch, rows_of([f"new{n}"]))
        found = await store.query("SELECT count(*) AS n FROM results")
        assert found.to_pylist() == [{"n": 101 + n}]


async def test_a_stream_gives_all_rows_of_one_snapshot(store: Store) -> None:
    epoch = await store.register("b")
    stream = store.stream("SELECT seq FROM results ORDER BY seq", 2_048)
    first = await anext(stream)
    assert first.num_rows == 0
    assert (await store.write(epoch, rows_of(["late"]))).committed == 1
    assert [n for batch in [b async for b in stream] for n in batch["seq"].to_pylist()] == list(range(100))


async def test_an_error_in_the_midst_of_the_rows_is_a_query_error_too(store: Store) -> None:
    """DuckDB tells it to Arrow, which raises an error of its own."""
    sql = "SELECT CASE WHEN i = 50000 THEN error('no such rate') ELSE i END FROM range(60000) r(i)"
    with pytest.raises(QueryError, match=r"^Invalid Input Error: no such rate$"):
        await store.query(sql, max_rows=100_000)
    with pytest.raises(QueryError, match="no such rate"):
        async for _ in store.stream(sql):
            pass
    assert (await store.query("SELECT 1 AS a")).num_rows == 1


def test_what_is_fetched_at_once_fits_into_an_arrow_array() -> None:
    assert FETCH_ROWS * MAX_RESULT_BYTES < ARROW_BYTES


@given(
    sizes=st.lists(st.integers(0, FETCH_ROWS), max_size=40), rows=st.integers(1, 500), most_bytes=st.integers(1, 5_000)
)
def test_fetched_rows_are_gathered_in_order_to_bounded_batches(sizes: list[int], rows: int, most_bytes: int) -> None:
    numbers = iter(range(10**6))
    fetched = [pa.record_batch({"n": pa.array([next(numbers) for _ in range(size)], pa.int64())}) for size in sizes]
    batches = list(gathered(fetched, rows, most_bytes))
    assert [n for batch in batches for n in batch["n"].to_pylist()] == list(range(sum(sizes)))
    for batch in batches:
        assert batch.num_rows <= max(rows, FETCH_ROWS)
        assert batch.nbytes < most_bytes + 8 * FETCH_ROWS
    for one, following in pairwise(batches):
        full = one.num_rows + following.num_rows > min(rows, FETCH_ROWS)
        assert full or one.nbytes + 8 * FETCH_ROWS > most_bytes, "no smaller than need be"


async def test_a_stream_left_open_does_not_hold_up_close(tmp_path: Path) -> None:
    made = Store(StoreConfig(path=tmp_path / "other.duckdb"))
    await made.open()
    stream = made.stream("SELECT * FROM range(1000000)", 2_048)
    await anext(stream)
    await anext(stream)
    await made.close()
    await stream.aclose()
    await made.open()
    await made.close()


async def test_an_endless_query_does_not_hold_up_close(tmp_path: Path) -> None:
    made = Store(StoreConfig(path=tmp_path / "other.duckdb"))
    await made.open()
    asked = asyncio.create_task(made.query(ENDLESS, timeout_s=60))
    await asyncio.sleep(0)  # lets the task start; no time passes
    await made.close()
    with pytest.raises((QueryError, StoreUnavailableError)):
        await asked


async def test_export_appears_under_its_name_only_when_whole(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    batches = [batch async for batch in store.stream("SELECT seq, key FROM results ORDER BY seq")]
    path = write_parquet(batches, out, "results.parquet")
    assert path is not None
    assert pq.read_table(path)["seq"].to_pylist() == list(range(100))
    with pytest.raises(RuntimeError):
        _write_and_fail(batches[1], out)
    assert [entry.name for entry in out.iterdir()] == ["results.parquet"]


def _write_and_fail(batch: pa.RecordBatch, out: Path) -> None:
    with ParquetFile(out, "broken.parquet") as file:
        file.write(batch)
        raise RuntimeError("the caller failed")
