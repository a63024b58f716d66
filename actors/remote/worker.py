"""PoolWorker: the Worker as a Ray actor, and the router's handle on one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import psutil
import pyarrow as pa
import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from actors.categories import Categories
from actors.delivery import Shipment
from actors.errors import RabbitrayError
from actors.handlers import Handler, load
from actors.measuring import WorkerMeter
from actors.metrics import NO_METRICS
from actors.part import Part, Usage, decode_part, encode_part
from actors.pool import WorkerInfo, WorkerLostError
from actors.remote.boot import Actor, Boot, Flush, Rows, ray_attributes, spare_what_stays
from actors.remote.metrics import Metering
from actors.rows import to_stream
from actors.secret import redact
from actors.tracing import Tracing
from actors.worker import Worker, WorkerConfig

CALLS_MOST = 1_000
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
        spare_what_stays()

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
        return self._told(part), to_stream(rows)

    @ray.method(num_returns=2, enable_task_events=False)
    async def more(self, batch_id: str) -> tuple[bytes, pa.Buffer]:
        """See `Worker.more`."""
        part, rows = await self._worker.more(batch_id)
        return self._told(part), to_stream(rows)

    async def stop(self) -> None:
        """Ends the handler and sends what traces are left."""
        await self._worker.close()
        self._ended.set()
        self._metrics.flush()
        await asyncio.get_running_loop().run_in_executor(None, self._flush, 5.0)

    def _told(self, part: Part) -> bytes:
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


class RayWorker:
    """The router's handle on one PoolWorker; its payload is the ObjectRef of the rows."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._info: WorkerInfo | None = None

    async def ready(self) -> WorkerInfo:
        """Waits until the worker has loaded its handler; WorkerLostError says why it could not."""
        try:
            self._info = await self._actor.ready.remote()
        except RayError as error:
            raise WorkerLostError("start_failed", start_failure(error), guilty=False) from error
        return self._info

    async def run(self, batch_id: str, shipment: Shipment) -> tuple[Part, Rows]:
        """Starts a batch; the rows stay where they are."""
        return await self._parts(self._actor.run.remote(batch_id, shipment))

    async def more(self, batch_id: str) -> tuple[Part, Rows]:
        """The next part of a batch."""
        return await self._parts(self._actor.more.remote(batch_id))

    async def stop(self) -> None:
        """Ends the worker in its own time."""
        try:
            await self._actor.stop.remote()
            self._actor.__ray_terminate__.remote()
        except RayError as error:
            raise await self._lost(error) from error

    def kill(self) -> None:
        """Ends the worker now."""
        ray.kill(self._actor, no_restart=True)

    async def _parts(self, refs: list[Rows]) -> tuple[Part, Rows]:
        try:
            return decode_part(await refs[0]), refs[1]
        except RayError as error:
            raise await self._lost(error) from error

    async def _lost(self, error: RayError) -> WorkerLostError:
        """Tells a crash of the process, for which a job may be guilty, from everything else."""
        detail = last_line(error)
        if isinstance(error, RayTaskError):
            return WorkerLostError("worker_error", detail, guilty=True)  # our code failed on it: isolate what does it
        if isinstance(error, ActorUnavailableError | GetTimeoutError):
            return WorkerLostError("unavailable", detail, guilty=False)
        if not isinstance(error, ActorDiedError | WorkerCrashedError | RayActorError):
            return WorkerLostError("ray_error", detail, guilty=False)
        if getattr(error, "preempted", False) or not await self._node_lives():
            return WorkerLostError("node_lost", detail, guilty=False)
        return WorkerLostError("worker_crashed", detail, guilty=True)

    async def _node_lives(self) -> bool:
        info = self._info
        if info is None:
            return True
        nodes = await asyncio.get_running_loop().run_in_executor(None, ray.nodes)
        return any(node["NodeID"] == info.node and node["Alive"] for node in nodes)


class RayFactory:
    """Starts PoolWorkers as Ray actors, owned by this process: they end with it."""

    def __init__(self, setup: WorkerSetup, namespace: str) -> None:
        self._setup = setup
        self._namespace = namespace
        self._class = ray.remote(PoolWorker)

    def spawn(self, name: str) -> RayWorker:
        """Asks Ray for a worker; it may stay pending while the cluster has no place for it."""
        setup = replace(self._setup, config=replace(self._setup.config, name=name))
        options = self._class.options(
            name=name,
            namespace=self._namespace,
            num_cpus=self._setup.num_cpus,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=CALLS_MOST,
        )
        return RayWorker(cast("Actor", options.remote(setup)))


def draining_nodes() -> set[str]:
    """Ids of the nodes that Ray is about to take away: drained, or preempted.

    Ray has no public call for it (2.60); where the private one is gone, nodes are only noticed when they die.
    """
    try:
        from ray._private.state import state

        return set(state.get_draining_nodes())
    except (ImportError, AttributeError, RayError):
        return set()


def _load(handler: str) -> Handler:
    """As `load`. What Ray shows of an actor that could not start must not hold the password of a URL."""
    try:
        return load(handler)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if redact(text) == text:
            raise
        raise RabbitrayError(redact(text)) from None


def last_line(error: BaseException) -> str:
    """The last line of Ray's long texts, where it puts what happened, without the passwords of URLs.

    Ray's list of common causes is left out.
    """
    lines = [line.strip() for line in redact(str(error)).splitlines() if line.strip()]
    return lines[-1].partition(" Some common causes include")[0] if lines else type(error).__name__


def start_failure(error: RayError) -> str:
    """Why an actor's constructor failed: the user's own exception line when there is one."""
    return last_line(error)
