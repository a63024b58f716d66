"""The router's handle on one PoolWorker, and the factory that asks Ray for them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
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
    RuntimeEnvSetupError,
    WorkerCrashedError,
)

from rabbitray.actors.message.parcel import Shipment, shipment_bytes
from rabbitray.actors.message.reply import CLOCK_OFF_S, Part, WorkerInfo, decode_part
from rabbitray.actors.remote.boot import Actor, Rows
from rabbitray.actors.remote.calls import last_line
from rabbitray.actors.remote.compat.texts import environment_failure, gpu_memory_short
from rabbitray.actors.remote.inline import goes_inline
from rabbitray.actors.remote.nodes import node_leaves, node_stays, waits_for_place
from rabbitray.actors.remote.threads import RayThread
from rabbitray.actors.router.dispatch.member import ENVIRONMENT_FAILED, NO_GPU_MEMORY, WorkerLostError
from rabbitray.actors.router.dispatch.memory_deaths import memory_death
from rabbitray.actors.worker.actor import SIGNS, PoolWorker, WorkerSetup

log = logging.getLogger(__name__)

CALLS_MOST = 1_000
CAUSE_WITHIN_S = 5.0
ASK_AGAIN_S = 2.0
SIGN_WITHIN_S = 3.0
CLOCK_NOISE_S = 0.02
CLOCK_ASKS = 5
"""An offset of clocks below this, and half of what the question took, is none."""


class WorkerThreads:
    """Ray's calls about workers that block, off the router's event loop, which holds the connection to the broker.

    The creation of a named actor waits for Ray's GCS, and so does the kill of one that is not created yet; a kill
    need not wait for other creations. A batch that does not go inline is put into
    Ray's object store within its call.
    """

    def __init__(self, kill: Callable[..., None] = ray.kill) -> None:
        self.kill = kill
        self.creates = RayThread("create-workers")
        self.kills = RayThread("kill-workers")
        self.sends = RayThread("send-batches")
        self.asks = RayThread("ask-for-nodes")


class RayWorker:
    """The router's handle on one PoolWorker, which Ray may still create; its payload is the ObjectRef of the rows."""

    def __init__(self, name: str, creation: Future[Actor], threads: WorkerThreads, *, built: bool = False) -> None:
        """`built`: Ray builds its environment before it starts, unless the node has it already."""
        self._name = name
        self._built = built
        self._creation = creation
        self._threads = threads
        self._sending = asyncio.Lock()  # batches arrive in the order of dispatch, one that goes by the thread, too
        self._info: WorkerInfo | None = None
        self._rss_bytes = 0  # as it told last
        self._leaving: asyncio.Future[bool] | None = None

    @property
    def _actor(self) -> Actor:
        """The actor, which is there once `ready` has answered."""
        return self._creation.result(timeout=0)

    async def ready(self) -> WorkerInfo:
        """Waits until the worker has loaded its handler; WorkerLostError says why it could not."""
        try:
            actor = await asyncio.wrap_future(self._creation)
            info: WorkerInfo = await actor.ready.remote()
            start_s = info.up_s if self._built else None
            self._info = replace(info, start_s=start_s, clock_s=await self._clock_s(actor))
        except RuntimeEnvSetupError as error:
            raise WorkerLostError(ENVIRONMENT_FAILED, environment_failure(str(error)), may_be_poison=False) from error
        except Exception as error:  # the creation raises all kinds where Ray's GCS gives no answer
            reason = NO_GPU_MEMORY if gpu_memory_short(str(error)) else "start_failed"
            raise WorkerLostError(reason, last_line(error), may_be_poison=False) from error
        return self._info

    async def _clock_s(self, actor: Actor) -> float:
        """How far the clock of the worker is ahead of ours, by its quickest answer; its times are corrected by that."""
        took_s, ahead_s = min([await _ask_clock(actor) for _ in range(CLOCK_ASKS)])
        if abs(ahead_s) < CLOCK_NOISE_S + took_s / 2:
            return 0.0
        await actor.correct_clock.remote(ahead_s)
        if abs(ahead_s) >= CLOCK_OFF_S:
            log.warning("The clock of worker %s is %+.1f s off: its times are corrected", self._name, ahead_s)
        return ahead_s

    async def run(self, batch_id: str, shipment: Shipment) -> tuple[Part, Rows]:
        """Starts a batch; the rows stay where they are."""
        return await self._parts(self._send(batch_id, shipment))

    async def more(self, batch_id: str) -> tuple[Part, Rows]:
        """The next part of a batch."""
        return await self._parts(self._ask_more(batch_id))

    async def stop(self) -> None:
        """Ends the worker in its own time."""
        try:
            await self._actor.stop.remote()
            self._actor.__ray_terminate__.remote()
        except RayError as error:
            raise self._lost(error) from error

    def kill(self) -> None:
        """Ends the worker soon, one that Ray still creates as soon as it is there; returns at once."""
        self._creation.cancel()  # one that waits for others is not created at all
        self._creation.add_done_callback(lambda created: self._threads.kills.submit(self._kill, created))

    def _kill(self, created: Future[Actor]) -> None:
        if created.cancelled() or created.exception() is not None:
            return
        try:
            self._threads.kill(created.result(), no_restart=True)
        except Exception as error:  # noqa: BLE001 # it is gone already, or Ray is: it ends with this process at last
            log.warning("Worker %s could not be killed (%s)", self._name, last_line(error))

    async def _send(self, batch_id: str, shipment: Shipment) -> list[Rows]:
        async with self._sending:
            if goes_inline(shipment_bytes(shipment)):
                refs: list[Rows] = self._actor.run.remote(batch_id, shipment)
            else:
                refs = await self._threads.sends.call(self._actor.run.remote, batch_id, shipment)
        return refs

    async def _ask_more(self, batch_id: str) -> list[Rows]:
        refs: list[Rows] = self._actor.more.remote(batch_id)
        return refs

    async def _parts(self, sending: Awaitable[list[Rows]]) -> tuple[Part, Rows]:
        """What a call answers. Ray's errors of handing it over mean what those of its answer mean."""
        try:
            refs = await sending
            part = decode_part(await refs[0])
        except RayError as error:
            raise self._lost(await self._cause(error)) from error
        if part.usage is not None:
            self._rss_bytes = part.usage.rss_bytes
        return part, refs[1]

    async def stands(self) -> str | None:
        """Where the user's code holds its event loop up, "" where none does; None where the process gives no answer."""
        try:
            async with asyncio.timeout(SIGN_WITHIN_S):
                found: str = await self._actor.stands.remote()
        except (RayError, TimeoutError):
            return None
        return found

    async def ended(self) -> None:
        """Lasts as long as the worker's process; raises WorkerLostError where that ends before `stop`.

        One call to Ray for each worker, which Ray answers when it hears of the end.
        """
        while True:
            try:
                await self._actor.ended.remote()
            except ActorUnavailableError:  # it may be back
                await asyncio.sleep(ASK_AGAIN_S)
            except RayError as error:
                raise self._lost(error) from error
            else:
                return

    async def waits_for_place(self) -> bool:
        """Whether the cluster has no place for it yet; False where Ray does not say."""
        if not self._creation.done() or self._creation.cancelled() or self._creation.exception() is not None:
            return False
        return await self._threads.asks.call(waits_for_place, self._actor)

    async def node_leaves(self) -> bool:
        """Whether its node goes or is gone; all who ask share one answer, some seconds later."""
        if self._leaving is None:
            self._leaving = asyncio.ensure_future(self._node_leaves())
        return await asyncio.shield(self._leaving)

    async def _node_leaves(self) -> bool:
        if self._info is None:
            return False
        return await node_leaves(self._info.node, stays=lambda node: self._threads.asks.call(node_stays, node))

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
        self._class = ray.remote(concurrency_groups={SIGNS: 1})(PoolWorker)  # type: ignore[call-overload] # not in its stubs
        self._threads = WorkerThreads()

    def spawn(self, name: str) -> RayWorker:
        """Asks Ray for a worker and returns at once; it may stay pending while the cluster has no place for it."""
        built = bool(self._setup.kinds[0].build_timeout_s)
        return RayWorker(name, self._threads.creates.submit(self._create, name), self._threads, built=built)

    def _create(self, name: str) -> Actor:
        """The name is what Ray's dashboard and its logs show of the worker."""
        setup = replace(self._setup, config=replace(self._setup.config, name=name))
        options = self._class.options(
            name=name,
            namespace=self._namespace,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=CALLS_MOST,
            **self._setup.kinds[0].options,
        )
        return cast("Actor", options.remote(setup))


async def _ask_clock(actor: Actor) -> tuple[float, float]:
    """How many seconds the answer took, and how far the worker's clock is ahead of ours, give or take half of that."""
    asked_s = time.time()
    there_s: float = await actor.wall_clock.remote()
    took_s = time.time() - asked_s
    return took_s, there_s - asked_s - took_s / 2
