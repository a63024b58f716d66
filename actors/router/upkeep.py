"""Upkeep: what the router looks at once a second, so that nothing waits for ever."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Mapping

from rabbitray.actors.background import BackgroundTasks
from rabbitray.actors.remote.nodes import draining_nodes
from rabbitray.actors.remote.threads import RayThread
from rabbitray.actors.router.assemble import QUEUES_SEEN, RETRIES_OUT, Parts
from rabbitray.actors.router.report import counts_of, pool_status

log = logging.getLogger(__name__)

EVERY_S = 1.0
DRAINING_EVERY_LOOKS = 5
ANSWERS_EVERY_LOOKS = 2
SAVING_EVERY_LOOKS = 5
QUEUES_EVERY_LOOKS = 5
DEPTHS_SAVED_EVERY_S = 60.0
"""How old the depths may be that the next router finds; that a queue has messages, or none, is saved at once."""


class Upkeep:
    """Gives back what waits too long, leaves nodes that go away, measures. Belongs to the router's event loop.

    `on_draining` is told the nodes that are drained, by id, with their deadlines (Unix ms; 0: none).
    """

    def __init__(self, parts: Parts, *, on_draining: Callable[[Mapping[str, int]], None]) -> None:
        self.parts = parts
        self._on_draining = on_draining
        self.loop_lag_s = 0.0  # how late the event loop ran at the last look
        self._looks = itertools.count()
        self._nodes = BackgroundTasks(log, "Ray was not asked which nodes are draining")
        self._thread = RayThread("draining-nodes")
        self._lending = BackgroundTasks(log, "The pool could not lend a place")
        self._recycling = BackgroundTasks(log, "Workers could not be replaced by their age, memory or jobs")
        self._answers = BackgroundTasks(log, "The nodes were not asked for a sign of life")
        self._saving = BackgroundTasks(log, "What is out in rungs was not saved")
        self._saved = parts.outstanding.state()
        self._queues = BackgroundTasks(log, "The depths of our queues were not looked at")
        self._queues_saved = parts.watch.vanished.state()
        self._queues_saved_at = time.monotonic()

    async def run(self) -> None:
        """Looks once a second until cancelled; a look that fails is logged and changes nothing."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(EVERY_S)
            self.loop_lag_s = time.monotonic() - before - EVERY_S
            try:
                self.run_once()
            except Exception:
                log.exception("The router's housekeeping failed; it tries again in a second")

    def run_once(self) -> None:
        """One look."""
        self.parts.router.tick()
        self.parts.outstanding.expire(time.time_ns() // 1_000_000)
        self.measure()
        if not self._lending.running:
            self._lending.spawn(self.parts.lending.look(), name="lending")
        if self.parts.recycling.on and not self._recycling.running:
            self._recycling.spawn(self.parts.recycling.look(), name="recycling")
        look = next(self._looks)
        if look % ANSWERS_EVERY_LOOKS == 0 and not self._answers.running:
            self._answers.spawn(self.parts.nodes.look(), name="nodes-answer")
        if look % DRAINING_EVERY_LOOKS == 0 and not self._nodes.running:
            self._nodes.spawn(self._leave_draining(), name="draining-nodes")
        if look % SAVING_EVERY_LOOKS == 0 and not self._saving.running:
            self._saving.spawn(self.save(), name="retries-out")
        if look % QUEUES_EVERY_LOOKS == 0 and not self._queues.running:
            self._queues.spawn(self.parts.watch.look(), name="queue-depths")

    async def save(self) -> None:
        """Writes what is out in rungs, and what our queues hold, into the control table, for the next router."""
        if (state := self.parts.outstanding.state()) != self._saved:
            await self.parts.store.set_control(RETRIES_OUT, state)
            self._saved = state
        await self._save_queues()

    async def _save_queues(self) -> None:
        """Depths change all the time: they are saved now and then, and where the next router would act otherwise."""
        now, vanished = time.monotonic(), self.parts.watch.vanished
        old = now >= self._queues_saved_at + DEPTHS_SAVED_EVERY_S
        if (old and vanished.state() != self._queues_saved) or vanished.worth_saving(self._queues_saved):
            state = vanished.state()
            await self.parts.store.set_control(QUEUES_SEEN, state)
            self._queues_saved, self._queues_saved_at = state, now

    async def close(self) -> None:
        """Ends what is under way beside the looks."""
        await asyncio.gather(
            self._nodes.close(),
            self._answers.close(),
            self._lending.close(),
            self._recycling.close(),
            self._saving.close(),
            self._queues.close(),
        )

    async def _leave_draining(self) -> None:
        """Beside the looks: Ray's GCS may take a minute to answer, and the looks go on meanwhile."""
        if draining := await self._thread.call(draining_nodes):
            self.parts.pool.leave(draining)
            self.parts.isolated.leave(draining)
            self._on_draining(draining)

    def measure(self) -> None:
        """One look for the metrics; nothing where they are switched off."""
        parts = self.parts
        if parts.meter is not None:
            now = time.monotonic()
            parts.meter.look(
                pool_status(parts, now),
                counts_of(parts),
                parts.endings(now),
                connected=parts.intake.connected,
                lag_s=self.loop_lag_s,
                vanished=len(parts.watch.vanished.events),
                declared_again=parts.watch.declared_again,
            )
