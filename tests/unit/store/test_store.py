"""The store on its DuckDB file: restarts, group commit, bad rows, epochs, the commit guard, what is written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pyarrow as pa
import pytest

from rabbitray.actors.errors import FencedError, QueryError, StoreOpenError, StoreUnavailableError
from rabbitray.actors.store.answers import Answer, Call
from rabbitray.actors.store.commit.group_commit import GroupCommit
from rabbitray.actors.store.commit.transaction import Incoming, transact
from rabbitray.actors.store.commit.writer import CommitThread
from rabbitray.actors.store.config import ARROW_BYTES, StoreConfig
from rabbitray.actors.store.dedupe.keys import identities
from rabbitray.actors.store.file import CommitGuardError, connect, scalar, wal_of
from rabbitray.actors.store.queries.snapshots import Snapshots
from rabbitray.actors.store.read_only import ReadOnlyFile, read_only_query
from rabbitray.actors.store.schema import prepare
from rabbitray.actors.store.store import Store
from rabbitray.actors.telemetry import kpi
from rabbitray.actors.telemetry.metrics import NO_METRICS, MetricsBuffer, Recorder, Totals
from tests.kit.store_calls import calls_of
from tests.kit.store_rows import dead_rows, rows_of, sql_in_a_process
from tests.kit.virtual_time import in_virtual_time


@pytest.fixture
def config(tmp_path: Path) -> StoreConfig:
    return StoreConfig(path=tmp_path / "r.duckdb", dedupe_capacity=64 * 3, lock_wait_s=0.3)


@pytest.fixture
async def store(config: StoreConfig) -> AsyncIterator[Store]:
    made = Store(config)
    await made.open()
    yield made
    await made.close()


async def test_a_restart_keeps_epoch_keys_and_control(config: StoreConfig) -> None:
    first = Store(config)
    await first.open()
    epoch = await first.register("a")
    await first.write(epoch, rows_of([f"k{n}" for n in range(10)]))
    await first.set_control("paused", True)
    await first.close()
    again = Store(config)
    await again.open()
    answer = await again.write(epoch, rows_of(["k0", "k9", "new"]))
    assert answer.duplicates == (0, 1)
    assert await again.control() == {"paused": True}
    assert await again.register("b") == epoch + 1
    await again.close()


async def test_concurrent_writes_share_a_commit(store: Store) -> None:
    epoch = await store.register("a")
    before = (await store.stats()).commits
    answers = await asyncio.gather(*[store.write(epoch, rows_of([f"k{n}", "same"])) for n in range(40)])
    assert sum(answer.committed for answer in answers) == 41
    assert [answer.duplicates for answer in answers].count((1,)) == 39
    assert (await store.stats()).commits - before < 40


async def test_a_bad_row_hurts_no_neighbour_in_its_group(store: Store) -> None:
    epoch = await store.register("a")
    bad = rows_of([f"b{n}" for n in range(9)], results=["1"] * 7 + ["{broken", "null"])
    writes = [rows_of(["a"]), bad, rows_of(["c", "b0"])]
    answers = await asyncio.gather(*[store.write(epoch, rows) for rows in writes])
    assert [answer.committed for answer in answers] == [1, 8, 1]
    assert [index for index, _ in answers[1].rejected] == [7]
    assert "JSON" in answers[1].rejected[0][1]
    assert answers[2].duplicates == (1,)
    assert (await store.stats()).rejected == 1


@pytest.mark.slow
async def test_rows_beyond_the_memory_of_the_file_are_committed_in_several_transactions(config: StoreConfig) -> None:
    store = Store(replace(config, memory=128 * 2**20))
    await store.open()
    epoch = await store.register("a")
    large = [f'"{seed * 100_000}"' for seed in "abcdefghij"]
    calls = [rows_of([f"{n}-{row}" for row in range(100)], results=large * 10) for n in range(9)]  # 90 MB together
    one = rows_of([f"one-{row}" for row in range(800)] + ["0-0"], results=[*large * 80, "null"])  # 80 MB alone
    answers = await asyncio.gather(*[store.write(epoch, rows) for rows in [*calls, one]])
    assert [answer.committed for answer in answers] == [100] * 9 + [800]
    assert answers[-1].duplicates == (800,)
    await store.close()


class Weighed(Incoming):
    """Notes how large the tables are that are committed."""

    sizes: ClassVar[list[tuple[int, int]]] = []  # rows and bytes

    def append(self, *arguments: Any, **named: Any) -> None:  # Any: those of Incoming
        rows: pa.Table = arguments[0]
        self.sizes.append((rows.num_rows, rows.nbytes))
        super().append(*arguments, **named)


async def test_no_table_is_larger_than_a_transaction_may_be(config: StoreConfig) -> None:
    """Neither rows of one call nor those of several, which are joined; a row that is larger by itself goes alone."""
    core = CommitThread(replace(config, transaction_at=20_000), Snapshots(), Weighed)
    core.open()
    epoch = core.register("a")
    sizes = [[4_000] * 3, [100] * 50, [], [30_000], [9_000] * 7]
    calls = [
        Call(
            epoch=epoch,
            rows=rows_of([f"{n}-{at}" for at in range(len(some))], results=[f'"{"x" * size}"' for size in some]),
        )
        for n, some in enumerate(sizes)
    ]
    answers = core.commit(calls)
    core.close()
    assert [answer.committed for answer in answers if isinstance(answer, Answer)] == [len(some) for some in sizes]
    assert all(size <= 20_000 or rows == 1 for rows, size in Weighed.sizes)
    assert max(rows for rows, _ in Weighed.sizes) > 3, "and small ones are joined"


def test_a_transaction_fits_into_an_arrow_column_whatever_the_memory(config: StoreConfig) -> None:
    assert replace(config, memory=1024**3).transaction_bytes == 64 * 1024**2
    assert replace(config, memory=1024**4).transaction_bytes == ARROW_BYTES // 2


class FailsTheSecondTime(Incoming):
    """A connection whose disk is full from its second commit on."""

    commits = 0

    def append(self, *arguments: Any, **named: Any) -> None:  # Any: those of Incoming
        self.commits += 1
        if self.commits > 1:
            raise StoreUnavailableError("the disk is full")
        super().append(*arguments, **named)


async def test_what_was_committed_before_the_file_failed_is_answered_as_committed(config: StoreConfig) -> None:
    core = CommitThread(replace(config, transaction_at=1), Snapshots(), FailsTheSecondTime)
    core.open()
    epoch = core.register("a")
    first, second = core.commit([Call(epoch=epoch, rows=rows_of([key]), queue="jobs") for key in "ab"])
    assert isinstance(first, Answer)
    assert first.committed == 1
    assert isinstance(second, StoreUnavailableError)
    core.close()


class Miscounts(Incoming):
    """A connection whose first commit of rows alone holds fewer than were meant."""

    commits = 0

    def _commit_alone(self, expected: int) -> None:
        Miscounts.commits += 1
        super()._commit_alone(expected + (Miscounts.commits == 1))


async def test_a_commit_of_fewer_rows_than_meant_answers_nobody_and_is_learned_from_the_file(
    config: StoreConfig,
) -> None:
    core = CommitThread(config, Snapshots(), Miscounts)
    core.open()
    call = Call(epoch=core.register("a"), rows=rows_of(["a"]), queue="jobs")
    [answer] = core.commit([call])
    assert isinstance(answer, StoreUnavailableError)
    assert "held 1" in str(answer)
    assert core.commit([call]) == [Answer(duplicates=(0,))]
    core.close()


async def test_text_that_is_not_unicode_rejects_its_row_only(store: Store) -> None:
    epoch = await store.register("a")
    rows = rows_of(["a", "b", "c"])
    raw = pa.array([b"ok", b"\xff\xfe", b"ok"], pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    place = rows.column_names.index("worker")
    answer = await store.write(epoch, rows.set_column(place, rows.schema.field("worker"), broken))
    assert answer.committed == 2
    assert [index for index, _ in answer.rejected] == [1]


async def test_rows_with_other_columns_are_rejected_and_nothing_breaks(store: Store) -> None:
    epoch = await store.register("a")
    answer = await store.write(epoch, pa.table({"key": ["a"]}))
    assert [index for index, _ in answer.rejected] == [0]
    assert (await store.write(epoch, rows_of(["a"]))).committed == 1


async def test_duplicates_with_another_owner_are_counted_as_conflicts(store: Store) -> None:
    epoch = await store.register("a")
    await store.write(epoch, rows_of(["a", "b", "c", "d"], user_id="u1"))  # 3 of them are sealed, 1 is newest
    await store.write(epoch, rows_of(["a", "d"], user_id="u1"))
    assert (await store.stats()).conflicts == 0
    await store.write(epoch, rows_of(["a", "d"], user_id="u2"))
    assert (await store.stats()).conflicts == 2


async def test_each_conflict_has_a_row_with_what_the_later_message_gave(config: StoreConfig) -> None:
    """Sealed or newest, alone or among many, in one write or after a restart; what is known is the first result."""
    keys = [f"k{n}" for n in range(8)]  # 6 of them are sealed
    store = await reopened(config)
    epoch = await store.register("a")
    await store.write(epoch, rows_of(keys, payload={"to": "stranger"}, results=['"stranger"'] * 8))
    twice = pa.concat_tables([rows_of(["n"], payload=1), rows_of(["n"], payload=2)])
    assert (await store.write(epoch, twice)).conflicts == 1
    await store.close()
    buffer = MetricsBuffer(totals := Totals())
    store = await reopened(config, buffer)
    epoch = await store.register("b")
    real = rows_of([*keys, "new"], payload={"to": "ann"}, results=['"real"'] * 9)
    assert (await store.write(epoch, real)).conflicts == 8
    assert (await store.write(epoch, rows_of(["k0"], payload={"to": "ann"}))).conflicts == 1
    assert (await store.write(epoch, rows_of(keys, payload={"to": "stranger"}))).conflicts == 0
    assert (await store.stats()).conflicts == 9
    buffer.flush()
    assert totals.total(kpi.CONFLICTS.name) == 9
    sql = "SELECT key, result, payload_hash, recorded_at IS NOT NULL AS at FROM conflicts WHERE result = '\"real\"'"
    hashed = real["payload_hash"][0].as_py()
    assert (await store.query(f"{sql} ORDER BY key")).to_pylist() == [
        {"key": key, "result": '"real"', "payload_hash": hashed, "at": True} for key in keys
    ]
    kept = await store.query("SELECT DISTINCT result FROM results WHERE key LIKE 'k%'")
    assert kept.to_pylist() == [{"result": '"stranger"'}]
    await store.close()


async def reopened(config: StoreConfig, metrics: Recorder = NO_METRICS) -> Store:
    store = Store(config, metrics)
    await store.open()
    return store


def test_a_conflict_is_committed_with_its_neighbours_or_not_at_all(config: StoreConfig) -> None:
    con = connect(config)
    prepare(con, "here")
    incoming, row, other = Incoming(con), rows_of(["a"], payload=1), rows_of(["a"], payload=2)
    with pytest.raises(FencedError):
        incoming.append(row, identities(row), 0, 7, other)
    assert scalar(con, "SELECT count(*) FROM conflicts") == 0
    incoming.append(row, identities(row), 0, 0, other)
    assert scalar(con, "SELECT count(*) FROM conflicts") == scalar(con, "SELECT count(*) FROM results") == 1
    con.close()


async def test_values_arrive_as_they_were_sent(store: Store) -> None:
    epoch = await store.register("a")
    await store.write(epoch, rows_of(["a"], results=['{"n":[1,2]}']))
    await store.record_dead_letters(epoch, dead_rows(["x"]))
    await store.decide([{"pool": "p", "inputs": {"ready": 3}, "current": 1, "wanted": 2, "reason": "r"}])
    row = (await store.query("SELECT *, result->>'$.n[0]' AS first FROM results")).to_pylist()
    assert row[0]["first"] == "1"
    assert row[0]["finished_at"].isoformat() == "2026-01-02T03:04:05+00:00"
    dead = (await store.query("SELECT key, body, id FROM dead_letters")).to_pylist()[0]
    assert dead["body"] == b"\x00\xffx"
    assert dead["id"]
    assert (await store.query("SELECT inputs FROM decisions")).to_pylist() == [{"inputs": '{"ready":3}'}]


async def test_a_dead_letter_keeps_its_raw_properties_and_may_come_without_any(store: Store) -> None:
    epoch = await store.register("a")
    rows = dead_rows(["x"])
    raw = rows.column_names.index("raw_properties")
    await store.record_dead_letters(epoch, rows.set_column(raw, rows.schema.field(raw), [[b"\x80\x00\xff"]]))
    await store.record_dead_letters(epoch, dead_rows(["y"]).drop_columns(["raw_properties"]))
    dead = (await store.query("SELECT raw_properties AS raw FROM dead_letters ORDER BY key")).to_pylist()
    assert dead == [{"raw": b"\x80\x00\xff"}, {"raw": None}]


async def test_a_dead_letter_that_cannot_be_stored_is_a_value_error(store: Store) -> None:
    epoch = await store.register("a")
    rows = dead_rows(["x"])
    place = rows.column_names.index("headers")
    with pytest.raises(ValueError, match="JSON"):
        await store.record_dead_letters(epoch, rows.set_column(place, rows.schema.field("headers"), [["{no"]]))


def test_a_swallowed_error_can_never_commit(config: StoreConfig) -> None:
    con = connect(config)
    prepare(con, "here")

    def swallow() -> int:
        with pytest.raises(duckdb.Error):
            con.execute("INSERT INTO runs VALUES (NULL, 'x', now())")
        return 1

    with pytest.raises(duckdb.TransactionException):
        transact(con, swallow, expected=1, epoch=None)
    assert scalar(con, "SELECT count(*) FROM runs") == 0
    con.close()


def test_a_commit_of_fewer_rows_than_meant_is_rolled_back(config: StoreConfig) -> None:
    con = connect(config)
    prepare(con, "here")
    insert = "INSERT INTO runs VALUES (1, 'x', now())"
    with pytest.raises(CommitGuardError):
        transact(con, lambda: scalar(con, insert), expected=2, epoch=None)
    with pytest.raises(FencedError):
        transact(con, lambda: scalar(con, insert), expected=1, epoch=7)
    assert scalar(con, "SELECT count(*) FROM runs") == 0
    con.close()


def test_each_commit_of_a_connection_stores_its_own_rows(config: StoreConfig) -> None:
    """DuckDB must ask for the rows anew each time: the guard counts rows, and would not see the ones before."""
    con = connect(config)
    prepare(con, str(config.path))
    incoming = Incoming(con)
    for seq, key in enumerate(["a", "b"]):
        incoming.append(rows_of([key]), identities(rows_of([key])), seq, epoch=0)
        lost = rows_of(["lost"], results=["{no"])
        with pytest.raises(duckdb.Error, match="JSON"):
            incoming.append(lost, identities(lost), seq + 1, epoch=0)
    assert con.execute("SELECT seq, key FROM results ORDER BY seq").fetchall() == [(0, "a"), (1, "b")]
    assert scalar(con, "SELECT count(DISTINCT committed_at) FROM results") == 2, "each at its own time"
    con.close()


async def test_read_only_query_reads_a_file_that_nobody_writes(config: StoreConfig) -> None:
    store = Store(config)
    await store.open()
    await store.write(await store.register("a"), rows_of(["a", "b"]))
    await store.close()
    assert read_only_query(config.path, "SELECT count(*) AS n FROM results").to_pylist() == [{"n": 2}]
    with pytest.raises(StoreOpenError, match="no results file"):
        read_only_query(config.path.with_name("none.duckdb"), "SELECT 1")


async def test_a_statement_of_ours_that_takes_too_long_is_ended(config: StoreConfig) -> None:
    store = Store(config)
    await store.open()
    await store.close()
    with closing(ReadOnlyFile(config.path)) as file:
        began = time.monotonic()
        with pytest.raises(QueryError, match=r"took longer than 0\.2 s"):
            file.table("SELECT count(*) FROM range(1000000) a, range(1000000) b", timeout_s=0.2)
        assert time.monotonic() - began < 5.0
        assert file.table("SELECT 1 AS n", timeout_s=5.0).to_pylist() == [{"n": 1}]


async def test_close_before_open_is_allowed(config: StoreConfig) -> None:
    store = Store(config)
    await store.close()
    with pytest.raises(StoreUnavailableError):
        await store.write(1, rows_of(["a"]))


async def test_writes_submitted_before_close_get_their_answer(config: StoreConfig) -> None:
    store = Store(config)
    await store.open()
    epoch = await store.register("a")
    writes = [asyncio.create_task(store.write(epoch, rows_of([f"k{n}"]))) for n in range(5)]
    await asyncio.sleep(0)  # lets the tasks submit; no time passes
    await store.close()
    assert sum([(await write).committed for write in writes]) == 5


@pytest.mark.parametrize("writes", [0, 3], ids=["idle", "with writes in hand"])
async def test_what_comes_while_the_store_closes_is_refused_and_opens_nothing(config: StoreConfig, writes: int) -> None:
    store = Store(config)
    await store.open()
    epoch = await store.register("a")
    before = [asyncio.create_task(store.write(epoch, rows_of([f"k{n}"]))) for n in range(writes)]
    await asyncio.sleep(0)  # lets the tasks submit; no time passes
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    answers = await asyncio.gather(*calls_of(store, epoch), store.open(), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailableError] * len(answers)
    await closing
    assert [(await write).committed for write in before] == [1] * writes
    assert not wal_of(config.path).exists(), "it was checkpointed last"
    sql_in_a_process(config.path, "INSERT INTO runs VALUES (99, 'whoever opens it now', now())")


def test_a_commit_thread_opens_its_file_again_after_a_failure_and_not_after_the_end(config: StoreConfig) -> None:
    core = CommitThread(config, Snapshots())
    with pytest.raises(StoreUnavailableError, match="not open"):
        core.register("too early")
    core.open()
    with pytest.raises(StoreUnavailableError):
        core.use(lambda con: con.execute("SELECT no_such_column"))  # an error that is not a row's
    epoch = core.register("a")
    core.close()
    (answer,) = core.commit([Call(epoch=epoch, rows=rows_of(["late"]), queue="jobs")])
    assert isinstance(answer, StoreUnavailableError)
    for late in (lambda: core.register("b"), lambda: core.use(lambda con: scalar(con, "SELECT 1"))):
        with pytest.raises(StoreUnavailableError, match="not open"):
            late()
    assert read_only_query(config.path, "SELECT count(*) AS n FROM results").to_pylist() == [{"n": 0}]
    core.open()
    assert core.register("b") == epoch + 1
    core.close()


class NoMemory:
    """In place of the tags of rows that were committed: the dedupe finds no memory when it has learned half of them."""

    def tolist(self) -> list[int]:
        raise MemoryError


class Starved(Incoming):
    """Finds no memory once: before its commit, after it, or lets the dedupe find none then."""

    when: ClassVar[list[str]] = []

    def append(self, *arguments: Any, **named: Any) -> None:  # Any: those of Incoming
        moment = self.when.pop() if self.when else ""
        if moment == "before":
            raise MemoryError
        super().append(*arguments, **named)
        if moment == "after":
            raise MemoryError
        if moment == "half":
            object.__setattr__(arguments[1], "tags", NoMemory())


@pytest.mark.parametrize("moment", ["before", "after", "half"])
def test_a_commit_that_finds_no_memory_acknowledges_nothing_and_is_known_when_it_comes_again(
    config: StoreConfig, moment: str
) -> None:
    core = CommitThread(config, Snapshots(), Starved)
    core.open()
    epoch = core.register("a")
    call = Call(epoch=epoch, rows=rows_of(["a", "b"]), queue="jobs")
    Starved.when[:] = [moment]
    (lost,) = core.commit([call])
    assert isinstance(lost, StoreUnavailableError)
    with pytest.raises(StoreUnavailableError):
        core.use(lambda _: bytearray(2**60))
    (answer,) = core.commit([call])
    assert isinstance(answer, Answer)
    assert (answer.committed, answer.duplicates) == ((2, ()) if moment == "before" else (0, (0, 1)))
    core.close()
    assert read_only_query(config.path, "SELECT key FROM results ORDER BY 1")["key"].to_pylist() == ["a", "b"]


async def test_a_group_takes_whole_calls_up_to_its_rows() -> None:
    groups: list[int] = []
    gate = asyncio.Event()

    async def commit(calls: Sequence[Call]) -> Sequence[Answer | Exception]:
        groups.append(len(calls))
        await gate.wait()
        return [Answer(committed=call.rows.num_rows) for call in calls]

    group = GroupCommit(commit, rows=4, interval_s=0.0)
    rows = rows_of(["a", "b"])
    tasks = [asyncio.create_task(group.submit(Call(epoch=1, rows=rows))) for _ in range(5)]
    await asyncio.sleep(0)  # lets the tasks submit; no time passes
    gate.set()
    assert [answer.committed for answer in await asyncio.gather(*tasks)] == [2] * 5
    assert max(groups) == 2


@pytest.mark.parametrize(
    ("took_s", "every_s", "least", "most"),
    [
        (0.005, 0.01, 200, 200),  # time for each by itself: nobody waits
        (0.001, 0.0005, 25, 35),  # a quarter of 100 ms
        (0.01, 0.001, 10, 12),  # each 20 ms, the interval
        (0.1, 0.01, 20, 21),  # one after the other
    ],
)
def test_commits_that_are_crowded_take_a_quarter_of_the_time_and_wait_no_longer_than_the_interval(
    took_s: float, every_s: float, least: int, most: int
) -> None:
    """200 calls, one each `every_s`."""
    groups: list[int] = []

    async def commit(calls: Sequence[Call]) -> Sequence[Answer | Exception]:
        groups.append(len(calls))
        await asyncio.sleep(took_s)
        return [Answer() for _ in calls]

    async def main() -> None:
        group = GroupCommit(commit, rows=4, interval_s=0.02)
        calls = []
        for _ in range(200):
            calls.append(asyncio.create_task(group.submit(Call(epoch=1, rows=rows_of([])))))
            await asyncio.sleep(every_s)
        await asyncio.gather(*calls)

    in_virtual_time(main)()
    assert sum(groups) == 200
    assert least <= len(groups) <= most, groups


def test_three_calls_at_once_are_no_crowd() -> None:
    """Those who waited for each other once would else do so again and again, at the pace of their waiting."""
    waited: list[float] = []

    async def commit(calls: Sequence[Call]) -> Sequence[Answer | Exception]:
        await asyncio.sleep(0.005)
        return [Answer() for _ in calls]

    async def timed(group: GroupCommit) -> None:
        began = asyncio.get_running_loop().time()
        await group.submit(Call(epoch=1, rows=rows_of([])))
        waited.append(asyncio.get_running_loop().time() - began)

    async def main() -> None:
        group = GroupCommit(commit, rows=4, interval_s=0.02)
        for number in range(40):
            await asyncio.gather(*(timed(group) for _ in range(3 if number == 10 else 1)))
            await asyncio.sleep(0.005)

    in_virtual_time(main)()
    assert max(waited) < 0.011


async def test_a_commit_that_fails_fails_its_callers_and_not_the_next() -> None:
    outcomes: list[Exception | None] = [OSError("full"), None]

    async def commit(calls: Sequence[Call]) -> Sequence[Answer | Exception]:
        error = outcomes.pop(0)
        if error is not None:
            raise error
        return [Answer() for _ in calls]

    group = GroupCommit(commit, rows=4, interval_s=0.0)
    with pytest.raises(OSError, match="full"):
        await group.submit(Call(epoch=1, rows=rows_of([])))
    assert await group.submit(Call(epoch=1, rows=rows_of([]))) == Answer()
