"""Calls of actors by name, from an event loop that must not block, and what Ray's errors say."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from rabbitray.actors.background import BackgroundTasks
from rabbitray.actors.errors import RabbitrayError
from rabbitray.actors.remote.boot import Actor
from rabbitray.actors.secret import redact

log = logging.getLogger(__name__)
LULL_S = 1.0
Find = Callable[[str, str], Actor]


class ActorMissingError(RabbitrayError):
    """No actor of that name is there now."""


class NamedActor:
    """Calls an actor that is found by its name: after a restart it is another one.

    `keep`: it is looked up once, and again after it has ended; else each time, for a handle keeps the name of a dead
    actor taken. `find(name, namespace)` blocks, and raises ValueError where there is no such actor.
    """

    def __init__(self, name: str, namespace: str, *, keep: bool = False, find: Find = ray.get_actor) -> None:
        self.name = name
        self._namespace = namespace
        self._keep = keep
        self._look_up = find
        self._kept: Actor | None = None

    def find(self) -> Actor:
        """Its handle; ActorMissingError where there is none. Blocks."""
        if self._kept is not None:
            return self._kept
        try:
            found = self._look_up(self.name, self._namespace)
        except ValueError as missing:
            raise ActorMissingError(f"actor {self.name} does not run; it is being restarted") from missing
        if self._keep:
            self._kept = found
        return found

    async def call(self, method: str, *arguments: object) -> Any:  # Any: what the method returns
        """What it answers; raises ActorMissingError, or whatever Ray raises."""
        actor = self._kept or await asyncio.get_running_loop().run_in_executor(None, self.find)
        try:
            return await getattr(actor, method).remote(*arguments)
        except RayActorError as gone:
            if not isinstance(gone, RayTaskError):  # that would be the end of another actor, which it had called
                self._kept = None
            raise

    async def call_running(self, method: str, *arguments: object) -> Any:  # Any: as `call`
        """As `call`, with one RabbitrayError where it is not there or has ended: it is being restarted."""
        try:
            return await self.call(method, *arguments)
        except (ActorMissingError, ValueError, RayActorError) as gone:
            raise RabbitrayError(f"actor {self.name} does not run; it is being restarted") from gone


class WakeAutoscaler:
    """Wakes the actor of that name; costs a comparison for each delivery, and a call for each lull."""

    def __init__(self, autoscaler: str, namespace: str, find: Find = ray.get_actor) -> None:
        self._autoscaler = NamedActor(autoscaler, namespace, find=find)
        self._last = -math.inf
        self._tasks = BackgroundTasks(log, "Waking the autoscaler failed")

    def delivered(self, at: float) -> None:
        """Notes a delivery at `at` (monotonic s)."""
        lull, self._last = at - self._last > LULL_S, at
        if lull and not self._tasks.running:
            self._tasks.spawn(self._ring(), name="wake-autoscaler")

    async def _ring(self) -> None:
        """An autoscaler that is not there, or is being restarted, looks by itself when it comes."""
        try:
            await self._autoscaler.call("wake")
        except (ActorMissingError, RayError) as error:
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
