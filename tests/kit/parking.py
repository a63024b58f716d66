"""The router's way in and its way to the dead letters, on a real node, without workers: what is refused is parked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pyarrow as pa

from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.publisher import Publisher, PublisherConfig
from rabbitray.actors.publisher.large import LargePublisher
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.router.delivery import Delivery, refusal
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.consumer import Intake
from rabbitray.actors.router.intake.opener import GenerationOpener
from rabbitray.actors.router.settlement.copies import CopyOutbox
from rabbitray.actors.router.settlement.dropped import Collector
from rabbitray.actors.router.settlement.retries import RetryLimits
from rabbitray.actors.router.settlement.settler import Settler
from rabbitray.actors.router.spool import Spool
from rabbitray.actors.secret import Secret
from rabbitray.actors.telemetry.tracing import Tracing

TOPOLOGY = Topology(queue="jobs")


class Parking:
    """`good`: keys of deliveries that were taken, and acked; `rows`: those of the dead letters. `folder`: the spool's.

    `collector` takes what RabbitMQ dropped, into the same rows.
    """

    def __init__(
        self,
        url: str,
        *,
        through: str | None = None,
        limits: MessageLimits | None = None,
        heartbeat_s: int = 10,
        folder: Path | None = None,
        spool_bytes: int = 2**29,
    ) -> None:
        self.good: list[str] = []
        self.rows: list[dict[str, Any]] = []
        self.lost: list[int] = []
        self.publisher = Publisher(PublisherConfig(url=url, queue="jobs"))
        self.large = LargePublisher(PublisherConfig(url=url, queue="jobs"))
        self.spool = Spool(folder, most_bytes=spool_bytes)
        config = IntakeConfig(
            url=Secret(through or url), topology=TOPOLOGY, limits=limits or MessageLimits(), heartbeat_s=heartbeat_s
        )
        self.intake = Intake(config, on_delivery=self._take, on_lost=self.lost.append, opener=self._opener(config))
        self.settler = self._settler(self.intake)
        dropped = IntakeConfig(
            url=config.url, topology=TOPOLOGY, limits=config.limits, queue=TOPOLOGY.dropped_queue, name="collector"
        )
        self.collector = Collector(dropped, self._settler, opener=self._opener(dropped))
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Parking:
        await self.intake.open()
        await self.publisher.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.collector.close()
        await asyncio.gather(*self._tasks)
        await self.intake.close()
        await self.publisher.close()

    def _opener(self, config: IntakeConfig) -> GenerationOpener:
        return GenerationOpener(config, Tracing(queue=config.source), spool=self.spool)

    def _settler(self, acks: Intake) -> Settler:
        return Settler(
            RetryLimits(),
            TOPOLOGY.queue,
            acks=acks,
            outbox=CopyOutbox(self.publisher, TOPOLOGY, large=self.large),
            record_dead_letters=self._record,
        )

    async def _record(self, rows: pa.Table) -> None:
        self.rows += rows.to_pylist()

    def _take(self, delivery: Delivery) -> None:
        if delivery.refused is not None:
            self._tasks.append(asyncio.create_task(self.settler.park(delivery, refusal(delivery))))
        else:
            self.good.append(delivery.parcel.message_id or "")
            self.intake.finish([delivery])
