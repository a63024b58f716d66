"""The composition root: start order, supervision, stop order.

Start: store (opens the file, or says why not) -> router (connects, checks the queues, consumes) -> autoscaler.
Stop: autoscaler -> intake -> what is in flight, up to the deadline -> give the rest back -> workers -> store
(commit, checkpoint) -> traces -> actors.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from rabbitray.actors.errors import StoreUnavailableError
from rabbitray.actors.remote.boot import Actor
from rabbitray.actors.remote.calls import ActorLostError, answer, last_line
from rabbitray.actors.router.actor import ConsumerRouter
from rabbitray.actors.router.report import Drained, RouterReport
from rabbitray.actors.store.actor import ResultStore
from rabbitray.autoscale.actor import Autoscaler
from rabbitray.cluster.driver import compose
from rabbitray.cluster.driver.actors import OWN_ACTORS, SMALL_CPU, ActorMaker, RayActors
from rabbitray.cluster.driver.session import Session
from rabbitray.cluster.driver.supervise import Supervised
from rabbitray.cluster.settings import Loaded

log = logging.getLogger(__name__)

AUTOSCALER_STOPS_WITHIN_S = 6.0
STORE_CLOSES_WITHIN_S = 30.0


class Service:
    """One pool: its three actors, started and ended in order. Belongs to one event loop."""

    def __init__(self, loaded: Loaded, handler: str, session: Session, *, actors: ActorMaker | None = None) -> None:
        self._loaded = loaded
        self._handler = handler
        self._session = session
        name = loaded.settings.pool
        self._actors = actors or RayActors(session, loaded.settings.ray_namespace, name)
        self.store = Supervised(f"{name}-store", self._start_store, self._actors.end)
        self.router = Supervised(f"{name}-router", self._start_router, self._actors.end)
        self.autoscaler = Supervised(f"{name}-autoscaler", self._start_autoscaler, self._actors.end)
        self._made: set[str] = set()  # names that were ours: one that is still taken is our own dead actor's
        self._silent = False  # the router gave no report when it was asked last
        self._drained: Drained | None = None

    async def start(self) -> None:
        """Starts the actors in order; raises the first one's RabbitrayError after ending what had started."""
        try:
            for supervised in (self.store, self.router, self.autoscaler):
                await supervised.start()
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
                report: RouterReport = await answer(actor, self.router.name, "report")
            except Exception as error:  # noqa: BLE001 # whatever it is, the pool goes on without a report
                if not self._silent:
                    log.info("The router gives no report now: %s", last_line(error))
                self._silent = True
            else:
                if self._silent:
                    log.info("The router reports again")
                self._silent = False
                return report
        return self._drained.report if self._drained else None

    async def stop(self) -> Drained:
        """Drains and ends everything, each step whatever the one before it met; how the router ended.

        May be called twice.
        """
        if self._drained is not None:
            return self._drained
        await self._stop_autoscaler()
        self._drained = await self._drain()
        if not await self._close_store():
            self._drained = replace(self._drained, clean=False)
        await self._end_actors()
        return self._drained

    async def _stop_autoscaler(self) -> None:
        """Lets it end its look and send its last traces and metrics; the pool does not wait for it for long."""
        try:
            await self._last_call(self.autoscaler, "stop", within_s=AUTOSCALER_STOPS_WITHIN_S)
        except Exception as error:  # noqa: BLE001 # whatever it is, the router is drained next
            log.warning("The autoscaler did not stop by itself (%s); its last traces may be missing", last_line(error))
        await self.autoscaler.stop()

    async def _drain(self) -> Drained:
        if self.router.actor is None:
            return Drained(clean=False)
        deadline = self._loaded.settings.drain_deadline_s
        try:
            drained: Drained = await self._last_call(self.router, "drain", deadline, within_s=deadline + 20.0)
        except Exception as error:  # noqa: BLE001 # whatever it is, the store is closed next
            log.error("The router did not drain (%s); its messages will be delivered again", last_line(error))
            return Drained(clean=False)
        return drained

    async def _close_store(self) -> bool:
        """False where it had to tell that its file lacks what was acknowledged."""
        try:
            await self._last_call(self.store, "close", within_s=STORE_CLOSES_WITHIN_S)
        except StoreUnavailableError as lost:
            log.error("The store closed without its file: %s", lost)
            return False
        except Exception as error:  # noqa: BLE001 # whatever it is, the actors end next
            log.error(
                "The store did not close in time (%s); all that was acknowledged is in its file",
                last_line(error),
            )
        return True

    async def _last_call(self, supervised: Supervised, method: str, *arguments: object, within_s: float) -> Any:
        """What the last method of an actor answers; None where there is no actor. Any: whatever it returns."""
        if supervised.actor is None:
            return None
        async with asyncio.timeout(within_s):
            return await answer(supervised.actor, supervised.name, method, *arguments)

    async def _end_actors(self) -> None:
        for supervised in (self.autoscaler, self.router, self.store):
            await supervised.stop()

    async def _start_store(self) -> Actor:
        return await self._make(
            ResultStore,
            self.store.name,
            "open",
            compose.store(self._loaded.settings),
            self.store.name,
            compose.boot(self._loaded),
            compose.metering(self._loaded),
        )

    async def _start_router(self) -> Actor:
        setup = compose.router(self._loaded, self._handler, self._session.fits)
        return await self._make(ConsumerRouter, self.router.name, "start", setup)

    async def _start_autoscaler(self) -> Actor:
        own_cpus = 0.0 if self._session.on_head else OWN_ACTORS * SMALL_CPU
        setup = compose.autoscaler(self._loaded, self._session.max_size, own_cpus)
        return await self._make(Autoscaler, self.autoscaler.name, "start", setup)

    async def _make(self, kind: type, name: str, begin: str, *arguments: object) -> Actor:
        try:
            actor = await self._actors.make(kind, name, begin, *arguments, again=name in self._made)
        except ActorLostError:
            self._made.add(name)
            raise
        self._made.add(name)
        return actor


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
