"""The composition root: start order, supervision, stop order.

Start: store (opens the file, or says why not) -> router (connects, checks the queues, consumes) -> autoscaler.
Stop: autoscaler -> intake -> what is in flight, up to the deadline -> give the rest back -> workers -> store
(commit, checkpoint) -> traces -> actors.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rabbitray.actors.errors import ConfigurationError, RabbitrayError
from rabbitray.actors.remote.boot import Actor
from rabbitray.actors.remote.calls import last_line
from rabbitray.actors.router.actor import ConsumerRouter
from rabbitray.actors.router.report import Drained, RouterReport
from rabbitray.actors.store.actor import ResultStore
from rabbitray.autoscale.actor import Autoscaler
from rabbitray.cluster.driver import compose
from rabbitray.cluster.driver.session import Session
from rabbitray.cluster.driver.supervise import Supervised
from rabbitray.cluster.settings import Loaded

log = logging.getLogger(__name__)

SMALL_CPU = 0.01
CALLS_MOST = 1_000
NAME_FREE_WITHIN_S = 10.0
AUTOSCALER_STOPS_WITHIN_S = 6.0


class Service:
    """One pool: its three actors, started and ended in order. Belongs to one event loop."""

    def __init__(self, loaded: Loaded, handler: str, session: Session) -> None:
        self._loaded = loaded
        self._handler = handler
        self._session = session
        name = loaded.settings.pool
        self.store = Supervised(f"{name}-store", self._start_store)
        self.router = Supervised(f"{name}-router", self._start_router)
        self.autoscaler = Supervised(f"{name}-autoscaler", self._start_autoscaler)
        self._running = False
        self._drained: Drained | None = None

    async def start(self) -> None:
        """Starts the actors in order; raises the first one's RabbitrayError after ending what had started."""
        try:
            for supervised in (self.store, self.router, self.autoscaler):
                await supervised.start()
            self._running = True
        except BaseException:
            await self._end_actors()
            raise

    async def ended(self) -> str:
        """Returns when the pool cannot go on: another router took over."""
        return await self.router.ended

    async def report(self) -> RouterReport | None:
        """The router's report now, or its last; None while it is being restarted."""
        actor = self.router.actor
        if actor is not None and self._drained is None:
            try:
                report: RouterReport = await actor.report.remote()
            except RayActorError as error:
                log.info("The router gives no report now: %s", last_line(error))
            else:
                return report
        return self._drained.report if self._drained else None

    async def stop(self) -> Drained:
        """Drains and ends everything; how the router ended. May be called twice."""
        if self._drained is not None:
            return self._drained
        await self._stop_autoscaler()
        self._drained = await self._drain()
        await self._close_store()
        await self._end_actors()
        return self._drained

    async def _stop_autoscaler(self) -> None:
        """Lets it end its look and send its last traces and metrics; the pool does not wait for it for long."""
        actor = self.autoscaler.actor
        try:
            async with asyncio.timeout(AUTOSCALER_STOPS_WITHIN_S):
                if actor is not None:
                    await actor.stop.remote()
        except (RayError, TimeoutError) as error:
            log.warning("The autoscaler did not stop by itself (%s); its last traces may be missing", last_line(error))
        await self.autoscaler.stop()

    async def _drain(self) -> Drained:
        actor, deadline = self.router.actor, self._loaded.settings.drain_deadline_s
        if actor is None:
            return Drained(clean=False)
        try:
            async with asyncio.timeout(deadline + 20.0):
                drained: Drained = await actor.drain.remote(deadline)
        except (RayActorError, TimeoutError) as error:
            log.error("The router did not drain (%s); its messages will be delivered again", last_line(error))
            return Drained(clean=False)
        return drained

    async def _close_store(self) -> None:
        if self.store.actor is None:
            return
        try:
            async with asyncio.timeout(30.0):
                await self.store.actor.close.remote()
        except (RayActorError, TimeoutError) as error:
            log.error(
                "The store did not close in time (%s); all that was acknowledged is in its file",
                last_line(error),
            )

    async def _end_actors(self) -> None:
        for supervised in (self.autoscaler, self.router, self.store):
            await supervised.stop()

    async def _start_store(self) -> Actor:
        config = compose.store(self._loaded.settings)
        return await self._make(
            ResultStore,
            self.store.name,
            "open",
            config,
            self.store.name,
            compose.boot(self._loaded),
            compose.metering(self._loaded),
        )

    async def _start_router(self) -> Actor:
        setup = compose.router(self._loaded, self._handler, self._session.max_size)
        return await self._make(ConsumerRouter, self.router.name, "start", setup)

    async def _start_autoscaler(self) -> Actor:
        setup = compose.autoscaler(self._loaded, self._session.max_size)
        return await self._make(Autoscaler, self.autoscaler.name, "start", setup)

    async def _make(self, kind: type, name: str, begin: str, *arguments: object) -> Actor:
        """Creates a named actor on this node and awaits its first step; ends it when that fails."""
        actor = await self._create(kind, name, arguments)
        try:
            warnings = await getattr(actor, begin).remote()
        except RayTaskError as failed:
            ray.kill(actor, no_restart=True)
            if isinstance(failed.cause, RabbitrayError):
                raise failed.cause from None
            raise
        except RayActorError as died:
            raise RabbitrayError(f"actor {name} ended while it started: {last_line(died)}") from died
        for warning in warnings or ():
            log.warning("%s", warning)
        return actor

    async def _create(self, kind: type, name: str, arguments: tuple[object, ...]) -> Actor:
        """A name is free only once its former holder is gone: that may take a moment after a crash."""
        options: Any = ray.remote(kind).options(  # Any: Ray's actor class is generic over ours
            name=name,
            namespace=self._loaded.settings.ray_namespace,
            num_cpus=SMALL_CPU,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=CALLS_MOST,
            scheduling_strategy=NodeAffinitySchedulingStrategy(self._session.node_id, soft=False),
        )
        deadline = time.monotonic() + NAME_FREE_WITHIN_S
        while True:
            try:
                return cast("Actor", options.remote(*arguments))
            except ValueError as taken:
                if not self._running or time.monotonic() > deadline:
                    raise ConfigurationError(
                        f"pool {self._loaded.settings.pool!r} runs already in this cluster (actor {name}): "
                        "stop it first, or give this one another --pool"
                    ) from taken
            await asyncio.sleep(0.5)


async def until(condition: Callable[[], Awaitable[bool]], *, every_s: float, stop: asyncio.Event) -> None:
    """Returns when the condition held, or `stop` was set."""
    while not stop.is_set():
        if await condition():
            return
        try:
            async with asyncio.timeout(every_s):
                await stop.wait()
        except TimeoutError:
            continue
