"""RouterProcess: the real parts of one router, wired to the doubles, from its start to its death.

Wired as `assemble` and ConsumerRouter do it. Tasks of the process are known, so that all of them end at once when it is
killed; what its doubles are asked to do after that is not done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.router.config import RouterConfig
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.dispatch.pool import Pool, PoolConfig
from rabbitray.actors.router.dispatch.quarantine import Quarantine
from rabbitray.actors.router.holds.outage import OutageLimits
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.consumer import Intake
from rabbitray.actors.router.router import Router
from rabbitray.actors.router.settlement.copies import CopyOutbox
from rabbitray.actors.router.settlement.dropped import Collector
from rabbitray.actors.router.settlement.retries import RetryLimits
from rabbitray.actors.router.settlement.settler import Settler
from rabbitray.actors.secret import Secret
from tests.simulation.channel import DeliveryOrigin, SimOpener
from tests.simulation.checker import MAX_CRASHES, MAX_RETRIES
from tests.simulation.sender import SimSender, TracedOutbox
from tests.simulation.store import Rows, StoreLink
from tests.simulation.workers import SimCluster

if TYPE_CHECKING:
    from tests.simulation.world import World

TOPOLOGY = Topology(queue="jobs", rung_delays_ms=(1_000, 3_000))
LIMITS = RetryLimits(rungs_ms=TOPOLOGY.rung_delays_ms, max_retries=MAX_RETRIES)
OUTAGE = OutageLimits(least=6, probe_most_s=8.0)
HANDLER_TIMEOUT_S = 10.0
MAX_HOLD_S = 60.0
TICK_S = 1.0
CRASHES = "crashes:"


class RouterProcess:
    """One router. `ended`: done when it has ended, however."""

    def __init__(self, world: World, number: int) -> None:
        self.number, self.world = number, world
        self.tasks: set[asyncio.Task[Any]] = set()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        faults, checker = world.faults, world.checker
        config = IntakeConfig(url=Secret("amqp://nowhere/"), topology=TOPOLOGY, limits=MessageLimits())
        self.opener = SimOpener(config, world.broker, faults, number)
        self.sender = SimSender(world.broker, faults, world.wishes)
        self.store = StoreLink(world.store, world.spawn)
        self.cluster = SimCluster(
            number,
            store=world.store,
            checker=checker,
            faults=faults,
            slots=world.script.slots,
            timeout_s=HANDLER_TIMEOUT_S,
            down=world.down,
            serials=world.wishes.serials,
            origins=self._origins,
        )
        self.intake = Intake(config, on_delivery=self._receive, on_lost=self._lost, opener=self.opener)
        self.pool = self._pool("w", 2)
        self.isolated = self._pool("q", 1)
        self.settler = self._settler(self.intake, self.opener)
        self._config = config

    def _settler(self, acks: Intake, opener: SimOpener) -> Settler:
        return Settler(
            LIMITS,
            TOPOLOGY.queue,
            acks=acks,
            outbox=TracedOutbox(CopyOutbox(self.sender, TOPOLOGY), opener),
            record_dead_letters=self.store.record_dead_letters,
        )

    def _pool(self, kind: str, most: int) -> Pool[Rows]:
        config = PoolConfig(
            name=f"{kind}{self.number}", max_tasks_in_flight_per_actor=most, handler_timeout_s=HANDLER_TIMEOUT_S
        )
        return Pool(config, self.cluster, on_change=self._wake)

    def _origins(self, batch_id: str) -> list[DeliveryOrigin]:
        """The deliveries of a batch that is on its way."""
        members = [*self.pool.members, *self.isolated.members]
        batch = next(member.batches[batch_id] for member in members if batch_id in member.batches)
        return [self.opener.origin(delivery) for delivery in batch.deliveries]

    def _wake(self) -> None:
        self.router.wake()

    def _receive(self, delivery: Delivery) -> None:
        self.router.receive(delivery)

    def _lost(self, generation: int) -> None:
        self.router.drop(generation)

    async def start(self) -> None:
        """As ConsumerRouter.start."""
        script = self.world.script
        control = await self.store.control()
        self.quarantine: Quarantine[Rows] = Quarantine(
            self.isolated,
            max_crashes=MAX_CRASHES,
            counts={name.removeprefix(CRASHES): n for name, n in control.items() if isinstance(n, int) and n},
            note=lambda name, count: self.store.set_control(CRASHES + name, count),
        )
        self.router: Router[Rows] = Router(
            RouterConfig(max_hold_s=MAX_HOLD_S, outage=OUTAGE),
            source=self.intake,
            pool=self.pool,
            writer=self.store,
            settler=self.settler,
            quarantine=self.quarantine,
            clock=asyncio.get_running_loop().time,
            cpu_clock=lambda: 0.0,
        )
        await self.intake.open()
        await self.store.register()
        self.pool.resize(self.world.workers)
        if control.get("paused"):
            await self.hold()
        await self.router.start(self.world.window, self.world.batch_size)
        if script.limit:
            await self._collect()
        self.run(self._tick())
        self.run(self._until_fenced())

    async def _collect(self) -> None:
        """What the broker drops becomes dead letters."""
        config = IntakeConfig(
            url=self._config.url, topology=TOPOLOGY, limits=self._config.limits, queue=TOPOLOGY.dropped_queue
        )
        opener = SimOpener(config, self.world.broker, self.world.faults, self.number)
        self._collector_opener = opener
        self.collector = Collector(config, lambda intake: self._settler(intake, opener), opener=opener)
        await self.collector.start()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.router.tick()

    async def _until_fenced(self) -> None:
        await self.router.fenced.wait()
        await self.router.drain(0.0)
        self.kill()

    # control

    async def hold(self) -> None:
        """`rabbitray pause`, also after a restart."""
        await self.router.hold("paused", "by hand")
        if "paused" in self.router.holds:
            self.world.checker.paused_since[self.number] = asyncio.get_running_loop().time()

    async def release(self) -> None:
        """`rabbitray resume`."""
        self.world.checker.paused_since.pop(self.number, None)
        await self.router.release("paused")

    async def leave(self, within_s: float) -> None:
        """As ConsumerRouter.drain; a drain that was cut short is a death."""
        await self.router.drain(within_s)
        await asyncio.gather(self.pool.stop(1.0), self.isolated.stop(1.0))
        await self.intake.close()
        self.kill()

    def run(self, step: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs a step inside of this process."""
        return self.world.run_in(self, step)

    def cut(self, *, client_s: float, broker_s: float) -> None:
        """Its connection dies."""
        if self.opener.channels:
            self.opener.channels[-1].cut(client_s=client_s, broker_s=broker_s)

    def kill(self, broker_s: float = 0.0) -> None:
        """The process dies; the broker hears of it so many seconds later."""
        if self.ended.done():
            return
        self.ended.set_result(None)
        self.sender.alive = self.opener.alive = False
        self.world.checker.paused_since.pop(self.number, None)
        self.world.checker.outage_since = None  # nobody remembers it
        self.cluster.end()
        channels = list(self.opener.channels)
        if hasattr(self, "_collector_opener"):
            channels += self._collector_opener.channels
        for channel in channels:
            channel.die(broker_s)
        for task in list(self.tasks):
            task.cancel()

    @property
    def at_rest(self) -> str:
        """What is left over in hand; empty when nothing is."""
        left = {
            "buffered": len(self.router.buffer),
            "quarantined": len(self.quarantine),
            "unacked": self.intake.unacked,
            "tasks": len(self.router.tasks.running),
            "batches": sum(len(one.batches) for one in [*self.pool.members, *self.isolated.members]),
            "holds": len(set(self.router.holds) - {"outage"}),  # one without anything to try goes on
        }
        return ", ".join(f"{count} {name}" for name, count in left.items() if count)
