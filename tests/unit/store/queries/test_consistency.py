"""Each answer is what was committed at one commit, while rows are added, deleted, and checkpoints are made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from rabbitray.actors.errors import QueryError
from rabbitray.actors.message.reply import FailedRun
from rabbitray.actors.store.config import MIB, StoreConfig
from rabbitray.actors.store.file import wal_of
from rabbitray.actors.store.queries.snapshots import CHECKPOINT
from rabbitray.actors.store.store import Store
from tests.kit.store_rows import dead_rows, rows_of

ROWS = 100
RUNS = 400
TEXT = '"' + "r" * 200 + '"'

_OF_RESULTS = "count(*) n, max(seq) newest, sum(seq) seqs, count(DISTINCT key) keys, sum(length(result)) bytes"
_RUNS = "(SELECT max(seq) FROM failures) run, (SELECT count(*) - max(seq) + min(seq) FROM failures) runs"
_ALL = f"SELECT {_OF_RESULTS}, {_RUNS} FROM results"
_SORTED = (
    f"SELECT {_OF_RESULTS}, {_RUNS} "
    "FROM (SELECT *, lag(seq) OVER (ORDER BY md5(key)) FROM results ORDER BY md5(result))"
)
_JOINED = (
    f"SELECT {_OF_RESULTS}, {_RUNS} FROM (SELECT a.* FROM results a JOIN results b USING (key) "
    "WHERE (SELECT count(*) FROM range(1000000) r(i) WHERE hash(i) % 7 = 3) > 0)"
)
QUESTIONS = (_ALL, _SORTED, _JOINED)


@dataclass(slots=True)
class Growing:
    """Commits without a pause: in each transaction some results, and failed runs, of which the oldest are deleted."""

    store: Store
    epoch: int
    log: Path
    begun: int = 0
    committed: int = 0
    checkpoints: int = 0
    grown: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        size = 0
        while True:
            first = self.begun * ROWS
            keys = [f"{first + n:09}" for n in range(ROWS)]
            runs = [_run(f"{self.begun}-{n}") for n in range(RUNS)]
            self.begun += 1
            answer = await self.store.write(
                self.epoch, rows_of(keys, results=[TEXT] * ROWS), queue="jobs", failures=runs
            )
            assert answer.committed == ROWS
            self.committed += 1
            before, size = size, self.log.stat().st_size if self.log.exists() else 0
            self.checkpoints += size < before
            if self.begun % 10 == 0:
                await self.store.record_dead_letters(self.epoch, dead_rows(keys))
            self.grown.set()


def _run(key: str) -> FailedRun:
    return FailedRun(
        key=key, message_id=key, attempts=1, reason="exception", category="transient", error="refused " * 5,
        error_class="E", traceback="t", raised_in="r", worker="w",
    )  # fmt: skip


@pytest.fixture
async def growing(tmp_path: Path) -> AsyncIterator[Growing]:
    """A checkpoint is due every few commits, and forced soon after."""
    store = Store(StoreConfig(path=tmp_path / "r.duckdb", checkpoint_at=2 * MIB, dedupe_capacity=1_000_000))
    await store.open()
    made = Growing(store=store, epoch=await store.register("a"), log=wal_of(tmp_path / "r.duckdb"))
    load = asyncio.create_task(made.run())
    await made.grown.wait()
    yield made
    load.cancel()
    with suppress(asyncio.CancelledError):
        await load
    await store.close()


def is_one_commit(row: dict[str, int], earliest: int, latest: int) -> None:
    n = row["n"]
    assert n % ROWS == 0, row
    assert earliest <= n // ROWS <= latest, (row, earliest, latest)
    assert row["newest"] == n - 1, row
    assert row["seqs"] == n * (n - 1) // 2, row
    assert row["keys"] == n, row
    assert row["bytes"] == n * len(TEXT), row
    assert row["run"] == n // ROWS * RUNS - 1, row
    assert row["runs"] == 1, row


async def _asked(growing: Growing, sql: str) -> bool:
    """Whether it was answered; else it was ended for a checkpoint."""
    earliest = growing.committed
    try:
        [row] = (await growing.store.query(sql, timeout_s=60)).to_pylist()
    except QueryError as error:
        if str(error) != CHECKPOINT:
            raise
        return False
    is_one_commit(row, earliest, growing.begun)
    return True


async def _exported(growing: Growing) -> bool:
    """As `_asked`: all rows, with a pause at each batch, in which the store goes on."""
    earliest, batches = growing.committed, []
    try:
        async with aclosing(growing.store.stream("SELECT seq, key, result FROM results", 2_048)) as stream:
            async for batch in stream:
                batches.append(batch)
                growing.grown.clear()
                await growing.grown.wait()
    except QueryError as error:
        if str(error) != CHECKPOINT:
            raise
        return False
    rows = pa.Table.from_batches(batches)
    n = rows.num_rows
    assert n % ROWS == 0
    assert earliest <= n // ROWS <= growing.begun
    assert rows["seq"].to_pylist() == list(range(n))
    assert rows["key"].to_pylist() == [f"{number:09}" for number in range(n)]
    assert pc.all(pc.equal(rows["result"], TEXT)).as_py()
    return True


async def _ask_again(growing: Growing, commits: int, ask: Callable[[], Awaitable[bool]], answers: int) -> None:
    """Until there are so many commits, two checkpoints, and so many answers."""
    answered = 0
    while growing.committed < commits or growing.checkpoints < 2 or answered < answers:
        answered += await ask()


@pytest.mark.slow
@pytest.mark.parametrize("commits", [12, pytest.param(250, marks=pytest.mark.long)])
async def test_each_answer_is_one_commit(growing: Growing, commits: int) -> None:
    """With 250 of them, failed runs are deleted, too."""
    await growing.store.query("SELECT 1")
    asking = [_ask_again(growing, commits, partial(_asked, growing, sql), 2) for sql in QUESTIONS]
    await asyncio.gather(*asking, _ask_again(growing, commits, partial(_exported, growing), 0))
