"""The whole path of one queue on a real node, in this process: only the workers and the store are doubles."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.publisher import Publisher, PublisherConfig
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.consumer import Intake
from rabbitray.actors.router.settlement.dropped import Collector
from rabbitray.actors.router.settlement.retries import RetryLimits
from rabbitray.actors.secret import Secret
from tests.kit.plain_path import PlainPath
from tests.kit.tenants import CallingWorker, Ends, Service

RUNGS_MS = (50, 100)


class NodePath(PlainPath):
    """One pool on the node at `url`. `exchange`: for retries and dead letters; `ends`: how each of its jobs ends."""

    def __init__(
        self,
        url: str,
        queue: str,
        *,
        exchange: str = "",
        ends: Ends = "retry",
        max_retries: int = 2,
        rungs_ms: tuple[int, ...] = RUNGS_MS,
    ) -> None:
        self._named = Topology(
            queue=queue, queue_type="classic", rung_delays_ms=rungs_ms, dead_letter_exchange=exchange
        )
        self._url = url
        super().__init__(limits=RetryLimits(rungs_ms=rungs_ms, max_retries=max_retries))
        self.service = Service(lambda _: ends, job_s=0.0)
        self.factory.kind = partial(CallingWorker, self.service)
        self.collector = Collector(self._config(self.topology.dropped_queue), self.settler_for)

    def _topology(self, limits: RetryLimits) -> Topology:
        return self._named

    def _config(self, queue: str = "") -> IntakeConfig:
        return IntakeConfig(
            url=Secret(self._url), topology=self._named, limits=MessageLimits(), queue=queue, name=f"test-{queue}"
        )

    def _intake(self) -> Any:
        return Intake(self._config(), on_delivery=self._receive, on_lost=self._lost)

    def _sender(self) -> Any:
        return Publisher(PublisherConfig(url=self._url, queue=self._named.queue))

    async def start(self, **sizes: int) -> None:
        """As `PlainPath.start`; then what the broker dropped is collected, too."""
        await self.sender.open()
        await super().start(**sizes)
        await self.collector.start()

    async def stop(self) -> None:
        """Ends everything; nothing may be left running."""
        await super().stop()
        await asyncio.gather(self.collector.close(), self.sender.close())

    @property
    def strays(self) -> int:
        """Copies that came here and were meant for another queue."""
        return self.settler.tally.strays + self.collector.tally.strays
