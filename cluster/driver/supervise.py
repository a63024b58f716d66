"""Keeps one actor running: start it, watch it, start it again with back-off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from rabbitray.actors.background import BackgroundTasks
from rabbitray.actors.backoff import Backoff
from rabbitray.actors.remote.boot import Actor
from rabbitray.actors.remote.calls import ActorLostError, answer, last_line

log = logging.getLogger(__name__)

RESTARTS = Backoff(first_s=0.5, most_s=30.0)
STEADY_S = 60.0
FIRST_STARTS_MOST = 3
"""How often an actor is made at first whose process ends while it starts; what it raises itself ends the start."""
UNREACHABLE = Backoff(first_s=0.5, most_s=5.0)
UNREACHABLE_MOST = 6
"""How often in a row an actor that Ray cannot reach is asked again before it counts as ended: 18 seconds of waits."""


class Supervised:
    """One named actor, kept running whatever its start, its watch or Ray raises.

    `start` makes a new one and returns once it works; its `watch()` lasts as long as it; `end` ends it and never
    fails.
    """

    def __init__(
        self, name: str, start: Callable[[], Awaitable[Actor]], end: Callable[[Actor, str], Awaitable[None]]
    ) -> None:
        self.name = name
        self._start = start
        self._end = end
        self._stopping = asyncio.Event()
        self._tasks = BackgroundTasks(log, f"The supervision of actor {name} has failed")
        self.actor: Actor | None = None
        self.restarts = 0
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def start(self) -> Actor:
        """The first start; whatever it raises is the caller's. Watching begins when it worked."""
        self.actor = await self._first()
        self._tasks.keep(self._run, name=f"supervise-{self.name}")
        return self.actor

    async def _first(self) -> Actor:
        """Started, or ActorLostError after FIRST_STARTS_MOST of its processes."""
        backoff = RESTARTS
        while True:
            try:
                return await self._start()
            except ActorLostError as lost:
                if backoff.failures + 1 >= FIRST_STARTS_MOST or await self._pause(backoff.delay_s()):
                    raise
                log.error("Actor %s ended while it started (%s); it is started again", self.name, lost.why)
                backoff = backoff.failed()

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
        """Waits for the end of the actor and ends what is left of it; why. An end that it announces itself (fenced) is
        final."""
        assert self.actor is not None
        try:
            word = await self._word(self.actor)
        except Exception as error:  # noqa: BLE001 # whatever it is: an actor that cannot be watched is started again
            await self._end(self.actor, self.name)
            return error.why if isinstance(error, ActorLostError) else last_line(error)
        if not self.ended.done():
            self.ended.set_result(word)
        return word

    async def _word(self, actor: Actor) -> str:
        """What its `watch` returns; raises what shows that it works no more."""
        patience = UNREACHABLE
        while True:
            asked_at = asyncio.get_running_loop().time()
            try:
                word: str = await answer(actor, self.name, "watch")
            except ActorLostError as lost:
                if asyncio.get_running_loop().time() - asked_at > STEADY_S:
                    patience = patience.reset()
                if not lost.may_pass or patience.failures >= UNREACHABLE_MOST:
                    raise
                log.warning("Actor %s cannot be reached (%s); it is asked again", self.name, lost.why)
            else:
                return word
            await self._pause(patience.delay_s())
            patience = patience.failed()

    async def _again(self, backoff: Backoff) -> None:
        """Starts the actor again, for as long as it takes; no restart after `stop`."""
        while not await self._pause(backoff.delay_s()):
            try:
                self.actor = await self._start()
            except Exception as error:  # noqa: BLE001 # whatever it is, the next try may work; logged below
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

    async def _pause(self, seconds: float) -> bool:
        """Waits; True as soon as `stop` was called."""
        try:
            async with asyncio.timeout(seconds):
                return await self._stopping.wait()
        except TimeoutError:
            return False

    async def stop(self) -> None:
        """No more restarts, and the actor ends now. May be called twice and before `start`."""
        self._stopping.set()
        await self._tasks.close()
        actor, self.actor = self.actor, None
        if actor is not None:
            await self._end(actor, self.name)
