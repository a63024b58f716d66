"""Queries that the store's end, their readers or a system without room end: each is told, and nothing is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from rabbitray.actors.errors import QueryError, StoreUnavailableError
from rabbitray.actors.store.config import QueryLimits, StoreConfig
from rabbitray.actors.store.file import wal_of
from rabbitray.actors.store.file_watch import FileWatch, Seen
from rabbitray.actors.store.queries.front import Queries
from rabbitray.actors.store.queries.process import QueryProcess
from rabbitray.actors.store.queries.snapshots import CLOSED, ENDED, Snapshots
from rabbitray.actors.store.store import Store
from tests.kit.eventually import eventually
from tests.kit.hostile_queries import OTHERS
from tests.kit.root import ROOT
from tests.kit.store_rows import rows_of

ENDLESS = OTHERS["endless"]
COUNT = "SELECT count(*) AS n FROM results"
MANY = "SELECT * FROM range(10000000)"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(StoreConfig(path=tmp_path / "r.duckdb", dedupe_capacity=100_000))
    await made.open()
    yield made
    await made.close()


async def test_an_export_that_the_stores_end_cuts_off_is_told(store: Store) -> None:
    """Also one whose reader takes the next batch after the end."""
    stream = store.stream(MANY, 2_048)
    await anext(stream)
    await store.query(COUNT)  # meanwhile the export has read as far ahead as it may
    await store.close()
    with pytest.raises((QueryError, StoreUnavailableError), match="the store closed"):
        async for _ in stream:
            pass


class OfACommit(Snapshots):
    """A commit goes on while the queries are closed, and publishes what it committed."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self._seen = seen
        self.publish(seen)
        self.withdraw()

    def close(self) -> None:
        super().close()
        self.publish(self._seen)


async def test_a_query_that_had_not_begun_when_the_store_closed_does_not_hold_it_up(tmp_path: Path) -> None:
    config = StoreConfig(path=tmp_path / "r.duckdb", query_processes=1)
    store = Store(config)
    await store.open()
    seen = FileWatch(config.path, wal_of(config.path)).seen
    snapshots = OfACommit(seen)
    queries = Queries(config, snapshots)
    queries.open()
    asked = asyncio.create_task(queries.table(ENDLESS, 10, 60))
    await eventually(lambda: any(thread.name.startswith("store-query") for thread in threading.enumerate()))
    closing = asyncio.create_task(queries.close())
    await asyncio.sleep(0)
    snapshots.publish(seen)
    await asyncio.wait_for(closing, 10)
    with pytest.raises(QueryError, match="the store closed"):
        await asked
    await store.close()


async def test_a_process_is_free_again_however_its_export_ends(store: Store) -> None:
    """Also where the reader goes away twice: its task is cancelled while it waits for the export's end."""
    for _ in range(2):
        stream = store.stream(MANY, 2_048)
        await anext(stream)
        leaving = asyncio.create_task(stream.aclose())
        for _ in range(3):
            await asyncio.sleep(0)
            leaving.cancel()
        with suppress(asyncio.CancelledError):
            await leaving
    for _ in range(2):
        with suppress(QueryError):
            asked = asyncio.create_task(store.query(ENDLESS, timeout_s=60))
            await asyncio.sleep(0)
            for _ in range(3):
                asked.cancel()
                await asyncio.sleep(0)
            with suppress(asyncio.CancelledError):
                await asked
    answers = await asyncio.gather(*(store.query(COUNT, timeout_s=30) for _ in range(3)))
    assert [answer.num_rows for answer in answers] == [1, 1, 1]


async def test_without_room_for_a_process_its_asker_is_told(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    store = Store(StoreConfig(path=tmp_path / "r.duckdb", temp_dir=tmp_path / "taken"))
    await store.open()
    with pytest.raises(QueryError, match=r"^no process can be started for the query: .*taken"):
        await store.query(COUNT)
    (tmp_path / "taken").unlink()
    assert (await store.query(COUNT)).to_pylist() == [{"n": 0}]
    await store.close()


async def test_a_folder_that_was_removed_is_told_and_made_anew(store: Store, tmp_path: Path) -> None:
    epoch = await store.register("a")
    await store.query(COUNT)
    [folder] = (tmp_path / "r.duckdb.tmp").iterdir()
    folder.rmdir()
    await store.write(epoch, rows_of(["a"]))
    with pytest.raises(QueryError, match="No such file or directory"):
        await store.query(COUNT)
    assert (await store.query(COUNT)).to_pylist() == [{"n": 1}]


def query_processes() -> list[psutil.Process]:
    """Those of this process, which may have other children: brokers of tests before."""
    alive = [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]
    return [one for one in alive if any("queries.child" in word for word in one.cmdline())]


async def test_a_process_that_is_stopped_is_ended_at_the_deadline(store: Store) -> None:
    await store.query(COUNT)
    [child] = query_processes()
    child.send_signal(signal.SIGSTOP)
    with pytest.raises(QueryError) as told:
        await store.query(COUNT, timeout_s=0.2)
    assert str(told.value) == ENDED
    assert (await store.query(COUNT)).num_rows == 1


def test_modules_in_the_folder_of_whoever_asks_are_not_run(tmp_path: Path) -> None:
    """`python -m` alone would put that folder first: a stranger's `json.py` in it, or one of his own."""
    (tmp_path / "json.py").write_text("raise SystemExit('run')")
    script = (
        "import sys; from pathlib import Path; from contextlib import closing\n"
        "from rabbitray.actors.store.queries.file import FileQueries\n"
        "from rabbitray.actors.store.file import connect\n"
        "from rabbitray.actors.store.config import StoreConfig\n"
        "import os; os.chdir(sys.argv[1]); path = Path('r.duckdb')\n"
        "connect(StoreConfig(path=path)).close()\n"
        "with closing(FileQueries(path)) as queries:\n"
        "    print(queries.table('SELECT 42 AS a', max_rows=1, timeout_s=60).to_pylist())\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-P", "-c", script, tmp_path], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.stdout == "[{'a': 42}]\n", ran.stderr


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.long)])
async def test_ten_queries_at_once_leave_no_descriptor_thread_or_process(store: Store, rounds: int) -> None:
    epoch = await store.register("a")
    await asyncio.gather(*(store.query(COUNT, timeout_s=60) for _ in range(10)))
    own = psutil.Process()
    before, threads = own.num_fds(), own.num_threads()
    for n in range(rounds):
        await store.write(epoch, rows_of([str(n)]))
        await asyncio.gather(*(store.query(COUNT, timeout_s=60) for _ in range(10)))
    assert own.num_fds() == before
    assert own.num_threads() - threads < rounds, "the loop's own executor may still grow by one"
    assert len(query_processes()) <= 3


async def test_who_asks_a_closed_store_is_told(tmp_path: Path) -> None:
    queries = Queries(StoreConfig(path=tmp_path / "r.duckdb"), Snapshots())
    queries.open()
    with pytest.raises(StoreUnavailableError, match=CLOSED):
        await queries.table("SELECT 1", 10, 60)
    await queries.close()


def test_a_process_that_was_killed_just_now_is_asked_no_more() -> None:
    process = QueryProcess(QueryLimits())
    first = process.start()
    process.kill()
    assert process.start() is not first
    process.close()
