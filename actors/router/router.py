"""Router: the spine. receive -> dispatch -> run -> conclude.

A plain class over small Protocols; `actor.py` makes a Ray actor of it. Nothing is acknowledged before its outcome
is safe, see `settlement/`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar

from rabbitray.actors.background import BackgroundTasks
from rabbitray.actors.message.parcel import is_packed
from rabbitray.actors.message.reply import Part
from rabbitray.actors.router.arrivals import Arrivals
from rabbitray.actors.router.config import RouterConfig
from rabbitray.actors.router.consumption import Consumption
from rabbitray.actors.router.delivery import Batch, Buffer, Delivery, refusal
from rabbitray.actors.router.dispatch.dispatcher import Dispatcher
from rabbitray.actors.router.dispatch.member import Member, WorkerLostError
from rabbitray.actors.router.dispatch.pool import Pool
from rabbitray.actors.router.dispatch.quarantine import KNOWN_MOST, Quarantine, identity
from rabbitray.actors.router.dispatch.uncommitted import UncommittedRows
from rabbitray.actors.router.holds.outage import Outage
from rabbitray.actors.router.settlement.conclusion import BatchSafety, Concluder, ResultWriter
from rabbitray.actors.router.settlement.failpoints import Failpoints
from rabbitray.actors.router.settlement.outstanding import OutstandingRetries
from rabbitray.actors.router.settlement.settler import Settler
from rabbitray.actors.router.status import RecentOutcomes

log = logging.getLogger(__name__)

P = TypeVar("P")


class DeliverySource(Protocol):
    """Where deliveries come from, as `Intake` does it. `counts_returns`: a quorum queue counts what is given back."""

    async def consume(self, window: int) -> None: ...
    async def pause(self) -> None: ...
    @property
    def counts_returns(self) -> bool: ...
    def give_back(self, deliveries: Iterable[Delivery]) -> None: ...
    def still_ours(self, deliveries: Iterable[Delivery]) -> list[Delivery]: ...


class Router(Generic[P]):
    """Takes deliveries, forms batches, has them worked and concluded. Belongs to one event loop.

    `waited` is told at each dispatch how many seconds the median message of the batch waited. `clock`: monotonic
    seconds, as `Delivery.arrived_at`; `cpu_clock`: seconds of CPU of this thread. `outstanding`: what is out in rungs.
    """

    def __init__(
        self,
        config: RouterConfig,
        *,
        source: DeliverySource,
        pool: Pool[P],
        writer: ResultWriter[P],
        settler: Settler,
        quarantine: Quarantine[P],
        waited: Callable[[float], None] | None = None,
        outstanding: OutstandingRetries | None = None,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._config, self._clock = config, clock
        self._source, self._settler, self._quarantine = source, settler, quarantine
        self._outage = Outage(config.outage)
        self._broken: dict[str, int] = {}  # of messages that were given back, see Delivery.broken
        self.uncommitted = UncommittedRows(config.uncommitted_bytes, on_room=self.wake)
        self.tasks, self.arrivals, self.buffer = (
            BackgroundTasks(log, "A step of the router failed"),
            Arrivals(outstanding=outstanding),
            Buffer(),
        )
        self._stopping = BackgroundTasks(log, "The consumer was not stopped")
        self._consumption = Consumption(
            source, on_hold=self._give_back_waiting, on_consume=lambda: self._dispatcher.expect_burst()
        )
        self._dispatcher = self._make_dispatcher(pool, waited, cpu_clock)
        self._concluder = Concluder(
            writer, settler, Failpoints(config.failpoint), self._consumption, self._outage, clock
        )

    def _make_dispatcher(
        self, pool: Pool[P], waited: Callable[[float], None] | None, cpu_clock: Callable[[], float]
    ) -> Dispatcher[P]:
        return Dispatcher(
            self._config,
            buffer=self.buffer,
            pool=pool,
            quarantine=self._quarantine,
            arrivals=self.arrivals,
            outage=self._outage,
            consumption=self._consumption,
            uncommitted=self.uncommitted,
            run=self._run,
            waited=waited,
            clock=self._clock,
            cpu_clock=cpu_clock,
        )

    def _run(self, pool: Pool[P], member: Member[P], batch: Batch) -> None:
        self.tasks.spawn(self.work(pool, member, batch))

    # control

    @property
    def window(self) -> int:
        """Prefetch in messages."""
        return self._consumption.window

    @property
    def batch_size(self) -> int:
        """Records for each batch."""
        return self._dispatcher.batch_size

    @property
    def holds(self) -> Mapping[str, str]:
        """Why nothing is consumed now: name -> reason in words."""
        return self._consumption.holds

    @property
    def recent(self) -> RecentOutcomes:
        """What became of the last jobs."""
        return self._concluder.recent

    @property
    def fenced(self) -> asyncio.Event:
        """Set when another router has taken over."""
        return self._consumption.fenced

    async def start(self, window: int, batch_size: int) -> None:
        """Begins to consume, unless something holds."""
        self._dispatcher.batch_size = batch_size
        await self._consumption.start(window)

    @property
    def backlog(self) -> bool:
        """Whether the queue held more than a window when it was looked at last."""
        return self._dispatcher.backlog

    async def set_window(self, window: int, batch_size: int, *, backlog: bool = False, hand_over: bool = False) -> None:
        """Prefetch in messages (>= 1) and records for each batch; a change of window is a consumer hand-over.

        `hand_over`: so is this in any case, since what the older consumer holds is not counted against the new one.
        `backlog`: the queue holds more than a window, so batches wait until they are worth what they cost.
        """
        self._dispatcher.batch_size, self._dispatcher.backlog = batch_size, backlog
        await self._consumption.set_window(window, hand_over=hand_over)

    async def hold(self, name: str, reason: str) -> None:
        """Stops consuming and gives back what was not dispatched, until `release(name)`."""
        await self._consumption.hold(name, reason)

    async def release(self, name: str) -> None:
        """Ends one hold; consuming goes on when it was the last."""
        await self._consumption.release(name)

    async def drain(self, within_s: float) -> bool:
        """Stops consuming, lets what is in flight finish, gives the rest back; True when all finished in time.

        RabbitMQ answers behind all that it has sent before, which may take as long as that is large: then this goes on
        without its answer, and the connection's end is the consumer's, too.
        """
        now = asyncio.get_running_loop().time
        deadline = now() + within_s
        stopping = self._stopping.spawn(self._consumption.close())
        await asyncio.wait({stopping}, timeout=within_s)
        self._give_back_waiting()
        in_time = await self.tasks.finish(deadline - now())
        self._give_back_waiting()
        return in_time and stopping.done()

    def tick(self) -> None:
        """Once a second: gives back what waits longer than `max_hold_s`, for a worker or for the store."""
        now = self._clock()
        late = now - self._config.max_hold_s
        self._give_back(self.buffer.remove(lambda delivery: delivery.arrived_at < late))
        self._give_back(self._quarantine.remove(lambda delivery: delivery.arrived_at < late))
        self._concluder.give_up_older_than(late)
        if self._consumption.probing:
            self._tend_probes(now)
        self.wake()

    def _tend_probes(self, now: float) -> None:
        """During an outage: lets the messages of the next round of probes come, and no others."""
        rounds = self._outage.rounds
        if not self._dispatcher.probes_out and (most := rounds.begin_round(now)):
            self.tasks.spawn(self._consumption.start_probing(most))
        elif rounds.is_over(now):
            self.tasks.spawn(self._stop_probing())

    async def _stop_probing(self) -> None:
        """Lets no more probes come. What came in vain goes back then, and not before: it would come again at once, over
        and over, for as long as the broker takes to answer.
        """
        await self._consumption.stop_probing()
        if self._outage.held:
            self._give_back(self.buffer.take_behind(self._outage.rounds.left(self._clock())))

    def wake(self) -> None:
        """Lets the dispatcher look: a worker can take work, or something waits."""
        self._dispatcher.wake()

    def _give_back(self, deliveries: list[Delivery]) -> None:
        """Returns them to the queue. What their handler said of its worker counts when they come again."""
        for delivery in deliveries:
            if delivery.broken:
                self._broken[identity(delivery)] = delivery.broken
        while len(self._broken) > KNOWN_MOST:
            del self._broken[next(iter(self._broken))]
        self._source.give_back(deliveries)

    def _give_back_waiting(self) -> None:
        self._give_back(self.buffer.remove(lambda _: True))
        self._give_back(self._quarantine.take_all())

    # receive

    def receive(self, delivery: Delivery) -> None:
        """Buffers one delivery; called from inside the channel's reader."""
        self.arrivals.count(delivery)
        if self._broken and delivery.redelivered:
            delivery.broken = self._broken.pop(identity(delivery), 0)
        if self._consumption.closing:
            self.buffer.put(delivery)  # it crossed the cancelling of the consumer; given back with the rest
        elif delivery.stray:
            self._settler.whole.discard(delivery)
        elif delivery.refused is not None:
            self.tasks.spawn(self._concluder.park(delivery, refusal(delivery)))
        elif delivery.near_limit and self._source.counts_returns:
            self.tasks.spawn(self._renew(delivery))
        elif delivery.due_ms and self._settler.whole.must_wait(delivery):
            self.tasks.spawn(self._settler.whole.postpone(delivery))
        elif self._quarantine.knows(delivery):
            self._quarantine.add([delivery])
        else:
            self.buffer.put(delivery)
            if self._outage.held and len(self.buffer) >= self._outage.rounds.left(self._clock()):
                self.tasks.spawn(self._stop_probing())  # this round has all its probes
        self.wake()

    async def _renew(self, delivery: Delivery) -> None:
        """A fresh copy takes its place, of which RabbitMQ has counted no delivery; else it is worked as it is."""
        if not await self._settler.whole.renew(delivery):
            self._requeue([delivery])

    def drop(self, generation: int) -> None:
        """The channel of this generation died: what waits of it comes again by itself."""
        self.buffer.remove(lambda delivery: delivery.generation <= generation)
        self._quarantine.take_all()

    def held(self) -> Iterator[Delivery]:
        """Every delivery that waits, is at a worker, or waits for the store; some of them twice."""
        yield from self.buffer
        yield from self._quarantine.held()
        yield from self._dispatcher.in_hand()
        yield from self._concluder.in_hand()

    def drop_late(self, late: Collection[Delivery]) -> None:
        """RabbitMQ has taken these back: what waits of them comes again by itself."""
        gone = set(late)
        self.buffer.remove(gone.__contains__)
        self._quarantine.remove(gone.__contains__)

    # the path of one batch

    async def work(self, pool: Pool[P], member: Member[P], batch: Batch) -> None:
        """The path of one batch: run it, conclude it part by part, recover what a lost worker had of it."""
        safety = BatchSafety(batch)
        try:
            await self._quarantine.count(batch)
            self._require_ours(batch)
            async for part, payload in pool.run(member, batch):
                if part.keys:
                    batch.note_keys(part.keys)
                    continue
                await self._take_back(batch, batch.take(part.returned))
                batch.take(part.finished)
                self.uncommitted.add(part)
                self.tasks.spawn(self._conclude(safety, part, payload))
        except WorkerLostError as loss:
            pool.release(member, batch)
            await self._recover(batch, loss)
        except Exception:  # whatever it was: nobody else has these messages
            log.exception("Batch %s failed in the router", batch.id)
            self._concluder.give_back_unanswered(safety)
            await self._quarantine.clear(batch)
        else:
            self._concluder.give_back_unanswered(safety)
            await self._quarantine.clear(batch)

    def _require_ours(self, batch: Batch) -> None:
        """Where its connection died before it runs, RabbitMQ delivers its messages again: then it is lost at once.

        One of them tells for all: what waits of a lost connection is dropped before the next one is opened.
        """
        if not self._source.still_ours(batch.deliveries[:1]):
            raise WorkerLostError("connection_lost", "its connection died before it ran", may_be_poison=False)

    async def _conclude(self, safety: BatchSafety, part: Part, payload: P) -> None:
        try:
            await self._concluder.conclude(safety, part, payload)
        finally:
            self.uncommitted.remove(part)

    async def _recover(self, batch: Batch, loss: WorkerLostError) -> None:
        """What a lost worker had not finished: suspects are isolated, the others go out again."""
        left = self._source.still_ours(batch.take(sorted(batch.pending)))
        for delivery in left:
            delivery.ran_before()
        log.warning("Batch %s lost (%s): %d messages run again", batch.id, loss, len(left))
        if loss.may_be_poison or self._quarantine.holds(batch):
            await self._isolate(batch, left, loss)
        else:
            self._requeue(left)
        self.wake()

    async def _isolate(self, batch: Batch, left: list[Delivery], loss: WorkerLostError) -> None:
        """Each runs alone; of a packed message each record, so it is taken apart."""
        packed = [delivery for delivery in left if loss.may_be_poison and is_packed(delivery.parcel)]
        if packed and self._quarantine.holds(batch):
            await self._quarantine.clear(batch)
        else:
            single = [delivery for delivery in left if delivery not in packed]
            failure = await self._quarantine.isolate(batch, single, loss)
            if failure is not None:
                await self._concluder.park(single[0], failure)
        if not self._consumption.running:
            self._give_back(self._quarantine.take_all())
        for delivery in packed:
            await self._settler.whole.take_apart(delivery, expect=self._quarantine.expect)

    async def _take_back(self, batch: Batch, returned: list[Delivery]) -> None:
        """What a worker did not start goes out again; a suspect is suspect still, and its crashes stay counted."""
        if returned and self._quarantine.holds(batch):
            not_started = WorkerLostError("not_started", "its worker gave it back", may_be_poison=False)
            await self._isolate(batch, self._source.still_ours(returned), not_started)
        else:
            self._requeue(returned)

    def _requeue(self, deliveries: list[Delivery]) -> None:
        """They go out again first; while something holds they wait in the queue, like all that was not dispatched. So
        do those that came too long ago: a second run may take longer than RabbitMQ leaves them here.
        """
        late = self._clock() - self._config.max_hold_s
        if self.holds or any(one.arrived_at < late for one in deliveries):
            self._give_back([one for one in deliveries if self.holds or one.arrived_at < late])
            deliveries = [] if self.holds else [one for one in deliveries if one.arrived_at >= late]
        self.buffer.put_back(self._source.still_ours(deliveries))
        self.wake()
