"""Store: the async front. Blocking work runs on one commit thread, one for known keys, and in query processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import TypeVar

import pyarrow as pa

from rabbitray.actors.errors import StoreUnavailableError
from rabbitray.actors.message.reply import FailedRun
from rabbitray.actors.store.answers import Answer, Call, StoreStats
from rabbitray.actors.store.commit import records
from rabbitray.actors.store.commit.group_commit import GroupCommit
from rabbitray.actors.store.commit.instance import CLOSED
from rabbitray.actors.store.commit.writer import CommitThread
from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.file import StoreLockedError
from rabbitray.actors.store.known import winners_of
from rabbitray.actors.store.queries.front import Queries
from rabbitray.actors.store.queries.process import remove_leftovers
from rabbitray.actors.store.queries.snapshots import Snapshots
from rabbitray.actors.telemetry import kpi
from rabbitray.actors.telemetry.metrics import NO_METRICS, Recorder

T = TypeVar("T")

_LOCK_RETRY_S = 0.1


class Store:
    """The results of one pool in one DuckDB file: one writer, group commit, exact dedupe, live queries.

    Guarantee: a row that an Answer calls committed is on disk; of several rows with one (queue, key) the
    first committed one stays, across restarts and crashes. An error says that nothing may be acknowledged. Calls before
    `open`, or after `close` has begun, raise StoreUnavailableError.
    """

    def __init__(self, config: StoreConfig, metrics: Recorder = NO_METRICS) -> None:
        self._config = config
        self._metrics = metrics
        snapshots = Snapshots()
        self._core = CommitThread(config, snapshots)
        self._queries = Queries(config, snapshots)
        self._group = GroupCommit(self._commit, rows=config.commit_rows, interval_s=config.commit_interval_ms / 1_000)
        self._writer: ThreadPoolExecutor | None = None
        self._looking: ThreadPoolExecutor | None = None
        self._closing = asyncio.Event()

    async def open(self) -> None:
        """Open or create the file, waiting up to `lock_wait_s` for another process to let go of it.

        Raises StoreOpenError, one line: locked (with the holder's pid), no DuckDB file, other schema,
        damaged log.
        """
        if self._writer is not None:
            self._must_be_open()
            return
        self._closing.clear()
        self._writer = ThreadPoolExecutor(1, "store-commit")
        self._looking = ThreadPoolExecutor(1, "store-known")
        try:
            await self._open_unlocked()
            await self._on_writer(lambda: remove_leftovers(self._config.spill_dir))
            self._queries.open()
        except BaseException:
            self._shut_down()
            raise

    async def close(self) -> None:
        """Finish what was submitted, checkpoint, let go of the file. May be called twice, and before
        `open`.
        """
        if self._writer is None:
            return
        self._closing.set()
        await self._queries.close()
        await self._group.drain()
        writer = self._writer
        if writer is None:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(writer, self._core.close)
        finally:
            self._shut_down()

    async def register(self, router: str) -> int:
        """Issue a new epoch to this router; from now on every other epoch raises FencedError."""
        self._must_be_open()
        return await self._on_writer(lambda: self._core.register(router))

    async def write(
        self,
        epoch: int,
        rows: pa.Table,
        failed_keys: Sequence[str] = (),
        *,
        queue: str | None = None,
        failures: Sequence[FailedRun] = (),
    ) -> Answer:
        """Commit rows of RESULT_SCHEMA and say what became of each; which of `failed_keys` already have a
        result.

        `queue`: the queue of `failed_keys`; needed only where `rows` does not show exactly one. `failures` go into the
        table of that name, which is for people: that they are there is no part of the answer. Raises
        FencedError, StoreUnavailableError (nothing may be acknowledged; try again later), ValueError (queue
        not known).
        """
        self._must_be_open()
        call = Call(epoch=epoch, rows=rows, failed_keys=tuple(failed_keys), queue=queue, failures=tuple(failures))
        return await self._group.submit(call)

    async def known(self, queue: str, keys: Sequence[str]) -> dict[int, int]:
        """Which keys of a queue have their result, by index, each with the tag of the row that has it.

        Never waits for a commit, and knows each row of those that have ended. Raises StoreUnavailableError.
        """
        self._must_be_open()
        dedupe = self._core.lookup
        return {} if dedupe is None else await winners_of(dedupe, queue, keys, self._on_looker)

    async def record_dead_letters(self, epoch: int, rows: pa.Table) -> None:
        """Append dead letters (DEAD_LETTER_SCHEMA) with their bodies. Raises like `write`; ValueError for a
        bad row.
        """
        await self._on_core(lambda con: records.record_dead_letters(con, epoch, rows))

    async def decide(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Append decisions: decided_at, pool, inputs (any JSON value), current, wanted, reason,
        in_effect_at.
        """
        await self._on_core(lambda con: records.decide(con, rows))

    async def control(self) -> dict[str, object]:
        """The newest value of each control, e.g. `paused`, `fixed_size`."""
        return await self._on_core(records.control)

    async def set_control(self, name: str, value: object) -> None:
        """Set one control to a JSON value; it outlives the store."""
        await self._on_core(lambda con: records.set_control(con, name, value))

    async def stats(self) -> StoreStats:
        """Counters since this store opened."""
        self._must_be_open()
        return await self._on_writer(self._core.stats)

    async def query(self, sql: str, *, max_rows: int = 10_000, timeout_s: float = 10.0) -> pa.Table:
        """The answer to one read-only statement, at most `max_rows` rows; `truncated(table)` tells whether
        more exist.

        Sees all that was committed before it started and never waits for a commit. Raises QueryError,
        StoreUnavailableError.
        """
        self._must_be_open()
        return await self._queries.table(sql, max_rows, timeout_s)

    async def stream(self, sql: str, batch_rows: int = 50_000) -> AsyncIterator[pa.RecordBatch]:
        """All rows of one read-only statement from one snapshot, a record batch at a time, the first one
        empty.

        Close the iterator (`aclose`) to end it early. Raises QueryError, StoreUnavailableError.
        """
        self._must_be_open()
        async with aclosing(self._queries.stream(sql, batch_rows)) as batches:
            async for batch in batches:
                yield batch

    async def _open_unlocked(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._config.lock_wait_s
        while True:
            try:
                await self._on_writer(self._core.open)
                return
            except StoreLockedError:
                if loop.time() >= deadline or await self._closed_within(_LOCK_RETRY_S):
                    raise

    async def _closed_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:  # also where `close` began in the same turn of the loop
            return self._closing.is_set()
        return True

    async def _commit(self, calls: Sequence[Call]) -> Sequence[Answer | Exception]:
        began = time.perf_counter()
        answers = await self._on_writer(lambda: self._core.commit(calls))
        self._metrics.record(kpi.COMMIT_DURATION.name, (time.perf_counter() - began) * 1000)
        self._metrics.record(kpi.CONFLICTS.name, sum(one.conflicts for one in answers if isinstance(one, Answer)))
        self._metrics.record(kpi.COMMIT_ROWS.name, sum(call.rows.num_rows for call in calls))
        return answers

    async def _on_core(self, work: Callable[..., T]) -> T:
        self._must_be_open()
        return await self._on_writer(lambda: self._core.use(work))

    async def _on_writer(self, work: Callable[[], T]) -> T:
        if self._writer is None:
            raise StoreUnavailableError(CLOSED)
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    async def _on_looker(self, work: Callable[[], T]) -> T:
        if self._looking is None:
            raise StoreUnavailableError(CLOSED)
        return await asyncio.get_running_loop().run_in_executor(self._looking, work)

    def _must_be_open(self) -> None:
        if self._writer is None or self._closing.is_set():
            raise StoreUnavailableError(CLOSED)

    def _shut_down(self) -> None:
        for executor in (self._writer, self._looking):
            if executor is not None:
                executor.shutdown(wait=False)
        self._writer = self._looking = None
