"""A baseline: a consumer as one writes it by hand for the ordinary message, in one process.

aio-pika takes a message, msgspec decodes its JSON into the type of the handler, the handler is called, and what it
returns waits as a row. After each 100 messages, or 50 ms after the first of them, the rows are committed to a DuckDB
file, from Arrow, and acked with one `multiple` frame. It keeps no more promises than that: no retry, no dead letters,
no duplicates found, no traces, and one bad message ends it.

`python -m bench.by_hand_batched QUEUE FILE`, with the broker's address in RABBITMQ_URL, says `ready`, and for each
line with a number on standard input consumes so many messages and says how many seconds that took, from consuming to
the last ack. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aio_pika
import duckdb
import msgspec
import pyarrow as pa
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from bench.ordinary import Order, handle

PREFETCH: Final = 500
COMMIT_MESSAGES: Final = 100
COMMIT_S: Final = 0.05
WITHIN_S: Final = 600.0
ENDS_WITHIN_S: Final = 10.0

Row = tuple[str | None, datetime, str]

_TABLE: Final = "CREATE TABLE results (message_id VARCHAR, finished_at TIMESTAMPTZ, result VARCHAR)"
_INSERT: Final = "INSERT INTO results SELECT * FROM batch"
_COLUMNS: Final = pa.schema(
    [("message_id", pa.string()), ("finished_at", pa.timestamp("us", tz="UTC")), ("result", pa.string())]
)
_decode = msgspec.json.Decoder(Order).decode
_encode = msgspec.json.Encoder().encode


class Consumer:
    """Takes messages from `queue`, and has their rows in `file` before it acks them."""

    def __init__(self, queue: AbstractQueue, file: duckdb.DuckDBPyConnection) -> None:
        self._queue = queue
        self._file = file
        self._file.execute(_TABLE)
        self._rows: list[Row] = []
        self._left = 0
        self._over = asyncio.Event()

    async def drain(self, count: int) -> float:
        """Consumes `count` messages; seconds from consuming to the last ack."""
        self._left = count
        self._over.clear()
        began = time.perf_counter()
        tag = await self._queue.consume(self._take)
        await self._over.wait()
        took_s = time.perf_counter() - began
        await self._queue.cancel(tag)
        return took_s

    async def _take(self, message: AbstractIncomingMessage) -> None:
        try:
            result = _encode(handle(_decode(message.body))).decode()
        except Exception as error:  # noqa: BLE001 # aio-pika would log it and go on
            sys.exit(f"the consumer by hand met a message that it cannot work: {error!r}")
        self._rows.append((message.message_id, datetime.now(UTC), result))
        self._last = message
        if len(self._rows) == 1:
            self._due = asyncio.get_running_loop().call_later(COMMIT_S, self._commit_what_waits)
        if len(self._rows) == COMMIT_MESSAGES:
            await self._commit()

    def _commit_what_waits(self) -> None:
        self._committing = asyncio.ensure_future(self._commit())

    async def _commit(self) -> None:
        self._due.cancel()
        rows, self._rows = self._rows, []
        _insert(self._file, rows)
        await self._last.ack(multiple=True)
        self._left -= len(rows)
        if self._left <= 0:
            self._over.set()


def _insert(file: duckdb.DuckDBPyConnection, rows: list[Row]) -> None:
    """One statement, which is one transaction."""
    columns = [pa.array(values, kind) for values, kind in zip(zip(*rows, strict=True), _COLUMNS.types, strict=True)]
    file.register("batch", pa.table(columns, schema=_COLUMNS))
    file.execute(_INSERT)


class ByHand:
    """The running process, and what a bench asks of it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.pid = process.pid

    async def drain(self, count: int) -> float:
        """Seconds from consuming to the ack of the last of `count` messages."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count}\n".encode())
        return float(await self.line())

    async def line(self) -> bytes:
        """What it says next. Raises RuntimeError where it has ended."""
        assert self._process.stdout is not None
        async with asyncio.timeout(WITHIN_S):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the consumer by hand has ended, see above")
        return line


@contextlib.asynccontextmanager
async def by_hand_batched(url: str, queue: str, file: Path) -> AsyncIterator[ByHand]:
    """The consumer in a process of its own, connected and not yet consuming; `queue` is there, `file` is not."""
    command = (sys.executable, "-m", "bench.by_hand_batched", queue, str(file))
    environment = {**os.environ, "RABBITMQ_URL": url}
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=environment)
    assert process.stdin is not None
    try:
        found = ByHand(process)
        await found.line()
        yield found
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), ENDS_WITHIN_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _main(queue: str, file: str) -> None:
    connection = await aio_pika.connect(os.environ["RABBITMQ_URL"])
    async with connection:
        channel = await connection.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=PREFETCH)
        with duckdb.connect(file) as results:
            consumer = Consumer(await channel.get_queue(queue, ensure=False), results)
            print("ready", flush=True)
            while line := await asyncio.to_thread(sys.stdin.readline):
                print(await consumer.drain(int(line)), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
