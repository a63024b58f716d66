"""ResultStore as a Ray actor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pyarrow as pa
import ray

from rabbitray.actors.message.finished_keys import decode_question, encode_winners
from rabbitray.actors.message.rows import Stream, from_stream
from rabbitray.actors.remote.boot import Boot, Flush, ray_attributes
from rabbitray.actors.store.answers import StoreStats, decode_write, encode
from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.store import Store
from rabbitray.actors.telemetry.ray_metrics import Metering
from rabbitray.actors.telemetry.tracing import Tracing


class ResultStore:
    """The only process that opens the results file."""

    def __init__(self, config: StoreConfig, name: str, boot: Boot, metering: Metering) -> None:
        self._name = name
        self._flush: Flush = boot("store", ray_attributes("ResultStore", name))
        self._metrics = metering.recorder()
        self._store = Store(config, self._metrics)
        self._tracing = Tracing(database=config.path.name)

    async def open(self) -> None:
        """Opens the file; StoreOpenError says in one line what is wrong."""
        await self._store.open()

    async def register(self, router: str) -> int:
        """The epoch of a new router; it ends the earlier one's."""
        return await self._store.register(router)

    @ray.method(enable_task_events=False)
    async def write(self, header: bytes, stream: Stream) -> bytes:
        """Commits rows and looks failed keys up; see `Store.write`. In and out as `answers` has it."""
        write, rows = decode_write(header), from_stream(stream)
        with self._tracing.commit_span(rows.num_rows, batches=(write.span,)):
            answer = await self._store.write(
                write.epoch, rows, write.failed_keys, queue=write.queue, failures=write.failures
            )
        return encode(answer)

    @ray.method(enable_task_events=False)
    async def known(self, question: bytes) -> bytes:
        """Which keys have their result; see `Store.known`. In and out as `message/finished_keys` has it."""
        asked = decode_question(question)
        return encode_winners(await self._store.known(asked.queue, asked.keys))

    async def record_dead_letters(self, epoch: int, rows: pa.Table) -> None:
        """Appends to `dead_letters`."""
        await self._store.record_dead_letters(epoch, rows)

    async def decide(self, rows: list[dict[str, object]]) -> None:
        """Appends to `decisions`."""
        await self._store.decide(rows)

    async def control(self) -> dict[str, object]:
        """The control table: what was set and survives a restart."""
        return await self._store.control()

    async def set_control(self, name: str, value: object) -> None:
        """Sets one control value (any JSON value; None: not set)."""
        await self._store.set_control(name, value)

    async def query(self, sql: str, max_rows: int, timeout_s: float) -> pa.Table:
        """One read-only statement; `truncated(table)` tells whether there are more rows."""
        return await self._store.query(sql, max_rows=max_rows, timeout_s=timeout_s)

    @ray.method(num_returns="streaming", _generator_backpressure_num_objects=4)
    async def stream(self, sql: str, batch_rows: int) -> AsyncIterator[pa.RecordBatch]:
        """All rows of one read-only statement, a record batch at a time, as fast as they are taken."""
        async for batch in self._store.stream(sql, batch_rows):
            yield batch

    async def stats(self) -> StoreStats:
        """Counters of the store."""
        return await self._store.stats()

    async def watch(self) -> str:
        """Lasts as long as this actor works."""
        await self._metrics.run(asyncio.Event())
        return "closed"

    async def close(self) -> None:
        """Commits, checkpoints and closes the file."""
        try:
            await self._store.close()
        finally:
            self._metrics.flush()
            await asyncio.get_running_loop().run_in_executor(None, self._flush, 5.0)

    def __repr__(self) -> str:
        return f"ResultStore({self._name})"
