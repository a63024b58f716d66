"""The path over a real broker, with a watch over its queues and the collector of what the broker dropped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.router.holds.queue_watch import QueueWatch
from rabbitray.actors.router.holds.vanished import VANISHED, VanishedQueue, VanishedQueues
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.consumer import Intake
from rabbitray.actors.router.intake.opener import GenerationOpener
from rabbitray.actors.router.settlement.dropped import Collector
from rabbitray.actors.router.settlement.retries import RetryLimits
from rabbitray.actors.secret import Secret
from rabbitray.actors.telemetry.tracing import Tracing
from tests.kit.eventually import eventually
from tests.kit.fake_workers import FakeWorker
from tests.kit.plain_path import mixed
from tests.kit.real_path import RealPath

RUNG_MS = 60_000


class WatchedPath(RealPath):
    """Wired as `assemble` does it. `wait`, `kept`: see VanishedQueues; its one rung holds messages for a minute."""

    def __init__(self, url: str, *, wait: bool = True, kept: object = None, queue_type: str = "quorum") -> None:
        self._queue_type = queue_type
        self._failed: set[str] = set()
        self._vanished = VanishedQueues(kept, broker="the test's", wait=wait)
        super().__init__(url, limits=RetryLimits(rungs_ms=(RUNG_MS,), max_retries=2))
        dropped = replace(self._config, queue=self.topology.dropped_queue, name="collector")
        self.collector = Collector(dropped, self.settler_for, opener=self._opener(dropped))

    def _topology(self, limits: RetryLimits) -> Topology:
        return Topology(queue="jobs", queue_type=self._queue_type, rung_delays_ms=limits.rungs_ms)

    def _intake(self) -> Any:
        self._config = IntakeConfig(url=Secret(self._url), topology=self.topology, limits=MessageLimits(), name="path")
        self.watch = QueueWatch(
            self.topology,
            self._vanished,
            connection=lambda: self.intake.connection,
            unacked=lambda: self.intake.lost_unacked or self.intake.unacked,
            hold=self._hold,
            go_on=self._go_on,
            outstanding=self.outstanding,
        )
        opener = self._opener(self._config)
        return Intake(self._config, on_delivery=self._receive, on_lost=self._lost, opener=opener)

    def _opener(self, config: IntakeConfig) -> GenerationOpener:
        return GenerationOpener(config, Tracing(queue=config.source), missing=self.watch)

    def _way_again(self) -> Any:
        return self.watch.way_again

    async def _hold(self, reason: str) -> None:
        await self.router.hold(VANISHED, reason)
        await self.collector.pause()

    async def _go_on(self) -> None:
        await self.router.release(VANISHED)
        await self.collector.go_on()

    async def start(self, **options: Any) -> None:
        """As RealPath; the collector, too."""
        await super().start(**options)
        await self.collector.start()

    async def stop(self) -> None:
        """Ends everything."""
        await self.collector.close()
        await super().stop()

    @property
    def events(self) -> list[VanishedQueue]:
        """What nobody has confirmed."""
        return list(self.watch.vanished.events)

    async def event(self, queue: str) -> VanishedQueue:
        """Waits until this queue is known to have vanished."""

        def found() -> list[VanishedQueue]:
            return [event for event in self.events if event.queue == queue]

        return (await eventually(found, within_s=20))[0]

    async def consumes(self) -> None:
        """Waits until the main queue is consumed."""
        await eventually(lambda: self.intake.consuming, within_s=30)

    async def fail(self, verdict: str = "retry") -> None:
        """Each job of the next batch fails, with this verdict."""

        def new() -> list[tuple[FakeWorker, str]]:
            return [(worker, batch) for worker, batch in self.running if batch not in self._failed]

        worker, batch = (await eventually(new))[0]
        self._failed.add(batch)
        keys = self.keys(batch)
        worker.answer(batch, *mixed(keys, dict.fromkeys(range(len(keys)), verdict), [0] * len(keys)))
