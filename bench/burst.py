"""A burst of the reaction bench, which lasts as long as growing takes, however long that is on this machine.

Needs neither Ray nor a broker itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from rabbitray.actors.message.job import Job
from rabbitray.actors.router.status import PoolStatus

LOOK_S = 0.01


class Pool(Protocol):
    """What a burst asks of a pool; `bench.pool.BenchPool` is one."""

    async def status(self) -> PoolStatus: ...

    async def publish(self, many: Iterable[Job], /) -> None: ...

    async def acked(self, count: int, /) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """`took_s`: from the first message until the pool had grown. `sent`: messages."""

    took_s: float
    sent: int


async def burst_until_grown(
    pool: Pool,
    workers: int,
    *,
    waiting: int,
    jobs: Callable[[int], Iterable[Job]],
    feed_s: float = 1.0,
    within_s: float = 600.0,
) -> Burst:
    """Keeps `waiting` messages at an idle pool until `workers` are wanted and ready; returns when all are acked.

    What was worked is published again each `feed_s`. Raises RuntimeError where growing takes longer than `within_s`.
    """
    before = (await pool.status()).done
    grown = asyncio.Event()
    began = time.perf_counter()
    feeding = asyncio.create_task(_feed(pool, before, waiting, jobs, grown, feed_s))
    try:
        await _grown(pool, workers, feeding, within_s)
        took_s = time.perf_counter() - began
    finally:
        grown.set()
        sent = await feeding
    await pool.acked(before + sent)
    return Burst(took_s=took_s, sent=sent)


async def _grown(pool: Pool, workers: int, feeding: asyncio.Task[int], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and not feeding.done():
        seen = await pool.status()
        if seen.target == seen.workers == workers:
            return
        await asyncio.sleep(LOOK_S)
    raise RuntimeError(
        f"{workers} workers were not reached within {within_s:g} s (now {seen.workers} of {seen.target})"
    )


async def _feed(
    pool: Pool, before: int, waiting: int, jobs: Callable[[int], Iterable[Job]], grown: asyncio.Event, each_s: float
) -> int:
    """Messages published until the pool has grown."""
    sent = 0
    while not grown.is_set():
        worked = (await pool.status()).done - before
        if missing := waiting - (sent - worked):
            await pool.publish(jobs(missing))
            sent += missing
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(each_s):
                await grown.wait()
    return sent
