"""PoolWorker: the Worker as a Ray actor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import psutil
import pyarrow as pa
import ray

from rabbitray.actors.errors import RabbitrayError
from rabbitray.actors.message.parcel import Shipment
from rabbitray.actors.message.reply import Part, Usage, WorkerInfo, encode_part
from rabbitray.actors.message.rows import to_stream
from rabbitray.actors.remote.boot import Boot, Flush, freeze_gc, ray_attributes
from rabbitray.actors.secret import redact
from rabbitray.actors.telemetry.metrics import NO_METRICS
from rabbitray.actors.telemetry.ray_metrics import Metering
from rabbitray.actors.telemetry.tracing import Tracing
from rabbitray.actors.worker.handlers import Handler, load
from rabbitray.actors.worker.meter import WorkerMeter
from rabbitray.actors.worker.verdict import Categories
from rabbitray.actors.worker.worker import Worker, WorkerConfig

LOOK_EVERY_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSetup:
    """Everything that a worker process needs. `config.name` is filled in for each worker."""

    config: WorkerConfig
    handler: str
    boot: Boot
    categories: Mapping[str, str] = field(default_factory=dict)
    num_cpus: float = 1.0
    server: tuple[str, int] | None = None
    metering: Metering = field(default_factory=Metering)


class PoolWorker:
    """A processing actor. An exception of the handler's set-up fails the actor's start and is shown."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._name = setup.config.name
        self._flush: Flush = setup.boot("worker", ray_attributes("PoolWorker", self._name))
        tracing = Tracing(queue=setup.config.queue, server=setup.server)
        self._metrics = setup.metering.recorder(self._name)
        self._meter = None if self._metrics is NO_METRICS else WorkerMeter(self._metrics)
        self._ended = asyncio.Event()
        self._process = psutil.Process()
        self._usage: Usage | None = None  # a reading that no part has told yet
        self._measuring: asyncio.Task[None] | None = None
        handler = _load(setup.handler)
        own: Mapping[str, str] = getattr(handler.call, "error_categories", {})
        categories = Categories(dict(setup.categories) | dict(own))
        self._worker = Worker(setup.config, handler, categories, tracing, self._meter)
        freeze_gc()

    async def ready(self) -> WorkerInfo:
        """Answers once the handler is loaded."""
        node = ray.get_runtime_context().get_node_id()
        if self._measuring is None:
            self._process.cpu_percent(None)  # from here on it is measured: this reading says nothing
            self._measuring = asyncio.create_task(self._measure(), name="worker-measuring")
        usage = Usage(cpu_percent=None, rss_bytes=self._process.memory_info().rss)
        return WorkerInfo(slots=self._worker.slots, pid=os.getpid(), node=node, usage=usage)

    @ray.method(num_returns=2, enable_task_events=False)
    async def run(self, batch_id: str, shipment: Shipment) -> tuple[bytes, pa.Buffer]:
        """See `Worker.run`: the part for the router, the rows by reference for the store."""
        part, rows = await self._worker.run(batch_id, shipment)
        return self._encoded(part), to_stream(rows)

    @ray.method(num_returns=2, enable_task_events=False)
    async def more(self, batch_id: str) -> tuple[bytes, pa.Buffer]:
        """See `Worker.more`."""
        part, rows = await self._worker.more(batch_id)
        return self._encoded(part), to_stream(rows)

    async def stop(self) -> None:
        """Ends the handler and sends what traces are left."""
        await self._worker.close()
        self._ended.set()
        self._metrics.flush()
        await asyncio.get_running_loop().run_in_executor(None, self._flush, 5.0)

    def _encoded(self, part: Part) -> bytes:
        """The part for the router, with the last look at this process where there was one since the part before."""
        part.usage, self._usage = self._usage, None
        return encode_part(part)

    async def _measure(self) -> None:
        """Looks at this process once every few seconds until `stop`: for the next part, and for the metrics."""
        flushing = asyncio.create_task(self._metrics.run(self._ended), name="worker-metrics")
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):  # the ordinary case: it goes on
                await asyncio.wait_for(self._ended.wait(), LOOK_EVERY_S)
            cpu_percent, rss_bytes = self._process.cpu_percent(None), self._process.memory_info().rss
            self._usage = Usage(cpu_percent=cpu_percent, rss_bytes=rss_bytes)
            if self._meter is not None:
                self._meter.look(time.monotonic(), cpu_percent=cpu_percent, rss_bytes=rss_bytes)
        await flushing

    def __repr__(self) -> str:
        pool, _, number = self._name.rpartition("-worker-")
        return f"PoolWorker({pool}#{number.lstrip('0') or '0'})"


def _load(handler: str) -> Handler:
    """As `load`. What Ray shows of an actor that could not start must not hold the password of a URL."""
    try:
        return load(handler)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if redact(text) == text:
            raise
        raise RabbitrayError(redact(text)) from None
