"""Alarm: the first delivery after a lull wakes the autoscaler, which looks only now and then while nothing happens."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

import ray
from ray.exceptions import RayError

from actors.remote.boot import Actor

log = logging.getLogger(__name__)

LULL_S = 1.0


class Alarm:
    """Wakes the actor of that name; costs a comparison for each delivery, and a call for each lull.

    `find(name, namespace)` blocks, and raises ValueError where there is no such actor.
    """

    def __init__(self, autoscaler: str, namespace: str, find: Callable[[str, str], Actor] = ray.get_actor) -> None:
        self._autoscaler = autoscaler
        self._namespace = namespace
        self._find = find
        self._last = -math.inf
        self._ringing: asyncio.Task[None] | None = None

    def delivered(self, at: float) -> None:
        """Notes a delivery at `at` (monotonic s)."""
        lull, self._last = at - self._last > LULL_S, at
        if lull and (self._ringing is None or self._ringing.done()):
            self._ringing = asyncio.create_task(self._ring(), name="wake-autoscaler")

    async def _ring(self) -> None:
        """An autoscaler that is not there, or is being restarted, looks by itself when it comes."""
        try:
            in_thread = asyncio.get_running_loop().run_in_executor
            actor = await in_thread(None, self._find, self._autoscaler, self._namespace)
            await actor.wake.remote()
        except (ValueError, RayError) as error:
            log.debug("The autoscaler was not woken: %s", error)
