"""Keeps one actor running: start it, watch it, start it again with back-off."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import ray
from ray.exceptions import RayActorError, RayError

from rabbitray.actors.background import BackgroundTasks
from rabbitray.actors.backoff import Backoff
from rabbitray.actors.errors import RabbitrayError
from rabbitray.actors.remote.boot import Actor
from rabbitray.actors.remote.calls import last_line

log = logging.getLogger(__name__)

RESTARTS = Backoff(first_s=0.5, most_s=30.0)
STEADY_S = 60.0


class Supervised:
    """One named actor. `start` makes a new one and returns once it works; its `watch()` lasts as long as it."""

    def __init__(self, name: str, start: Callable[[], Awaitable[Actor]]) -> None:
        self.name = name
        self._start = start
        self._stopping = asyncio.Event()
        self._tasks = BackgroundTasks(log, f"Actor {name} is no longer supervised")
        self.actor: Actor | None = None
        self.restarts = 0
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def start(self) -> Actor:
        """The first start; whatever it raises is the caller's. Watching begins when it worked."""
        self.actor = await self._start()
        self._tasks.spawn(self._run(), name=f"supervise-{self.name}")
        return self.actor

    async def _run(self) -> None:
        backoff = RESTARTS
        while not self._stopping.is_set():
            began = asyncio.get_running_loop().time()
            reason = await self._watched()
            if self._stopping.is_set() or self.ended.done():
                return
            if asyncio.get_running_loop().time() - began > STEADY_S:
                backoff = backoff.reset()
            log.error("Actor %s ended (%s); it is started again in %.1f s", self.name, reason, backoff.delay_s())
            await self._again(backoff)
            backoff = backoff.failed()

    async def _watched(self) -> str:
        """Waits for the end of the actor; an end that it announces itself (fenced) is final."""
        assert self.actor is not None
        try:
            word: str = await self.actor.watch.remote()
        except RayActorError as error:
            ray.kill(self.actor, no_restart=True)  # a dead actor keeps its name for as long as it has a handle
            return last_line(error)
        if not self.ended.done():
            self.ended.set_result(word)
        return word

    async def _again(self, backoff: Backoff) -> None:
        """Starts the actor again, for as long as it takes; no restart after `stop`."""
        while not self._stopping.is_set():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), backoff.delay_s())
                return
            try:
                self.actor = await self._start()
            except (RayError, RabbitrayError) as error:
                backoff = backoff.failed()
                log.error(
                    "Actor %s could not be started (%s); next try in %.1f s",
                    self.name,
                    last_line(error),
                    backoff.delay_s(),
                )
            else:
                self.restarts += 1
                return

    async def stop(self) -> None:
        """No more restarts, and the actor ends now. May be called twice and before `start`."""
        self._stopping.set()
        await self._tasks.close()
        if self.actor is not None:
            ray.kill(self.actor, no_restart=True)
            self.actor = None
