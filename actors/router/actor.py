"""ConsumerRouter: the one actor that consumes the queue. Puts the plain classes together and runs them."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from rabbitray.actors.errors import RabbitrayError
from rabbitray.actors.publisher import Publisher, PublisherConfig
from rabbitray.actors.remote.boot import Boot, Flush, ray_attributes
from rabbitray.actors.remote.calls import WakeAutoscaler
from rabbitray.actors.remote.nodes import draining_nodes
from rabbitray.actors.router.config import RouterConfig
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.dispatch.pool import Pool, PoolConfig
from rabbitray.actors.router.dispatch.quarantine import Quarantine
from rabbitray.actors.router.dispatch.workers import RayFactory
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.consumer import Intake
from rabbitray.actors.router.meter import Counts, PoolMeter, PublishMeter
from rabbitray.actors.router.report import worker_row
from rabbitray.actors.router.router import Router
from rabbitray.actors.router.settlement.copies import CopyOutbox
from rabbitray.actors.router.settlement.dropped import Collector
from rabbitray.actors.router.settlement.failpoints import Failpoints
from rabbitray.actors.router.settlement.retries import RetryLimits
from rabbitray.actors.router.settlement.settler import Settler
from rabbitray.actors.router.status import PoolStatus
from rabbitray.actors.store.client import StoreClient
from rabbitray.actors.telemetry.kpi import READ_DURATION
from rabbitray.actors.telemetry.metrics import NO_METRICS
from rabbitray.actors.telemetry.ray_metrics import Metering
from rabbitray.actors.telemetry.tracing import Tracing
from rabbitray.actors.worker.actor import WorkerSetup

log = logging.getLogger(__name__)

CRASH_PREFIX = "crashes:"
DRAINING_EVERY_TICKS = 5
DRAIN_ASKED = "asked to drain"
"""What `watch` returns when `rabbitray drain` asked for the end; anything else is a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSetup:
    """Everything that the router process needs."""

    pool: str
    namespace: str
    intake: IntakeConfig
    publisher: PublisherConfig
    worker: WorkerSetup
    boot: Boot
    metering: Metering = field(default_factory=Metering)
    router: RouterConfig = field(default_factory=RouterConfig)
    limits: RetryLimits = field(default_factory=RetryLimits)
    max_tasks_in_flight_per_actor: int = 2
    max_crashes: int = 2
    start_timeout_s: float = 300.0
    min_size: int = 0
    initial_size: int = 1
    max_size: int = 32
    window: int = 100
    batch_size: int = 10

    def first_size(self, control: Mapping[str, object]) -> int:
        """Workers to start with: the fixed size of the control table, if there is one, within the bounds."""
        fixed = control.get("fixed_size")
        size = fixed if isinstance(fixed, int) else self.initial_size
        return min(max(size, self.min_size), self.max_size)

    def pool_config(self, kind: str, most_in_flight: int) -> PoolConfig:
        """The pool of that kind of worker."""
        return PoolConfig(
            name=f"{self.pool}-{kind}",
            max_tasks_in_flight_per_actor=most_in_flight,
            handler_timeout_s=self.worker.config.handler_timeout_s,
            start_timeout_s=self.start_timeout_s,
        )


class ConsumerRouter:
    """The consumer-router actor. `start` consumes; `drain` ends it."""

    def __init__(self, setup: RouterSetup) -> None:
        self._setup = setup
        self._flush: Flush = setup.boot("router", ray_attributes("ConsumerRouter", f"{setup.pool}-router"))
        self._store = StoreClient(f"{setup.pool}-store", setup.namespace, setup.intake.topology.queue)
        self._tracing = Tracing(queue=setup.intake.topology.queue, server=setup.worker.server)
        self._metrics = setup.metering.recorder()
        self._meter = None if self._metrics is NO_METRICS else PoolMeter(self._metrics)
        self._written = PublishMeter(self._metrics)
        self._publisher = Publisher(setup.publisher, sink=self._written)
        self._alarm = WakeAutoscaler(f"{setup.pool}-autoscaler", setup.namespace)
        self._keeper: asyncio.Task[None] | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._loop_lag_s = 0.0
        self._started = False
        self._drained = False
        self._drain_asked = asyncio.Event()

    async def start(self) -> list[str]:
        """Connects, registers at the store, starts the pool, reads the control table and consumes.

        Returns warnings about existing queues. Raises ConfigurationError before anything is consumed.
        """
        setup = self._setup
        self._intake = Intake(setup.intake, on_delivery=self._on_delivery, on_lost=self._on_lost, tracing=self._tracing)
        warnings = await self._intake.open()
        await self._publisher.__aenter__()
        await self._store.register(f"{setup.pool}-router {uuid.uuid4().hex[:8]} pid {os.getpid()}")
        control = await self._store.control()
        self._assemble(control)
        self._pool.resize(setup.first_size(control))
        if control.get("paused"):
            await self._router.hold("paused", str(control["paused"]))
        await self._router.start(setup.window, setup.batch_size)
        await self._collector.start()
        self._keeper = asyncio.create_task(self._tick_on(), name="router-ticks")
        self._flushing = asyncio.create_task(self._metrics.run(asyncio.Event()), name="router-metrics")
        self._started = True
        return warnings

    def _assemble(self, control: dict[str, object]) -> None:
        setup = self._setup
        factory = RayFactory(setup.worker, setup.namespace)
        self._pool = Pool(
            setup.pool_config("worker", setup.max_tasks_in_flight_per_actor), factory, on_change=self._wake
        )
        self._isolated = Pool(setup.pool_config("quarantine", 1), factory, on_change=self._wake)
        self._quarantine = Quarantine(
            self._isolated,
            max_crashes=setup.max_crashes,
            counts=crash_counts(control),
            note=lambda name, count: self._store.set_control(CRASH_PREFIX + name, count or None),
        )
        dropped = replace(setup.intake, queue=setup.intake.topology.dropped_queue, name=f"{setup.pool}-collector")
        self._collector = Collector(dropped, self._settler_for)
        self._settler = self._settler_for(self._intake)
        self._router = Router(
            setup.router,
            source=self._intake,
            pool=self._pool,
            recorder=self._store,
            settler=self._settler,
            quarantine=self._quarantine,
            waited=None if self._meter is None else self._note_wait,
        )

    def _settler_for(self, acks: Intake) -> Settler:
        topology = self._setup.intake.topology
        outbox = CopyOutbox(self._publisher, topology, Failpoints(self._setup.router.failpoint))
        return Settler(
            self._setup.limits,
            topology.queue,
            acks=acks,
            outbox=outbox,
            record_dead_letters=self._store.record_dead_letters,
            tracing=self._tracing,
            wire=self._setup.worker.config.wire,
            codes=self._setup.worker.config.codes,
        )

    async def status(self) -> PoolStatus:
        """What the autoscaler decides on."""
        self._insist_started()
        return self._status()

    async def report(self) -> dict[str, object]:
        """What people look at: counts, latency, holds, workers."""
        self._insist_started()
        tally, now = self._settler.tally, time.monotonic()
        return {
            "connected": self._intake.connected,
            "generation": self._intake.generation,
            "reconnects": self._intake.reconnects,
            "unacked": self._intake.unacked,
            "stale": self._intake.stale,
            "received": self._router.arrivals.received,
            "done": tally.done,
            "duplicates": tally.duplicates,
            "retried": tally.retried,
            "dead": tally.dead + self._collector.collected,
            "acked": tally.acked,
            "given_back": tally.given_back,
            "latency_ms": tally.latency.summary(),
            "write_ms": self._written.latency.summary(),
            "holds": dict(self._router.holds),
            "errors": self._router.recent.errors(now),
            "window": self._router.window,
            "batch_size": self._router.batch_size,
            "quarantined": len(self._quarantine),
            "target": self._pool.target,
            "replaced": self._pool.replaced,
            "start_error": self._pool.start_error,
            "fenced": self._router.fenced.is_set(),
            "loop_lag_s": round(self._loop_lag_s, 3),
            "spans_lost": self._tracing.spans_lost,
            "workers": [worker_row(member, now) for member in [*self._pool.members, *self._isolated.members]],
        }

    async def resize(self, target: int, reason: str) -> None:
        """Sets the number of workers."""
        self._insist_started()
        if target != self._pool.target:
            log.debug("Pool: %d -> %d workers: %s", self._pool.target, target, reason)
        self._pool.resize(target)
        self._wake()

    async def widen(self, window: int, batch_size: int) -> None:
        """Sets the prefetch window (messages) and the batch size (records)."""
        self._insist_started()
        await self._router.set_window(window, batch_size)

    async def pause(self, reason: str) -> None:
        """Stops consuming until `resume`; survives a restart."""
        self._insist_started()
        await self._store.set_control("paused", reason)
        await self._router.hold("paused", reason)

    async def resume(self) -> None:
        """Ends a pause."""
        self._insist_started()
        await self._store.set_control("paused", None)
        await self._router.release("paused")

    async def watch(self) -> str:
        """Lasts as long as this actor works; returns why it ended for good, or DRAIN_ASKED."""
        ends = [asyncio.create_task(event.wait()) for event in (self._router.fenced, self._drain_asked)]
        _, open_ends = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in open_ends:
            task.cancel()
        return "another router has taken over this pool" if self._router.fenced.is_set() else DRAIN_ASKED

    async def ask_drain(self) -> None:
        """Lets the driver, which waits in `watch`, drain and end the pool."""
        log.info("Draining: asked to by `rabbitray drain`")
        self._drain_asked.set()

    async def drain(self, within_s: float) -> dict[str, object]:
        """Stop order: intake, in-flight work up to the deadline, give back, workers, connections, traces."""
        if self._drained:
            return {"clean": True}
        self._drained = True
        if self._keeper is not None:
            self._keeper.cancel()
        clean = await self._router.drain(within_s)
        report = await self.report()
        self._measure()
        await asyncio.gather(self._pool.stop(5.0), self._isolated.stop(1.0))
        await self._collector.close()
        await self._publisher.close()
        await self._intake.close()
        if self._flushing is not None:
            self._flushing.cancel()
        self._metrics.flush()
        await asyncio.get_running_loop().run_in_executor(None, self._flush, 5.0)
        return report | {"clean": clean}

    def _insist_started(self) -> None:
        """An actor has its name before `start` has done its work: whoever finds it then is told to come again."""
        if not self._started:
            raise RabbitrayError(f"actor {self._setup.pool}-router is starting; ask again in a few seconds")

    def _on_delivery(self, delivery: Delivery) -> None:
        self._router.receive(delivery)
        self._alarm.delivered(delivery.arrived_at)

    def _on_lost(self, generation: int) -> None:
        self._router.drop(generation)

    def _wake(self) -> None:
        self._router.wake()

    async def _tick_on(self) -> None:
        """Once a second: what must not wait for ever; also measures how late this loop runs."""
        for tick in itertools.count():
            before = time.monotonic()
            await asyncio.sleep(1.0)
            self._loop_lag_s = time.monotonic() - before - 1.0
            try:
                self._router.tick()
                self._measure()
                if tick % DRAINING_EVERY_TICKS == 0:
                    await self._leave_draining_nodes()
            except Exception:
                log.exception("The router's housekeeping failed; it tries again in a second")

    async def _leave_draining_nodes(self) -> None:
        draining = await asyncio.get_running_loop().run_in_executor(None, draining_nodes)
        if draining:
            self._pool.leave(draining)

    def _note_wait(self, seconds: float) -> None:
        self._metrics.record(READ_DURATION.name, seconds * 1000)

    def _measure(self) -> None:
        """One look for the metrics; nothing where they are switched off."""
        if self._meter is not None:
            tally = self._settler.tally
            counts = Counts(
                at=time.monotonic(),
                done=tally.done,
                duplicates=tally.duplicates,
                retried=tally.retried,
                dead=tally.dead + self._collector.collected,
                acked=tally.acked,
            )
            self._meter.look(self._status(), counts, connected=self._intake.connected, lag_s=self._loop_lag_s)

    def _status(self) -> PoolStatus:
        pool, router, tally, now = self._pool, self._router, self._settler.tally, time.monotonic()
        starting = [now - member.asked_at for member in pool.members if member.state == "starting"]
        oldest = router.buffer.oldest_at
        in_flight = sum(len(batch.pending) for member in pool.members for batch in member.batches.values())
        return PoolStatus(
            at=now,
            workers=pool.count("ready"),
            starting=len(starting),
            retiring=pool.count("retiring"),
            busy=sum(bool(member.batches) for member in pool.members),
            target=pool.target,
            held=self._intake.unacked,
            buffered=len(router.buffer),
            in_flight=in_flight,
            done=tally.acked,
            failed=tally.retried + tally.dead,
            received=router.arrivals.received - router.arrivals.returned,
            returned=router.arrivals.returned,
            busy_s=pool.busy_s,
            oldest_held_s=None if oldest is None else now - oldest,
            start_s=pool.start_s,
            placeable=None,
            can_grow_nodes=False,
            paused="paused" in router.holds,
            hold=next((reason for name, reason in router.holds.items() if name != "paused"), None),
            window=router.window,
            old_window_held=self._intake.held_by_old,
            batch_size=router.batch_size,
            mean_message_bytes=router.arrivals.mean_message_bytes,
            slots=max((member.slots for member in pool.members), default=1),
            pending_s=max(starting, default=None),
            epoch=self._store.epoch,
            records_per_message=self._router.arrivals.records_per_message,
        )

    def __repr__(self) -> str:
        return f"ConsumerRouter({self._setup.pool})"


def crash_counts(control: Mapping[str, object]) -> dict[str, int]:
    """The lone crashes that the control table keeps, by identity of the message."""
    return {
        name.removeprefix(CRASH_PREFIX): count
        for name, count in control.items()
        if name.startswith(CRASH_PREFIX) and isinstance(count, int)
    }
