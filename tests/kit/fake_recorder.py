"""FakeRecorder: a FakeStore as the router's recorder."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from rabbitray.actors.message.reply import FailedRun
from rabbitray.actors.store.answers import Answer
from tests.kit.fake_store import FakeStore


class FakeRecorder:
    """A FakeStore as the router's recorder. `lost`: batches of rows that cannot be fetched, counted down."""

    def __init__(self, store: FakeStore, queue: str = "q") -> None:
        self.store = store
        self.queue = queue
        self.epoch = 1

    async def write(
        self, payload: pa.Table, failed_keys: tuple[str, ...], span: str | None, failures: Sequence[FailedRun] = ()
    ) -> Answer:
        return await self.store.write(self.epoch, payload, failed_keys, queue=self.queue, failures=failures)

    async def record_dead_letters(self, rows: pa.Table) -> None:
        await self.store.record_dead_letters(self.epoch, rows)
