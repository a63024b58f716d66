"""A baseline: the consumer as one writes it by hand, on the same parts and with the same promise.

An actor with an aio-pika consumer awaits, for each message, an actor that decodes and works it, then an actor that
commits its row to DuckDB, then acks. Messages are beside each other as they come: one task for each, as aio-pika does.
It keeps no more promises than that: no retry, no dead letters, no duplicates found, no traces.
"""

from __future__ import annotations

from bench import private_ray  # first of all

# isort: split

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import aio_pika
import duckdb
import msgpack
import ray
from aio_pika.abc import AbstractIncomingMessage

from bench.raw import declare, delete
from rabbitray.actors.message.headers import PUBLISHED
from rabbitray.actors.telemetry.metrics import Latency

PREFETCH = 500

__all__ = ["ByHand", "by_hand", "private_ray"]

Row = tuple[str, int, str]


class _Worker:
    async def work(self, message_id: str, published_ms: int, body: bytes) -> Row:
        """Decodes the job; the handler does nothing."""
        msgpack.unpackb(body, strict_map_key=False)
        return message_id, published_ms, "null"


class _Store:
    def __init__(self, path: str) -> None:
        self._file = duckdb.connect(path)
        self._file.execute("create table results (message_id varchar, published_ms bigint, result varchar)")

    async def write(self, row: Row) -> None:
        """Commits one row."""
        self._file.execute("insert into results values (?, ?, ?)", row)


class _Consumer:
    def __init__(self, url: str, queue: str, worker: Any, store: Any) -> None:
        self._url, self._queue = url, queue
        self._worker, self._store = worker, store
        self._latency = Latency()
        self._another = asyncio.Event()

    async def start(self) -> None:
        """Begins to consume."""
        self._connection = await aio_pika.connect(self._url)
        channel = await self._connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        await (await channel.get_queue(self._queue, ensure=False)).consume(self._take)

    async def acked(self, count: int) -> Latency:
        """Waits until so many messages were acked since the start; publish to ack of all of them, ms."""
        while self._latency.count < count:
            self._another.clear()
            await self._another.wait()
        return self._latency

    async def stop(self) -> None:
        """Closes the connection."""
        await self._connection.close()

    async def _take(self, message: AbstractIncomingMessage) -> None:
        published_ms = int(str(message.headers[PUBLISHED]))
        row = await self._worker.work.remote(message.message_id, published_ms, message.body)
        await self._store.write.remote(row)
        await message.ack()
        self._latency.add(time.time() * 1000 - published_ms)
        self._another.set()


class ByHand:
    """The running consumer, and what a bench asks of it."""

    def __init__(self, consumer: Any) -> None:  # Any: Ray's handles are untyped
        self._consumer = consumer

    async def acked(self, count: int, *, within_s: float = 120.0) -> Latency:
        """Waits until so many messages were acked since the start; publish to ack of all of them."""
        async with asyncio.timeout(within_s):
            return cast("Latency", await self._consumer.acked.remote(count))


@contextlib.asynccontextmanager
async def by_hand(url: str, queue: str, place: Path) -> AsyncIterator[ByHand]:
    """Consumes from `queue`, which it makes and removes; three actors, the store's file in `place`."""
    await declare(url, queue)
    worker, store, consumer = (
        ray.remote(kind).options(num_cpus=0.001, max_concurrency=1_000) for kind in (_Worker, _Store, _Consumer)
    )
    parts: list[Any] = [worker.remote(), store.remote(str(place / f"{queue}.duckdb"))]
    parts.append(consumer.remote(url, queue, *parts))
    try:
        await parts[-1].start.remote()
        yield ByHand(parts[-1])
        await parts[-1].stop.remote()
    finally:
        for part in parts:
            ray.kill(part)
        await delete(url, queue)
