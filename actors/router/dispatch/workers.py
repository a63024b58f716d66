"""The router's handle on one PoolWorker, and the factory that asks Ray for them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from rabbitray.actors.message.parcel import Shipment
from rabbitray.actors.message.reply import Part, WorkerInfo, decode_part
from rabbitray.actors.remote.boot import Actor, Rows
from rabbitray.actors.remote.calls import last_line, start_failure
from rabbitray.actors.remote.nodes import node_leaves
from rabbitray.actors.router.dispatch.member import WorkerLostError
from rabbitray.actors.router.dispatch.memory_deaths import memory_death
from rabbitray.actors.worker.actor import PoolWorker, WorkerSetup

CALLS_MOST = 1_000
CAUSE_WITHIN_S = 5.0


class RayWorker:
    """The router's handle on one PoolWorker; its payload is the ObjectRef of the rows."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._info: WorkerInfo | None = None
        self._rss_bytes = 0  # as it told last
        self._leaving: asyncio.Future[bool] | None = None

    async def ready(self) -> WorkerInfo:
        """Waits until the worker has loaded its handler; WorkerLostError says why it could not."""
        try:
            self._info = await self._actor.ready.remote()
        except RayError as error:
            raise WorkerLostError("start_failed", start_failure(error), may_be_poison=False) from error
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
            raise self._lost(error) from error

    def kill(self) -> None:
        """Ends the worker now."""
        ray.kill(self._actor, no_restart=True)

    async def _parts(self, refs: list[Rows]) -> tuple[Part, Rows]:
        try:
            part = decode_part(await refs[0])
        except RayError as error:
            raise self._lost(await self._cause(error)) from error
        if part.usage is not None:
            self._rss_bytes = part.usage.rss_bytes
        return part, refs[1]

    async def node_leaves(self) -> bool:
        """Whether its node goes or is gone; all who ask share one answer, some seconds later."""
        if self._leaving is None:
            self._leaving = asyncio.ensure_future(self._node_leaves())
        return await asyncio.shield(self._leaving)

    async def _node_leaves(self) -> bool:
        return self._info is not None and await node_leaves(self._info.node)

    async def _cause(self, error: RayError) -> RayError:
        """The error, or why the worker died: one that Ray hears of after a second is unavailable at first."""
        if isinstance(error, ActorUnavailableError):
            try:
                async with asyncio.timeout(CAUSE_WITHIN_S):
                    await self._actor.ready.remote()
            except RayError as cause:
                return cause
            except TimeoutError:
                pass
        return error

    def _lost(self, error: RayError) -> WorkerLostError:
        """Tells a crash of the process, which a job may have caused, from everything else."""
        detail = last_line(error)
        if isinstance(error, RayTaskError):
            # our code failed on it: isolate what does it
            return WorkerLostError("worker_error", detail, may_be_poison=True)
        if isinstance(error, ActorUnavailableError | GetTimeoutError):
            return WorkerLostError("unavailable", detail, may_be_poison=False)
        if isinstance(error, OutOfMemoryError):
            return self._out_of_memory(str(error))
        if not isinstance(error, ActorDiedError | WorkerCrashedError | RayActorError):
            return WorkerLostError("ray_error", detail, may_be_poison=False)
        if getattr(error, "preempted", False):
            return WorkerLostError("node_lost", detail, may_be_poison=False)
        return WorkerLostError("worker_crashed", detail, may_be_poison=True, node_in_doubt=True)

    def _out_of_memory(self, text: str) -> WorkerLostError:
        pid, usage = (self._info.pid, self._info.usage) if self._info else (0, None)
        start = usage.rss_bytes if usage else 0
        return memory_death(text, pid, at_start=start, last=max(start, self._rss_bytes))


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
