"""The plain path over a real broker: its router, intake, settler and publisher are real, workers and store are not."""

from __future__ import annotations

import asyncio
from typing import Any

from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.message.wire.limits import DEFAULT_LIMITS
from rabbitray.actors.publisher import Publisher, PublisherConfig
from rabbitray.actors.publisher.large import LargePublisher
from rabbitray.actors.rabbitmq.consumer_timeout import ConsumerTimeout
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.consumer import Intake
from rabbitray.actors.router.intake.opener import GenerationOpener
from rabbitray.actors.router.settlement.retries import RetryLimits
from rabbitray.actors.router.spool import Spool
from rabbitray.actors.secret import Secret
from rabbitray.actors.telemetry.tracing import Tracing
from tests.kit.plain_path import PlainPath


class RealPath(PlainPath):
    """On the broker of `url`, consumed at `through`. `take_limited`: see Topology, `timeout`: see IntakeConfig; what is
    above `most_bytes` goes into `spool`; other options are those of PlainPath.
    """

    def __init__(
        self,
        url: str,
        *,
        take_limited: bool = False,
        timeout: ConsumerTimeout | None = None,
        most_bytes: int = DEFAULT_LIMITS.max_message_bytes,
        through: str | None = None,
        **options: Any,
    ) -> None:
        self._url = url
        self._through = through or url
        self._timeout = timeout or ConsumerTimeout()
        self._take_limited = take_limited
        self._message_limits = MessageLimits(max_message_bytes=most_bytes)
        self.spool = Spool()
        super().__init__(**options)

    def _topology(self, limits: RetryLimits) -> Topology:
        return Topology(queue="jobs", rung_delays_ms=limits.rungs_ms, take_limited=self._take_limited)

    def _intake(self) -> Any:
        config = IntakeConfig(
            url=Secret(self._through),
            topology=self.topology,
            limits=self._message_limits,
            name="path",
            timeout=self._timeout,
        )
        return Intake(
            config,
            on_delivery=self._receive,
            on_lost=self._lost,
            held=lambda: self.router.held(),
            on_late=lambda late: self.router.drop_late(late),
            opener=GenerationOpener(config, Tracing(queue=config.source), spool=self.spool),
        )

    def _publisher_config(self) -> PublisherConfig:
        return PublisherConfig(url=self._url, queue=self.topology.queue)

    def _sender(self) -> Any:
        return Publisher(self._publisher_config())

    def _large(self) -> Any:
        return LargePublisher(self._publisher_config())

    async def start(self, **options: Any) -> None:
        """Opens everything and consumes."""
        await self.sender.open()
        await super().start(**options)

    async def _close(self) -> None:
        await asyncio.gather(self.intake.close(), self.sender.close())
