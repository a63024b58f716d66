"""The plain path over a real broker: its router, intake, settler and publisher are real, workers and store are not."""

from __future__ import annotations

from typing import Any

from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.publisher import Publisher, PublisherConfig
from rabbitray.actors.rabbitmq.consumer_timeout import ConsumerTimeout
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.consumer import Intake
from rabbitray.actors.router.settlement.retries import RetryLimits
from rabbitray.actors.secret import Secret
from tests.kit.plain_path import PlainPath


class RealPath(PlainPath):
    """On the broker of `url`. `take_limited`: see Topology, `timeout`: see IntakeConfig; other options are those of
    PlainPath.
    """

    def __init__(
        self, url: str, *, take_limited: bool = False, timeout: ConsumerTimeout | None = None, **options: Any
    ) -> None:
        self._url = url
        self._timeout = timeout or ConsumerTimeout()
        self._take_limited = take_limited
        super().__init__(**options)

    def _topology(self, limits: RetryLimits) -> Topology:
        return Topology(queue="jobs", rung_delays_ms=limits.rungs_ms, take_limited=self._take_limited)

    def _intake(self) -> Any:
        config = IntakeConfig(
            url=Secret(self._url), topology=self.topology, limits=MessageLimits(), name="path", timeout=self._timeout
        )
        return Intake(
            config,
            on_delivery=self._receive,
            on_lost=self._lost,
            held=lambda: self.router.held(),
            on_late=lambda late: self.router.drop_late(late),
        )

    def _sender(self) -> Any:
        return Publisher(PublisherConfig(url=self._url, queue=self.topology.queue))

    async def start(self, **options: Any) -> None:
        """Opens everything and consumes."""
        await self.sender.open()
        await super().start(**options)

    async def stop(self) -> None:
        """Ends everything."""
        await super().stop()
        await self.sender.close()
