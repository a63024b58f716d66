"""ResultStore: the store as a Ray actor, and the client that the router writes through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import TypeVar

import pyarrow as pa
import ray
from ray.exceptions import ObjectLostError, OwnerDiedError, RayActorError, RayError, RayTaskError

from actors.errors import FencedError, PayloadLostError, StoreUnavailableError
from actors.remote.boot import Actor, Boot, Flush, Rows, ray_attributes
from actors.remote.metrics import Metering
from actors.remote.worker import last_line
from actors.rows import from_stream
from actors.store import ResultStore as Store
from actors.store import StoreConfig, StoreStats
from actors.store.answers import Answer
from actors.tracing import Tracing

T = TypeVar("T")


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
    async def write(
        self, epoch: int, stream: pa.Buffer, failed_keys: Sequence[str], queue: str, span: str | None
    ) -> Answer:
        """Commits rows and looks failed keys up; see `Store.write`."""
        rows = from_stream(stream)
        with self._tracing.commit_span(rows.num_rows, batches=(span,)):
            return await self._store.write(epoch, rows, failed_keys, queue=queue)

    async def bury(self, epoch: int, rows: pa.Table) -> None:
        """Appends to `dead_letters`."""
        await self._store.bury(epoch, rows)

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
        await self._store.close()
        self._metrics.flush()
        await asyncio.get_running_loop().run_in_executor(None, self._flush, 5.0)

    def __repr__(self) -> str:
        return f"ResultStore({self._name.removesuffix('-store')})"


class StoreClient:
    """The router's way to the store, by name: a restarted store is found again."""

    def __init__(self, name: str, namespace: str, queue: str) -> None:
        self._name = name
        self._queue = queue
        self._namespace = namespace
        self._actor: Actor | None = None
        self.epoch = 0

    async def write(self, payload: Rows, failed_keys: tuple[str, ...], span: str | None) -> Answer:
        """See `Recorder.write`. The rows go from the worker's node to the store's, past this process."""
        actor = await self._find()
        return await self._answer(actor.write.remote(self.epoch, payload, failed_keys, self._queue, span))

    async def bury(self, rows: pa.Table) -> None:
        """Appends dead letters."""
        actor = await self._find()
        await self._answer(actor.bury.remote(self.epoch, rows))

    async def register(self, router: str) -> None:
        """Takes the epoch that all later writes carry."""
        actor = await self._find()
        self.epoch = await self._answer(actor.register.remote(router))

    async def control(self) -> dict[str, object]:
        """The control table."""
        actor = await self._find()
        return await self._answer(actor.control.remote())

    async def set_control(self, name: str, value: object) -> None:
        """Sets one control value (any JSON value; None: not set)."""
        actor = await self._find()
        await self._answer(actor.set_control.remote(name, value))

    async def _find(self) -> Actor:
        if self._actor is None:
            loop = asyncio.get_running_loop()
            try:
                self._actor = await loop.run_in_executor(None, ray.get_actor, self._name, self._namespace)
            except ValueError as missing:
                raise StoreUnavailableError(f"the store {self._name} does not run; it is being restarted") from missing
        return self._actor

    async def _answer(self, ref: Awaitable[T]) -> T:
        try:
            return await ref
        except (FencedError, StoreUnavailableError) as error:  # through Ray its text is a whole traceback
            raise (error.cause if isinstance(error, RayTaskError) else error) from None
        except (ObjectLostError, OwnerDiedError) as lost:
            raise PayloadLostError(last_line(lost)) from lost
        except RayTaskError as failed:
            if isinstance(failed.cause, ObjectLostError | OwnerDiedError | RayActorError):
                raise PayloadLostError(last_line(failed)) from failed
            raise
        except RayActorError as gone:
            self._actor = None
            raise StoreUnavailableError(f"the store {self._name} ended; it is being restarted") from gone
        except RayError as error:
            raise StoreUnavailableError(last_line(error)) from error
