"""Router: the spine. receive -> dispatch -> record -> settle.

A plain class over small Protocols; `remote.py` makes a Ray actor of it. Nothing is acknowledged before its outcome
is safe, see `settling.py`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from rabbitray.actors.errors import FencedError, PayloadLostError
from rabbitray.actors.message.parcel import is_packed
from rabbitray.actors.message.reply import Failure, Part
from rabbitray.actors.router.delivery import Batch, Buffer, Delivery, refusal
from rabbitray.actors.router.dispatch.arrival_forecast import RUSH_MS, ArrivalForecast
from rabbitray.actors.router.dispatch.member import Member, WorkerLostError
from rabbitray.actors.router.dispatch.pool import Pool
from rabbitray.actors.router.dispatch.quarantine import Quarantine
from rabbitray.actors.router.outage import Outage, OutageLimits
from rabbitray.actors.router.settlement.conclusion import Conclusion, PendingPart, ResultWriter
from rabbitray.actors.router.settlement.failpoints import Failpoints
from rabbitray.actors.router.settlement.settler import Settler
from rabbitray.actors.router.status import RecentOutcomes, outcomes_of

log = logging.getLogger(__name__)

P = TypeVar("P")


class DeliverySource(Protocol):
    """Where deliveries come from, as `Intake` does it."""

    async def consume(self, window: int) -> None: ...
    async def pause(self) -> None: ...
    def give_back(self, deliveries: Iterable[Delivery]) -> None: ...
    def still_ours(self, deliveries: Iterable[Delivery]) -> list[Delivery]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterConfig:
    """Bounds of batching: milliseconds, bytes, seconds."""

    batch_timeout_ms: float = 50.0
    batch_bytes: int = 8 * 1024 * 1024
    max_hold_s: float = 300.0
    outage: OutageLimits = field(default_factory=OutageLimits)
    failpoint: str = ""


class Router(Generic[P]):
    """Takes deliveries, forms batches, has them worked, recorded and settled. Belongs to one event loop."""

    def __init__(
        self,
        config: RouterConfig,
        *,
        source: DeliverySource,
        pool: Pool[P],
        recorder: ResultWriter[P],
        settler: Settler,
        quarantine: Quarantine[P],
        waited: Callable[[float], None] | None = None,
    ) -> None:
        self._config = config
        self._source = source
        self._pool = pool
        self._settler = settler
        self._quarantine = quarantine
        self._waited = waited  # told at each dispatch how many seconds the median message of the batch waited
        self._outage = Outage(config.outage)
        self._recording = Conclusion(
            recorder,
            Failpoints(config.failpoint),
            away=lambda error: self.hold("store", str(error)),
            back=lambda: self.release("store"),
        )
        self.recent = RecentOutcomes()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._woken = False
        self._closing = False
        self._company = ArrivalForecast(time.monotonic())
        self.buffer = Buffer()
        self.window = 1
        self.batch_size = 1
        self.holds: dict[str, str] = {}  # why nothing is consumed now: name -> reason in words
        self.fenced = asyncio.Event()
        self.received = 0
        self.returned = 0
        self.mean_message_bytes: float | None = None  # smoothed over about the last 100 messages
        self.records_per_message = 1.0  # likewise

    # control

    async def set_window(self, window: int, batch_size: int) -> None:
        """Prefetch in messages (>= 1) and records for each batch; a change of window is a consumer hand-over."""
        self.batch_size = batch_size
        if window != self.window or not self.window:
            self.window = window
            if not self.holds and not self._closing:
                await self._source.consume(window)

    async def start(self, window: int, batch_size: int) -> None:
        """Begins to consume, unless something holds."""
        self.window, self.batch_size = window, batch_size
        if not self.holds:
            await self._source.consume(window)
            self._company.expect(time.monotonic())

    async def hold(self, name: str, reason: str) -> None:
        """Stops consuming and gives back what was not dispatched, until `release(name)`."""
        first = not self.holds
        self.holds[name] = reason
        if first:
            log.warning("Consuming is paused (%s): %s", name, reason)
            await self._source.pause()
            self._give_back_waiting()

    async def release(self, name: str) -> None:
        """Ends one hold; consuming goes on when it was the last."""
        if self.holds.pop(name, None) is not None and not self.holds and not self._closing:
            log.info("Consuming goes on (%s is over)", name)
            await self._source.consume(self.window)
            self._company.expect(time.monotonic())
            self.wake()

    async def drain(self, within_s: float) -> bool:
        """Stops consuming, lets what is in flight finish, gives the rest back; True when all finished in time."""
        self._closing = True
        await self._source.pause()
        self._give_back_waiting()
        now = asyncio.get_running_loop().time
        deadline = now() + within_s
        while (steps := self._steps()) and (left_s := deadline - now()) > 0:  # they leave steps behind
            await asyncio.wait(steps, timeout=left_s)
        unfinished = self._steps()
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        self._give_back_waiting()
        return not unfinished

    def tick(self) -> None:
        """Once a second: gives back what waits longer than `max_hold_s`, for a worker or for the store."""
        late = time.monotonic() - self._config.max_hold_s
        self._source.give_back(self.buffer.remove(lambda delivery: delivery.arrived_at < late))
        self._source.give_back(self._quarantine.remove(lambda delivery: delivery.arrived_at < late))
        for entry in self._recording.older_than(late):
            log.warning("Batch %s waits for the store too long; its messages are given back", entry.batch.id)
            self._give_up(entry)
        if list(self.holds) == ["outage"] and not self._probing() and self._outage.probe_due(time.monotonic()):
            self.spawn(self._source.consume(1))
        self.wake()

    def _probing(self) -> bool:
        """Whether a probe is on its way: one at a time finds out whether an outage is over."""
        return any(batch.probe for member in self._pool.members for batch in member.batches.values())

    def spawn(self, step: Coroutine[object, object, None]) -> None:
        """Runs a step beside the others; a failure of it is logged, never swallowed."""
        task = asyncio.create_task(step)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _steps(self) -> list[asyncio.Task[None]]:
        return [task for task in self._tasks if task is not asyncio.current_task()]

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("A step of the router failed", exc_info=error)

    def _give_back_waiting(self) -> None:
        self._source.give_back(self.buffer.remove(lambda _: True))
        self._source.give_back(self._quarantine.take_all())

    async def _fence(self, error: FencedError) -> None:
        """Another router has taken over: nothing more is consumed, published or acked by this one."""
        if not self.fenced.is_set():
            log.error("This router is fenced and stops: %s", error)
            self._closing = True
            self.fenced.set()
            await self._source.pause()

    # receive

    def receive(self, delivery: Delivery) -> None:
        """Buffers one delivery; called from inside the channel's reader."""
        self.received += 1
        if delivery.returned or delivery.redelivered:
            self.returned += 1
        mean = self.mean_message_bytes
        self.mean_message_bytes = delivery.size if mean is None else mean + 0.01 * (delivery.size - mean)
        if mean is None:
            self.records_per_message = float(delivery.records)
        else:
            self.records_per_message += 0.01 * (delivery.records - self.records_per_message)
        if self._closing:
            self.buffer.put(delivery)  # it crossed the cancelling of the consumer; given back with the rest
        elif delivery.refused is not None:
            self.spawn(self._park(delivery, refusal(delivery)))
        elif delivery.due_ms > time.time() * 1000:
            self.spawn(self._settler.postpone(delivery))
        elif self._quarantine.knows(delivery):
            self._quarantine.add([delivery])
        else:
            self.buffer.put(delivery)
        if self._outage.held:
            self.spawn(self._source.pause())  # this one is the probe
        self.wake()

    def wake(self) -> None:
        """Lets the dispatcher look once, after all deliveries that are being read now."""
        if not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def drop(self, generation: int) -> None:
        """The channel of this generation died: what waits of it comes again by itself."""
        self.buffer.remove(lambda delivery: delivery.generation <= generation)
        self._quarantine.take_all()

    # dispatch

    def _dispatch(self) -> None:
        self._woken = False
        self._company.look(self.received, time.monotonic())
        if self._outage.held:
            self._dispatch_probe()
        while not self._closing:
            member = self._pool.pick()
            if member is None or not self._ripe(member):
                break
            batch = Batch(self.buffer.take(self.batch_size, self._config.batch_bytes))
            self._send(member, batch, self.work(self._pool, member, batch))
        if not self._closing:
            for pool, member, batch in self._quarantine.next():
                self._send(member, batch, self._work_suspects(pool, member, batch))

    def _dispatch_probe(self) -> None:
        """During an outage one message goes out, when none is out there yet; what else arrived waits in the queue."""
        member = self._pool.pick()
        if member is not None and not self._probing() and (probe := self.buffer.take(1, self._config.batch_bytes)):
            batch = Batch(probe)
            self._send(member, batch, self.work(self._pool, member, batch))
        self._source.give_back(self.buffer.remove(lambda _: True))

    def _send(self, member: Member[P], batch: Batch, path: Coroutine[object, object, None]) -> None:
        batch.worker, batch.probe = member.name, self._outage.held
        if self._waited is not None:
            self._waited(time.monotonic() - batch.deliveries[len(batch.deliveries) // 2].arrived_at)
        member.batches[batch.id] = batch  # counts at once, before the task runs
        self.spawn(path)

    def _ripe(self, member: Member[P]) -> bool:
        """Whether the front of the buffer goes out now: full, old enough, or a worker is idle or has slots free."""
        oldest, now = self.buffer.oldest_at, time.monotonic()
        if oldest is None:
            return False
        idle = not member.batches
        enough, patience_ms = float(self.batch_size), self._config.batch_timeout_ms
        if idle or member.open_jobs < member.slots:
            enough = self._company.wanted(self.batch_size, self.received, now, idle=idle)
            patience_ms = min(patience_ms, RUSH_MS)
        if self.buffer.records >= enough or self.buffer.size >= self._config.batch_bytes:
            return True
        left_s = oldest + patience_ms / 1000 - now
        if left_s > 0:
            self._look_again(left_s + 0.001)
        return left_s <= 0

    def _look_again(self, in_s: float) -> None:
        """Lets the dispatcher look then, if it does not do so earlier."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + in_s:
                return
            self._timer.cancel()
        self._timer = loop.call_later(in_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._dispatch()

    # the path of one batch

    async def work(self, pool: Pool[P], member: Member[P], batch: Batch) -> None:
        """The path of one batch: run -> record -> settle, part by part."""
        try:
            async for part, payload in pool.run(member, batch):
                self._requeue(batch.take(part.returned))
                batch.take(part.finished)
                self.spawn(self._conclude(batch, part, payload))
        except WorkerLostError as loss:
            await self._recover(member, batch, loss)
        else:
            if batch.pending:
                log.error("Batch %s ended without word on %d messages; they run again", batch.id, len(batch.pending))
                self._mark_unsafe(batch, Part(finished=sorted(batch.pending)))
            await self._quarantine.clear(batch)

    async def _work_suspects(self, pool: Pool[P], member: Member[P], batch: Batch) -> None:
        await self._quarantine.count(batch)
        await self.work(pool, member, batch)

    async def _conclude(self, batch: Batch, part: Part, payload: P) -> None:
        """Record, then settle. Whatever goes wrong, the messages of the part are given back, not forgotten."""
        entry = self._recording.enter(batch, part)
        async with batch.in_order:
            try:
                answer = await self._recording.commit(entry, payload)
                if self.fenced.is_set() or entry.given_up:
                    return
                if await self._observe(batch, part):
                    await self._settler.settle(batch, part, answer)
                else:
                    self._give_up(entry)
            except PayloadLostError as loss:
                log.warning("Rows of batch %s are lost (%s): its messages run again", batch.id, loss)
                self._give_up(entry)
            except FencedError as error:
                await self._fence(error)
            except Exception:
                log.exception("Batch %s could not be settled; its messages are given back", batch.id)
                self._give_up(entry)

    async def _observe(self, batch: Batch, part: Part) -> bool:
        """Watches for an outage; False when this part was a probe that failed: no attempt is charged for it."""
        now = time.monotonic()
        self.recent.add(outcomes_of(part, now))
        if batch.probe and self._outage.held:
            if not self._outage.end_probe(part):
                return False
            await self.release("outage")
        self._outage.note(part, now)
        if (reason := self._outage.check(now)) is not None:
            await self.hold("outage", reason)
        return True

    def _give_up(self, entry: PendingPart) -> None:
        if not entry.given_up:
            entry.given_up = True
            self._mark_unsafe(entry.batch, entry.part)

    def _mark_unsafe(self, batch: Batch, part: Part) -> None:
        """No outcome of this part is safe: none of its messages may be acked, by a later part either."""
        batch.unsafe.update(part.row_positions, part.finished)
        batch.unsafe.update(failure.position for failure in part.failures)
        self._settler.close(batch, part)

    async def _park(self, delivery: Delivery, failure: Failure) -> None:
        self.recent.add(outcomes_of(Part(failures=[failure]), time.monotonic()))
        try:
            await self._settler.park(delivery, failure)
        except FencedError as error:
            await self._fence(error)

    async def _recover(self, member: Member[P], batch: Batch, loss: WorkerLostError) -> None:
        """What a lost worker had not finished: suspects are isolated, the innocent go out again as they were."""
        left = self._source.still_ours(batch.take(sorted(batch.pending)))
        log.warning("Batch %s lost (%s): %d messages run again", batch.id, loss, len(left))
        if not loss.may_be_poison and not self._quarantine.holds(batch):
            self._requeue(left)
        elif loss.may_be_poison and len(left) == 1 and is_packed(left[0].parcel):
            await self._quarantine.clear(batch)
            await self._settler.part(left[0])
        elif (failure := await self._quarantine.isolate(batch, left, loss, of=member.name)) is not None:
            await self._park(left[0], failure)
        self.wake()

    def _requeue(self, deliveries: list[Delivery]) -> None:
        """They go out again first; during an outage they wait in the queue, for one probe is enough."""
        if self._outage.held:
            self._source.give_back(deliveries)
        else:
            self.buffer.put_back(self._source.still_ours(deliveries))
        self.wake()
