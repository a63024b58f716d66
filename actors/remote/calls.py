"""Calls of actors by name, from an event loop that must not block, and what Ray's errors say."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from rabbitray.actors.errors import RabbitrayError
from rabbitray.actors.remote.boot import Actor
from rabbitray.actors.secret import redact

log = logging.getLogger(__name__)
LULL_S = 1.0


class NamedActor:
    """Calls an actor that is found by its name each time: after a restart it is another one."""

    def __init__(self, name: str, namespace: str) -> None:
        self._name = name
        self._namespace = namespace

    async def call(self, method: str, *arguments: object) -> Any:  # Any: what the method returns
        """What the living actor of that name answers; RabbitrayError when there is none now."""
        try:
            find = asyncio.get_running_loop().run_in_executor
            actor = await find(None, ray.get_actor, self._name, self._namespace)
            return await getattr(actor, method).remote(*arguments)
        except (ValueError, RayActorError) as missing:
            raise RabbitrayError(f"actor {self._name} does not run; it is being restarted") from missing


class WakeAutoscaler:
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


def last_line(error: BaseException) -> str:
    """The last line of Ray's long texts, where it puts what happened, without the passwords of URLs.

    Ray's list of common causes is left out.
    """
    lines = [line.strip() for line in redact(str(error)).splitlines() if line.strip()]
    return lines[-1].partition(" Some common causes include")[0] if lines else type(error).__name__


def start_failure(error: RayError) -> str:
    """Why an actor's constructor failed: the user's own exception line when there is one."""
    return last_line(error)
