"""Queries: the async front of the query processes of one store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

import pyarrow as pa

from rabbitray.actors.errors import QueryError, StoreUnavailableError
from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.queries.frames import Question
from rabbitray.actors.store.queries.process import Query, QueryProcess
from rabbitray.actors.store.queries.snapshots import CHECKPOINT, CLOSED, ENDED, Snapshots
from rabbitray.actors.store.query import TABLE_ROWS, as_table

T = TypeVar("T")

LEFT_ALONE_S: Final = 60.0
"""An export of which nothing is taken for so long is ended: it holds a process, and the next checkpoint up."""

_WAIT_S: Final = 30.0  # of an export for a process
_READ_AHEAD = 2  # batches of an export


@dataclass(slots=True)
class _Open:
    """What there is from `open` to `close`. `free`: processes that nobody asks; the one that was asked last is next.
    `running`: what has one of them.
    """

    threads: ThreadPoolExecutor
    exports: asyncio.Semaphore
    processes: list[QueryProcess]
    free: asyncio.LifoQueue[QueryProcess] = field(default_factory=asyncio.LifoQueue)
    running: set[Query] = field(default_factory=set)


class Queries:
    """So many queries at once, each in a process of its own; more wait for one of these. Exports may have all but one.

    Nothing here holds up the event loop or a commit: whatever runs is killed when its time is over, and what it was
    about to answer is thrown away. Calls before `open` or after `close` raise StoreUnavailableError.
    """

    def __init__(self, config: StoreConfig, snapshots: Snapshots, left_alone_s: float = LEFT_ALONE_S) -> None:
        self._config = config
        self._snapshots = snapshots
        self._left_alone_s = left_alone_s
        self._opened: _Open | None = None

    def open(self) -> None:
        """From now on there are answers. Starts no process."""
        many, config = self._config.query_processes, self._config
        processes = [QueryProcess(config.query_limits, config.spill_dir) for _ in range(many)]
        threads = ThreadPoolExecutor(many, "store-query")
        self._opened = _Open(threads, asyncio.Semaphore(max(1, many - 1)), processes)
        for process in processes:
            self._opened.free.put_nowait(process)

    async def close(self) -> None:
        """Ends what runs, and the processes. May be called twice, and before `open`."""
        opened, self._opened = self._opened, None
        if opened is None:
            return
        for query in opened.running:  # a commit that still goes on publishes a snapshot, which one could begin with
            query.end(ENDED)
        await asyncio.to_thread(opened.threads.shutdown)
        for process in opened.processes:
            await asyncio.to_thread(process.close)

    async def table(self, sql: str, max_rows: int, timeout_s: float) -> pa.Table:
        """At most `max_rows` rows; see `Store.query`. One that was ended for a checkpoint is asked once more."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        for last in (False, True):
            opened, query = await self._begin(deadline)
            try:
                return await self._table(opened, query, self._asked(sql, max_rows), deadline)
            except QueryError:
                if last or query.why != CHECKPOINT:
                    raise
        raise AssertionError

    async def stream(self, sql: str, batch_rows: int) -> AsyncGenerator[pa.RecordBatch]:
        """All rows; see `Store.stream`."""
        there: asyncio.Queue[pa.RecordBatch | None] = asyncio.Queue()
        room = asyncio.Semaphore(_READ_AHEAD)
        export = asyncio.create_task(self._export(sql, batch_rows, there, room))
        try:
            while (batch := await there.get()) is not None:
                room.release()
                yield batch
            await export
        finally:
            export.cancel()
            await asyncio.gather(export, return_exceptions=True)  # its error was raised, or nobody is there any more

    async def _export(
        self, sql: str, batch_rows: int, there: asyncio.Queue[pa.RecordBatch | None], room: asyncio.Semaphore
    ) -> None:
        """Puts the batches there as room is made, then None. A task of its own: who takes them may never come back."""
        try:
            async with self._must_be_open().exports:
                opened, query = await self._begin(asyncio.get_running_loop().time() + _WAIT_S)
                batches = self._batches(query, self._asked(sql, None, batch_rows))
                try:
                    while (batch := await self._step(opened, query, lambda: next(batches, None))) is not None:
                        there.put_nowait(batch)
                        await self._taken(room)
                finally:
                    await _to_its_end(asyncio.ensure_future(asyncio.to_thread(batches.close)))
                    self._end(opened, query)
        finally:
            there.put_nowait(None)

    async def _taken(self, room: asyncio.Semaphore) -> None:
        try:
            async with asyncio.timeout(self._left_alone_s):
                await room.acquire()
        except TimeoutError:
            raise QueryError(f"the export was ended: nothing of it was taken for {self._left_alone_s:g} s") from None

    async def _table(self, opened: _Open, query: Query, question: Question, deadline: float) -> pa.Table:
        loop = asyncio.get_running_loop()
        timer = loop.call_at(deadline, query.end, ENDED)
        try:
            return await self._step(opened, query, lambda: as_table(self._batches(query, question)))
        finally:
            timer.cancel()
            self._end(opened, query)

    async def _step(self, opened: _Open, query: Query, work: Callable[[], T]) -> T:
        """On a thread; where this is cancelled, the query is ended, which ends the thread's work at once."""
        if query.why:  # its thread may have gone, too
            raise QueryError(query.why)
        job = asyncio.get_running_loop().run_in_executor(opened.threads, work)
        try:
            await asyncio.wait({job})
        finally:
            if not job.done():
                query.end(ENDED)
                await _to_its_end(job)
                job.exception()  # of what was ended here: nobody is told
        return job.result()

    def _batches(self, query: Query, question: Question) -> Generator[pa.RecordBatch, None, bool]:
        query.prepare()
        with self._snapshots.read_by(query) as snapshot:
            return (yield from query.batches(question.about(snapshot)))

    async def _begin(self, deadline: float) -> tuple[_Open, Query]:
        """A query that has a process, which nobody else asks until `_end`."""
        opened = self._must_be_open()
        try:
            async with asyncio.timeout_at(deadline):
                process = await opened.free.get()
        except TimeoutError:
            raise QueryError(
                f"{len(opened.processes)} queries run at once, and none ended within the time of this one: ask again"
            ) from None
        if self._opened is not opened:
            opened.free.put_nowait(process)
            raise StoreUnavailableError(CLOSED)
        query = Query(process)
        opened.running.add(query)
        return opened, query

    def _end(self, opened: _Open, query: Query) -> None:
        opened.running.discard(query)
        opened.free.put_nowait(query.process)

    def _asked(self, sql: str, max_rows: int | None, batch_rows: int = TABLE_ROWS) -> Question:
        if max_rows is None:
            return Question(sql=sql, path=str(self._config.path), batch_rows=batch_rows)
        rows = min(batch_rows, max_rows + 1)
        most = self._config.answer_bytes
        return Question(sql=sql, path=str(self._config.path), batch_rows=rows, max_rows=max_rows, max_bytes=most)

    def _must_be_open(self) -> _Open:
        if self._opened is None:
            raise StoreUnavailableError(CLOSED)
        return self._opened


async def _to_its_end(work: asyncio.Future[T]) -> None:
    """Until it has ended, however often this is cancelled meanwhile: before that, nobody else may have its process."""
    while not work.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({work})
