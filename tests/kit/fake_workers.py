"""FakeWorker and FakeFactory: workers whose answers a test gives."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pyarrow as pa

from rabbitray.actors.message.parcel import Parcel, Shipment, unpack_parcels
from rabbitray.actors.message.reply import Part, WorkerInfo
from rabbitray.actors.message.rows import RESULT_SCHEMA
from rabbitray.actors.router.dispatch.member import WorkerLostError
from tests.kit.result_rows import key_of, rows_of

Reply = tuple[Part, pa.Table]


class FakeWorker:
    """One worker: calls wait until the test answers them. `starts` settles `ready`."""

    def __init__(self, name: str, *, slots: int = 1) -> None:
        self.name = name
        self.slots = slots
        self.asks_message = False
        self.start_s: float | None = None
        self.starts: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.batches: dict[str, list[Parcel]] = {}  # in hand, in the order of arrival
        self.told: dict[str, set[int]] = {}  # positions that a test has answered for, by batch
        self.asked: Counter[str] = Counter()  # parts, by batch
        self.killed = False
        self.placeless = False
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stopped = False
        self.lost: tuple[str, bool] | None = None  # it is dead: reason and guilt that every call meets
        self.node_in_doubt = False  # at its death
        self.leaving: asyncio.Future[bool] = asyncio.get_running_loop().create_future()  # what becomes of its node
        self.hangs_on_stop = False
        self.at: str | None = None  # where its event loop stands, if it answers
        self._replies: dict[str, asyncio.Queue[Reply | WorkerLostError | Exception]] = {}

    async def ready(self) -> WorkerInfo:
        await asyncio.shield(self.starts)
        return WorkerInfo(slots=self.slots, pid=4711, node="node", asks_message=self.asks_message, start_s=self.start_s)

    async def run(self, batch_id: str, shipment: Shipment) -> Reply:
        if self.lost is not None:
            raise self._loss("it is dead")
        self.batches[batch_id] = unpack_parcels(shipment)
        self._replies[batch_id] = asyncio.Queue()
        return await self.more(batch_id)

    async def more(self, batch_id: str) -> Reply:
        self.asked[batch_id] += 1
        reply = await self._replies[batch_id].get()
        if isinstance(reply, Exception):
            raise reply
        if not reply[0].open:
            self.batches.pop(batch_id, None)
        return reply

    async def stands(self) -> str | None:
        return self.at

    async def ended(self) -> None:
        await asyncio.shield(self.end)
        raise self._loss("it died")

    async def waits_for_place(self) -> bool:
        return self.placeless

    async def node_leaves(self) -> bool:
        return self.node_in_doubt and await asyncio.shield(self.leaving)

    async def stop(self) -> None:
        self.stopped = True
        if self.hangs_on_stop:
            await asyncio.Event().wait()
        self.die("stopped")

    def kill(self) -> None:
        self.killed = True
        self.die("killed", may_be_poison=True)  # as Ray: a kill looks like a crash to the calls in flight

    def started(self) -> None:
        """The handler is loaded."""
        if not self.starts.done():
            self.starts.set_result(None)

    def fails_to_start(self, why: str = "boom", *, reason: str = "start_failed") -> None:
        """The handler cannot be loaded."""
        if not self.starts.done():
            self.starts.set_exception(WorkerLostError(reason, why, may_be_poison=False))

    def answer(self, batch_id: str, part: Part, rows: pa.Table | None = None) -> None:
        """The next part of a batch."""
        self._replies[batch_id].put_nowait((part, rows if rows is not None else RESULT_SCHEMA.empty_table()))

    def done(self, batch_id: str, queue: str = "q") -> None:
        """All messages of a batch end DONE."""
        parcels = self.batches[batch_id]
        positions = list(range(len(parcels)))
        part = Part(rows=len(parcels), row_positions=positions, finished=positions, jobs=len(parcels))
        self.answer(batch_id, part, rows_of([key_of(one) for one in parcels], queue))

    def raises(self, batch_id: str, error: Exception) -> None:
        """The next call for this batch raises."""
        self._replies[batch_id].put_nowait(error)

    def die(self, reason: str = "worker_crashed", *, may_be_poison: bool = True) -> None:
        """Every call in flight ends with the loss of the worker, and every later one."""
        self.lost = self.lost or (reason, may_be_poison)
        if not self.end.done():
            self.end.set_result(None)
        if not self.starts.done():
            self.starts.set_exception(WorkerLostError(reason, "it died", may_be_poison=False))
            self.starts.exception()  # read, so that a withdrawn worker's is not reported as unread
        for replies in self._replies.values():
            replies.put_nowait(self._loss("it died"))

    def _loss(self, detail: str) -> WorkerLostError:
        reason, guilty = self.lost or ("", False)
        return WorkerLostError(reason, detail, may_be_poison=guilty, node_in_doubt=self.node_in_doubt)


class FakeFactory:
    """Workers in the order in which they were asked for. `auto`: they start at once; `error`: spawn raises it."""

    def __init__(self, *, auto: bool = True, slots: int = 1) -> None:
        self.auto = auto
        self.slots = slots
        self.kind: Callable[..., FakeWorker] = FakeWorker
        self.error: Exception | None = None
        self.workers: list[FakeWorker] = []

    def spawn(self, name: str) -> FakeWorker:
        if self.error is not None:
            raise self.error
        worker = self.kind(name, slots=self.slots)
        self.workers.append(worker)
        if self.auto:
            worker.started()
        return worker
