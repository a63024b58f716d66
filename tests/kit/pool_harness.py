"""A Pool over fake workers, and batches sent to it."""

from __future__ import annotations

import asyncio
from typing import Any

import pyarrow as pa

from rabbitray.actors.message.reply import Part
from rabbitray.actors.router.delivery import Batch
from rabbitray.actors.router.dispatch.pool import Pool, PoolConfig
from tests.kit.deliveries import delivery
from tests.kit.eventually import eventually
from tests.kit.fake_workers import FakeFactory, FakeWorker


class Harness:
    """A pool over fake workers, and batches sent to it."""

    def __init__(self, *, auto: bool = True, slots: int = 1, **config: Any) -> None:
        self.factory = FakeFactory(auto=auto, slots=slots)
        self.changes = 0
        self.pool: Pool[pa.Table] = Pool(PoolConfig(name="w", **config), self.factory, on_change=self._changed)
        self.parts: dict[str, list[Part]] = {}

    def _changed(self) -> None:
        self.changes += 1

    @property
    def workers(self) -> list[FakeWorker]:
        return self.factory.workers

    async def ready(self, count: int) -> None:
        self.pool.resize(count)
        await eventually(lambda: self.pool.count("ready") == count)

    def send(self, size: int = 1, **changes: Any) -> tuple[Batch, asyncio.Task[None]]:
        """A batch to the worker that the pool picks; `changes`: of its deliveries."""
        member = self.pool.pick()
        assert member is not None
        batch = Batch([delivery(n, **changes) for n in range(size)])
        member.batches[batch.id] = batch
        return batch, asyncio.create_task(self._run(member, batch))

    async def _run(self, member: Any, batch: Batch) -> None:
        async for part, _ in self.pool.run(member, batch):
            self.parts.setdefault(batch.id, []).append(part)

    def at(self, batch: Batch) -> FakeWorker:
        """The worker that has this batch."""
        return next(worker for worker in self.workers if batch.id in worker.batches)

    async def arrived(self, *batches: Batch) -> None:
        await eventually(lambda: all(any(b.id in w.batches for w in self.workers) for b in batches))
