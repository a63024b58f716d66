"""ConsumerRouter: the one actor that consumes the queue. A Ray shell around the parts that `assemble` makes."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from dataclasses import replace

import ray

from rabbitray.actors.background import BackgroundTasks
from rabbitray.actors.errors import RabbitrayError
from rabbitray.actors.remote.boot import Flush, keep_freed_memory, ray_attributes
from rabbitray.actors.router.assemble import RouterSetup, assemble
from rabbitray.actors.router.end_asked import EndAsked
from rabbitray.actors.router.holds.vanished import VanishedQueue
from rabbitray.actors.router.report import Drained, RouterReport, pool_status, router_report
from rabbitray.actors.router.status import PoolStatus
from rabbitray.actors.router.upkeep import Upkeep
from rabbitray.actors.store.client import StoreClient

log = logging.getLogger(__name__)


class ConsumerRouter:
    """The consumer-router actor. `start` consumes; `drain` ends it."""

    def __init__(self, setup: RouterSetup) -> None:
        keep_freed_memory()
        self._setup = setup
        self._flush: Flush = setup.boot("router", ray_attributes("ConsumerRouter", f"{setup.pool}-router"))
        self._looking = BackgroundTasks(log, "The router's housekeeping has failed")
        self._flushing = BackgroundTasks(log, "The router's metrics are not sent")
        self._upkeep: Upkeep | None = None  # and with it all parts, once they work
        self._drained = False
        self._end = EndAsked()

    async def start(self) -> list[str]:
        """Reads the control table, connects, registers at the store, starts the pool and consumes.

        Returns warnings about existing queues. Raises ConfigurationError before anything is consumed.
        """
        setup = self._setup
        store = StoreClient(f"{setup.pool}-store", setup.namespace, setup.intake.topology.queue)
        control = await store.control()
        node = ray.get_runtime_context().get_node_id()
        parts = assemble(replace(setup, node=node), control, store)
        warnings = await parts.intake.open()
        await parts.publisher.__aenter__()
        await store.register(f"{setup.pool}-router {uuid.uuid4().hex[:8]} pid {os.getpid()}")
        parts.pool.resize(setup.first_size(control))
        if control.get("paused"):
            await parts.router.hold("paused", str(control["paused"]))
        window = setup.kept_window if parts.intake.single_active else setup.window
        await parts.router.start(window, setup.batch_size)
        await parts.collector.start()
        self._upkeep = Upkeep(parts, on_draining=lambda draining: self._end.by_node(node, draining))
        self._looking.keep(self._upkeep.run, name="router-upkeep")
        self._flushing.keep(lambda: parts.metrics.run(asyncio.Event()), name="router-metrics")
        return warnings

    @property
    def _live(self) -> Upkeep:
        """An actor has its name before `start` has done its work: whoever finds it then is told to come again."""
        if self._upkeep is None:
            raise RabbitrayError(f"actor {self._setup.pool}-router is starting; ask again in a few seconds")
        return self._upkeep

    async def status(self) -> PoolStatus:
        """What the autoscaler decides on."""
        return pool_status(self._live.parts, time.monotonic())

    async def report(self) -> RouterReport:
        """What people look at: counts, latency, holds, workers."""
        return router_report(self._live.parts, time.monotonic(), loop_lag_s=self._live.loop_lag_s)

    async def resize(self, target: int, reason: str) -> None:
        """Sets the number of workers."""
        parts = self._live.parts
        if target != parts.pool.target:
            log.debug("Pool: %d -> %d workers: %s", parts.pool.target, target, reason)
        parts.pool.resize(target)
        parts.router.wake()

    async def widen(self, window: int, batch_size: int, backlog: bool, hand_over: bool = False) -> None:
        """Sets the prefetch window (messages) and the batch size (records); whether the queue holds more than those."""
        await self._live.parts.router.set_window(window, batch_size, backlog=backlog, hand_over=hand_over)

    async def pause(self, reason: str) -> None:
        """Stops consuming until `resume`; survives a restart."""
        parts = self._live.parts
        await parts.store.set_control("paused", reason)
        await parts.router.hold("paused", reason)

    async def resume(self) -> None:
        """Ends a pause."""
        parts = self._live.parts
        await parts.store.set_control("paused", None)
        await parts.router.release("paused")

    async def confirm_vanished(self) -> list[VanishedQueue]:
        """Somebody knows which queues vanished: they are declared anew, and the pool goes on. What was confirmed."""
        live = self._live
        confirmed = await live.parts.watch.confirm()
        await live.save()
        return list(confirmed)

    async def watch(self) -> str:
        """Lasts as long as this actor works; returns why it ended for good; one of ENDS_WELL is no failure."""
        fenced = self._live.parts.router.fenced
        ends = [asyncio.create_task(event.wait()) for event in (fenced, self._end.event)]
        _, open_ends = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in open_ends:
            task.cancel()
        return "another router has taken over this pool" if fenced.is_set() else self._end.why

    async def ask_drain(self) -> None:
        """Lets the driver, which waits in `watch`, drain and end the pool."""
        self._end.by_command()

    async def drain(self, within_s: float) -> Drained:
        """Stop order: intake, in-flight work up to the deadline, give back, workers, connections, traces."""
        if self._drained:
            return Drained(clean=True)
        live = self._live
        self._drained, parts = True, live.parts
        await self._looking.close()
        await live.close()
        clean = await parts.router.drain(self._end.in_time(within_s))
        try:
            await live.save()
        except Exception:  # the next router counts from what was saved last
            log.exception("What is out in rungs was not saved")
        report = await self.report()
        live.measure()
        await asyncio.gather(parts.pool.stop(5.0), parts.isolated.stop(1.0))
        await asyncio.gather(parts.collector.close(), parts.publisher.close(), parts.intake.close())
        await self._flushing.close()
        parts.metrics.flush()
        await asyncio.get_running_loop().run_in_executor(None, self._flush, 5.0)
        return Drained(clean=clean, report=report)

    def __repr__(self) -> str:
        return f"ConsumerRouter({self._setup.pool}-router)"
