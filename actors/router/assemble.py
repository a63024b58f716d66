"""Puts the router's parts together. Nothing is connected, started or registered here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from rabbitray.actors.publisher import Publisher, PublisherConfig
from rabbitray.actors.publisher.large import LargePublisher
from rabbitray.actors.rabbitmq.addresses import address
from rabbitray.actors.rabbitmq.reconnect import RECONNECT
from rabbitray.actors.remote.boot import Boot, Rows
from rabbitray.actors.remote.calls import WakeAutoscaler
from rabbitray.actors.remote.raylets import Raylets
from rabbitray.actors.router.config import RouterConfig
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.dispatch.lending import Lending
from rabbitray.actors.router.dispatch.member import LastEnd
from rabbitray.actors.router.dispatch.node_watch import NodeWatch
from rabbitray.actors.router.dispatch.pool import Pool, PoolConfig
from rabbitray.actors.router.dispatch.quarantine import Quarantine
from rabbitray.actors.router.dispatch.recycling import Recycling, WearLimits
from rabbitray.actors.router.dispatch.workers import RayFactory
from rabbitray.actors.router.endings import DEAD_IN_A_ROW_MOST, LastEndings
from rabbitray.actors.router.holds.queue_watch import QueueWatch
from rabbitray.actors.router.holds.vanished import VANISHED, VanishedQueues
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.consumer import Intake
from rabbitray.actors.router.intake.opener import GenerationOpener
from rabbitray.actors.router.meter import PoolMeter, PublishMeter
from rabbitray.actors.router.router import Router
from rabbitray.actors.router.settlement.copies import CopyOutbox
from rabbitray.actors.router.settlement.dropped import Collector
from rabbitray.actors.router.settlement.failpoints import Failpoints
from rabbitray.actors.router.settlement.outstanding import OutstandingRetries
from rabbitray.actors.router.settlement.retries import RetryLimits
from rabbitray.actors.router.settlement.settler import Settler
from rabbitray.actors.secret import several
from rabbitray.actors.store.client import StoreClient
from rabbitray.actors.telemetry.kpi import READ_DURATION
from rabbitray.actors.telemetry.metrics import NO_METRICS, Recorder
from rabbitray.actors.telemetry.ray_metrics import Metering
from rabbitray.actors.telemetry.tracing import Tracing
from rabbitray.actors.worker.actor import WorkerSetup

CRASH_PREFIX = "crashes:"

RETRIES_OUT = "retries_out"
"""The entry of the control table that says what is out in rungs."""

QUEUES_SEEN = "queues_seen"
"""The entry that says how deep our queues were, and which of them vanished."""

COLLECTOR_PAUSES = replace(RECONNECT, most_s=60.0)
"""Nobody waits for what the broker dropped, and each connection that it must close is an error in its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSetup:
    """Everything that the router process needs.

    `node`: where it runs; `silent_node_timeout_s`: see NodeWatch.
    `leave_within_s`, `leave_first`: see PoolConfig. `wear`: see Recycling.
    `window`: that it begins with; `kept_window`: instead, where no other can follow.
    """

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
    leave_within_s: float | None = None
    wear: WearLimits = field(default_factory=WearLimits)
    leave_first: bool = False
    silent_node_timeout_s: float = 30.0
    node: str = ""
    min_size: int = 0
    initial_size: int = 1
    max_size: int = 32
    dead_in_a_row: int = DEAD_IN_A_ROW_MOST
    wait_for_vanished: bool = True
    window: int = 100
    kept_window: int = 100
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
            max_run_s=self.worker.config.max_run_s,
            start_timeout_s=self.start_timeout_s,
            leave_within_s=self.leave_within_s,
            leave_first=self.leave_first,
            copies_come_by=self.intake.topology.copies_come_by,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of one router, wired to each other. `meter`: None where metrics are switched off."""

    store: StoreClient
    intake: Intake
    publisher: Publisher
    written: PublishMeter  # durations of what `publisher` publishes
    pool: Pool[Rows]
    isolated: Pool[Rows]  # the quarantine's
    quarantine: Quarantine[Rows]
    lending: Lending[Rows]
    recycling: Recycling[Rows]
    nodes: NodeWatch[Rows]
    settler: Settler
    collector: Collector
    router: Router[Rows]
    outstanding: OutstandingRetries
    watch: QueueWatch
    tracing: Tracing
    metrics: Recorder
    meter: PoolMeter | None
    dead_in_a_row: int

    def endings(self, now: float) -> LastEndings:
        """How the last jobs ended (`now`: monotonic seconds)."""
        return self.settler.endings.last(now, self.dead_in_a_row)


def assemble(setup: RouterSetup, control: Mapping[str, object], store: StoreClient) -> Parts:
    """The parts of a router, of which none has begun; `control`: what the store's control table says."""
    tracing = Tracing(queue=setup.intake.topology.queue, server=setup.worker.server)
    metrics = setup.metering.recorder()
    written = PublishMeter(metrics)
    publisher = Publisher(setup.publisher, sink=written)
    outstanding = OutstandingRetries(control.get(RETRIES_OUT), hop_again_s=setup.router.rung_retry_s)

    def made() -> Parts:
        return parts

    watch = _watch(setup, control, outstanding, made)

    def settler_for(acks: Intake) -> Settler:
        return _settler(setup, store, publisher, tracing, acks, watch, outstanding)

    def opener_of(config: IntakeConfig) -> GenerationOpener:
        return GenerationOpener(config, tracing, missing=watch)

    def on_change() -> None:
        parts.router.wake()

    intake = _intake(setup, opener_of(setup.intake), made)
    collector = Collector(dropped := _dropped(setup), settler_for, opener=opener_of(dropped))
    pool, isolated = _pools(setup, on_change)
    settler, quarantine = settler_for(intake), _quarantine(setup, control, store, isolated)
    parts = Parts(
        store=store,
        intake=intake,
        publisher=publisher,
        written=written,
        pool=pool,
        isolated=isolated,
        quarantine=quarantine,
        lending=Lending(pool, isolated, at_once=setup.leave_first),
        recycling=Recycling(pool, setup.wear),
        nodes=NodeWatch(
            (pool, isolated), Raylets(), give_up_s=setup.silent_node_timeout_s, on_change=on_change, home=setup.node
        ),
        settler=settler,
        collector=collector,
        router=_router(setup, intake, pool, settler, quarantine, store, metrics, outstanding),
        outstanding=outstanding,
        watch=watch,
        tracing=tracing,
        metrics=metrics,
        meter=None if metrics is NO_METRICS else PoolMeter(metrics),
        dead_in_a_row=setup.dead_in_a_row,
    )
    return parts


def _pools(setup: RouterSetup, on_change: Callable[[], None]) -> tuple[Pool[Rows], Pool[Rows]]:
    """The workers, and those of the quarantine."""
    workers, ends = RayFactory(setup.worker, setup.namespace), LastEnd()
    ordinary = setup.pool_config("worker", setup.max_tasks_in_flight_per_actor)
    return (
        Pool(ordinary, workers, on_change=on_change, ends=ends),
        Pool(setup.pool_config("quarantine", 1), workers, on_change=on_change, ends=ends),
    )


def _watch(
    setup: RouterSetup, control: Mapping[str, object], outstanding: OutstandingRetries, made: Callable[[], Parts]
) -> QueueWatch:
    """`made`: all parts, once they are there."""
    topology = setup.intake.topology

    async def hold(reason: str) -> None:
        await made().router.hold(VANISHED, reason)
        await made().collector.pause()

    async def go_on() -> None:
        await made().router.release(VANISHED)
        await made().collector.go_on()

    def on_gone(queue: str) -> None:
        made().intake.doubt(queue)
        made().collector.doubt(queue)

    return QueueWatch(
        topology,
        VanishedQueues(
            control.get(QUEUES_SEEN),
            broker=" ".join(map(address, several(setup.intake.url))),
            wait=setup.wait_for_vanished,
            queues=topology.queues(),
        ),
        connection=lambda: made().intake.connection,
        unacked=lambda: made().intake.lost_unacked or made().intake.unacked,
        hold=hold,
        go_on=go_on,
        on_gone=on_gone,
        consuming=lambda: made().intake.consuming,
        outstanding=outstanding,
    )


def _intake(setup: RouterSetup, opener: GenerationOpener, made: Callable[[], Parts]) -> Intake:
    """`made`: all parts, once they are there."""
    autoscaler = WakeAutoscaler(f"{setup.pool}-autoscaler", setup.namespace)

    def on_delivery(delivery: Delivery) -> None:
        made().router.receive(delivery)
        autoscaler.delivered(delivery.arrived_at)

    return Intake(
        setup.intake,
        on_delivery=on_delivery,
        on_lost=lambda generation: made().router.drop(generation),
        held=lambda: made().router.held(),
        on_late=lambda late: made().router.drop_late(late),
        opener=opener,
    )


def crash_counts(control: Mapping[str, object]) -> dict[str, int]:
    """The lone crashes that the control table keeps, by identity of the message."""
    return {
        name.removeprefix(CRASH_PREFIX): count
        for name, count in control.items()
        if name.startswith(CRASH_PREFIX) and isinstance(count, int)
    }


def _router(
    setup: RouterSetup,
    intake: Intake,
    pool: Pool[Rows],
    settler: Settler,
    quarantine: Quarantine[Rows],
    store: StoreClient,
    metrics: Recorder,
    outstanding: OutstandingRetries,
) -> Router[Rows]:
    return Router(
        setup.router,
        source=intake,
        pool=pool,
        writer=store,
        settler=settler,
        quarantine=quarantine,
        outstanding=outstanding,
        waited=None if metrics is NO_METRICS else lambda s: metrics.record(READ_DURATION.name, s * 1000),
    )


def _settler(
    setup: RouterSetup,
    store: StoreClient,
    publisher: Publisher,
    tracing: Tracing,
    acks: Intake,
    watch: QueueWatch,
    outstanding: OutstandingRetries,
) -> Settler:
    topology = setup.intake.topology
    return Settler(
        setup.limits,
        topology.queue,
        acks=acks,
        outbox=CopyOutbox(
            publisher,
            topology,
            Failpoints(setup.router.failpoint),
            large=LargePublisher(setup.publisher),
            outstanding=outstanding,
            way_again=watch.way_again,
        ),
        record_dead_letters=store.record_dead_letters,
        tracing=tracing,
        wire=setup.worker.config.wire,
        redact=setup.worker.config.redact,
        codes=setup.worker.config.codes,
        message_format=setup.worker.config.message_format,
        rule=setup.intake.key,
    )


def _quarantine(
    setup: RouterSetup, control: Mapping[str, object], store: StoreClient, isolated: Pool[Rows]
) -> Quarantine[Rows]:
    return Quarantine(
        isolated,
        max_crashes=setup.max_crashes,
        counts=crash_counts(control),
        note=lambda name, count: store.set_control(CRASH_PREFIX + name, count or None),
    )


def _dropped(setup: RouterSetup) -> IntakeConfig:
    """Where the broker puts what it dead-letters by itself."""
    return replace(
        setup.intake, queue=setup.intake.topology.dropped_queue, name=f"{setup.pool}-collector", pauses=COLLECTOR_PAUSES
    )
