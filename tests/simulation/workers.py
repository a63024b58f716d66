"""SimWorkers: the processes that run the handler, steered by what each job asks for, and the nodes that they are on.

The batch is decoded, kept and answered by the real BatchRun, as worker.py does it; the handler is `Handling`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from rabbitray.actors.errors import StoreUnavailableError
from rabbitray.actors.message.key_hash import kind_of
from rabbitray.actors.message.parcel import Shipment, unpack_parcels
from rabbitray.actors.message.reply import Failure, Part, WorkerInfo
from rabbitray.actors.message.wire import split
from rabbitray.actors.message.wire.limits import DEFAULT_LIMITS
from rabbitray.actors.router.dispatch.member import WorkerLostError
from rabbitray.actors.worker.batch.decoding import IdentityRules, decode_parcels
from rabbitray.actors.worker.batch.running import BatchRun
from rabbitray.actors.worker.batch.skip_done import FinishedJobs
from rabbitray.actors.worker.batch.unit import Failed, Unit
from tests.simulation.checker import Checker, Origin
from tests.simulation.faults import Faults
from tests.simulation.messages import Wish
from tests.simulation.store import Rows, SimStore

RUN_S = 0.02
START_S = 0.5
EARLY_S = 1.0
SIGN_OF_LIFE_S = 5.0
NODES = 2


class SimWorker:
    """One worker process."""

    def __init__(self, name: str, node: int, cluster: SimCluster) -> None:
        self.name, self.node, self._cluster = name, node, cluster
        self.lost: WorkerLostError | None = None
        self.node_gone = False
        self.executing: set[str] = set()
        self._faults, self._checker = cluster.faults, cluster.checker
        self._runs: dict[str, BatchRun] = {}
        self._at: dict[str, float] = {}  # when each batch was sent
        self._tasks: set[asyncio.Task[Any]] = set()
        self._wakes: dict[str, asyncio.Future[None]] = {}  # of the calls that wait for news, by batch
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._slots = asyncio.Semaphore(cluster.slots)

    # what the router calls

    async def ready(self) -> WorkerInfo:
        fault = self._faults.take("ready")
        await self._or_lost(asyncio.sleep(START_S + (fault.value if fault and fault.kind == "late" else 0.0)))
        if fault and fault.kind == "refused":
            self.die("start_failed", poison=False)
        if fault and fault.kind == "died":
            self.die("node_lost", poison=False)
        self._must_live()
        return WorkerInfo(slots=self._cluster.slots, pid=1, node=f"n{self.node}")

    async def run(self, batch_id: str, shipment: Shipment) -> tuple[Part, Rows]:
        parcels = unpack_parcels(shipment)
        serials = [serial for one in parcels for serial in self._cluster.serials(one.body)]
        self._checker.dispatched(self._cluster.origins(batch_id), serials, self._cluster.router)
        if (lost := await self._fault("run", serials)) is not None:
            raise lost
        units, failures = decode_parcels(parcels, DEFAULT_LIMITS, IdentityRules())
        units, skipped = await FinishedJobs(SimKnownKeys(self._cluster.store, units)).take_out(units)
        run = self._runs[batch_id] = BatchRun(batch_id, units, failures, asyncio.get_running_loop(), skipped)
        self._at[batch_id] = asyncio.get_running_loop().time()
        for _ in range(min(self._cluster.slots, len(units))):
            self._spawn(self._work(run))
        return await self._part(run, EARLY_S)

    async def more(self, batch_id: str) -> tuple[Part, Rows]:
        run = self._runs[batch_id]
        if (lost := await self._fault("more", [unit.job.id or "" for unit in run.waiting])) is not None:
            raise lost
        return await self._part(run, SIGN_OF_LIFE_S)

    async def stop(self) -> None:
        await asyncio.sleep(0)
        self._must_live()
        self.die("stopped", poison=False)

    def kill(self) -> None:
        """Of the router: looks like a crash to the calls in flight, as in Ray."""
        self.die("killed", poison=True)

    async def ended(self) -> None:
        await asyncio.shield(self._end)
        self._must_live()

    async def waits_for_place(self) -> bool:
        return False

    async def node_leaves(self) -> bool:
        fault = self._faults.take("node")
        await asyncio.sleep(fault.value if fault else 0.1)
        return self.node_gone

    # what happens to it

    def die(self, reason: str, *, poison: bool, in_doubt: bool = False) -> None:
        """The process ends; every call in flight and every later one meets that."""
        if self.lost is None:
            self.lost = WorkerLostError(reason, "it died", may_be_poison=poison, node_in_doubt=in_doubt)
            self._end.set_result(None)
            for task in self._tasks:
                task.cancel()
            for wake in self._wakes.values():
                _set(wake)
            self._cluster.workers.discard(self)

    def crash(self, sent: Sequence[str] = ()) -> None:
        """It ends by itself with what it has in the handler, or on the way there: one of these may have done it."""
        self._checker.crashed({*self.executing, *sent})
        self.die("worker_crashed", poison=True, in_doubt=True)

    async def _fault(self, place: str, sent: Sequence[str]) -> WorkerLostError | None:
        """What the next call meets; `sent`: what is in hand with it, beside what is in the handler."""
        self._must_live()
        fault = self._faults.take(place)
        match fault.kind if fault else "":
            case "unreachable":
                return WorkerLostError("unavailable", "Ray cannot say", may_be_poison=False)
            case "died":
                self.crash(sent)
            case "node":
                self._cluster.lose_node(self.node)
            case "slow":
                if fault and fault.value > self._cluster.timeout_s:  # for the router it hangs
                    self._checker.crashed({*self.executing, *sent})
                await self._or_lost(asyncio.sleep(fault.value if fault else 0))
            case "bug":  # for the router, what it sent may be at fault
                self._checker.crashed(sent)
                raise ValueError("no usable answer")
            case "answer_lost":
                await self._or_lost(asyncio.sleep(1.0))
                self.crash(sent)
        self._must_live()
        return None

    def _must_live(self) -> None:
        if self.lost is not None:
            lost = self.lost
            raise WorkerLostError(
                lost.reason, "it is dead", may_be_poison=lost.may_be_poison, node_in_doubt=lost.node_in_doubt
            )

    async def _news(self, run: BatchRun, within_s: float) -> None:
        """As BatchRun.news, and the end of this process is news, too."""
        if run.open > len(run.finished) and not (run.partial and run.finished):
            self._wakes[run.batch_id] = wake = asyncio.get_running_loop().create_future()
            timer = asyncio.get_running_loop().call_later(within_s, _set, wake)
            try:
                await wake
            finally:
                timer.cancel()
        self._must_live()

    def _finished(self, run: BatchRun, unit: Unit) -> None:
        run.finish(unit)
        if (run.partial or not (run.waiting or run.executing)) and (wake := self._wakes.get(run.batch_id)):
            _set(wake)

    async def _or_lost(self, step: Coroutine[Any, Any, object]) -> None:
        """`step`, or the loss of this process."""
        waiting = asyncio.ensure_future(step)
        try:
            await asyncio.wait([waiting, self._end], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        self._must_live()

    # the batch

    def _spawn(self, step: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(step)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, run: BatchRun) -> None:
        """One slot's share of a batch."""
        while True:
            async with self._slots:
                if (unit := run.next()) is None:
                    return
                serial = unit.job.id or ""
                self.executing.add(serial)
                error = await self._handle(serial, self._at[run.batch_id])
                unit.failed = None if error is None else _failed(error, self._checker.wish(serial))
                self.executing.discard(serial)
                self._finished(run, unit)

    async def _handle(self, serial: str, sent_at: float) -> Exception | None:
        """The user's code; returns what it raised."""
        wish = self._checker.wish(serial)
        await asyncio.sleep(wish.value if wish.do == "slow" else RUN_S)
        if wish.do == "die":
            self.crash()
            await asyncio.sleep(3600)
        if wish.do == "fat":
            self._checker.crashed([serial])
            self.die("out_of_memory", poison=True)
            await asyncio.sleep(3600)
        if wish.do == "hang":
            self._checker.crashed([serial])
            await asyncio.sleep(3600)
        if self._cluster.fails(wish):
            self._checker.failed_run(serial, sent_at)
            return ConnectionError(wish.do)
        if wish.do != "reject":
            self._checker.done_run()
            return None
        return ValueError("rejected")

    async def _part(self, run: BatchRun, within_s: float) -> tuple[Part, Rows]:
        """As Worker._part, without its telemetry and its table."""
        await self._news(run, within_s)
        run.partial = True
        returned = run.take_unstarted() if run.open > len(run.finished) else []
        units = run.take_finished()
        done = [unit for unit in units if unit.failed is None]
        unreadable, run.unreadable = run.unreadable, []
        skipped, complete = run.take_skipped()
        finished = run.settle_positions(units) + complete + [failure.position for failure in unreadable]
        part = Part(
            rows=len(done),
            row_positions=[unit.position for unit in done],
            row_records=[unit.record for unit in done] if any(unit.record for unit in done) else [],
            failures=[_failure(unit, unit.failed) for unit in units if unit.failed is not None] + unreadable,
            finished=finished,
            returned=returned,
            open=run.open,
            jobs=len(units) + len(unreadable) + skipped,
            skipped=skipped,
        )
        return part, [unit.key or "" for unit in done]


def _set(wake: asyncio.Future[None]) -> None:
    if not wake.done():
        wake.set_result(None)


def _failed(error: Exception, wish: Wish) -> Failed:
    """As Outcomes has it."""
    dead, asked = wish.do == "reject", wish.do == "retry"
    return Failed(
        verdict="dead" if dead else "retry",
        reason="rejected" if dead else "retry_requested" if asked else "exception",
        category="permanent" if dead else "transient",
        after_s=None,
        error=wish.do,
        error_class=f"{wish.do}{wish.value:g}",
        exception=error,
    )


def _failure(unit: Unit, failed: Failed) -> Failure:
    return unit.failure(failed, split(unit.parcel.body)[unit.record] if unit.packed else None)


class SimKnownKeys:
    """KnownKeys of the simulated store, whose rows are keys alone: the messages of one key are all the same there."""

    def __init__(self, store: SimStore, units: Iterable[Unit]) -> None:
        self._store = store
        kinds = {unit.key: kind_of(unit.job.message_type, unit.job.user_id) for unit in units}
        self._tags = {key: kinds[key] for key in kinds if key is not None}

    async def known(self, keys: Sequence[str]) -> dict[int, int]:
        if self._store.down:
            raise StoreUnavailableError(self._store.down)
        return {row: self._tags[key] for row, key in enumerate(keys) if key in self._store.keys}


class SimCluster:
    """Where the workers of one router run: they end with it. `down`: the services that do not answer now.

    `serials`: the jobs of a body; `origins`: the deliveries of a batch.
    """

    def __init__(
        self,
        router: int,
        *,
        store: SimStore,
        checker: Checker,
        faults: Faults,
        slots: int,
        timeout_s: float,
        down: set[float],
        serials: Callable[[bytes], tuple[str, ...]],
        origins: Callable[[str], Iterable[Origin]],
    ) -> None:
        self.router, self.checker, self.faults, self.slots = router, checker, faults, slots
        self.store = store
        self.timeout_s = timeout_s
        self.serials, self.origins = serials, origins
        self.workers: set[SimWorker] = set()
        self._down = down
        self._nodes = itertools.cycle(range(NODES))

    def spawn(self, name: str) -> SimWorker:
        """As RayFactory."""
        if self.faults.take("spawn") is not None:
            raise RuntimeError("the cluster has no place")
        worker = SimWorker(name, next(self._nodes), self)
        self.workers.add(worker)
        return worker

    def fails(self, wish: Wish) -> bool:
        """Whether the handler raises something transient this time."""
        if wish.do == "call":
            return wish.value in self._down
        return wish.do in ("raise", "retry") and self.checker.failed_runs[wish.serial] < wish.value

    def lose_node(self, node: int) -> None:
        """The node goes away with all its workers; Ray does not say so at once."""
        for worker in [one for one in self.workers if one.node == node]:
            worker.node_gone = True
            worker.die("worker_crashed", poison=True, in_doubt=True)

    def end(self) -> None:
        """The router has ended."""
        for worker in list(self.workers):
            worker.die("owner died", poison=False)
