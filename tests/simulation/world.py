"""World: one history from its Script: the doubles, the router processes and their supervisor, the steps, the quiet end.

All runs on SimLoop's clock, which jumps from timer to timer: no sockets, no threads, no waiting.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from tests.kit.virtual_time import TURNS_MOST, SimLoop, virtual_clock
from tests.simulation.broker import SimBroker
from tests.simulation.checker import Checker, Violation
from tests.simulation.faults import Faults
from tests.simulation.messages import Wishes
from tests.simulation.router_process import TOPOLOGY, RouterProcess
from tests.simulation.script import Script
from tests.simulation.stage import Stage
from tests.simulation.store import SimStore

NOBODY_AWAITED = (
    "A step of the router failed",
    "An end of a worker failed",
    "A start of a worker failed",
    "A message that the broker dropped could not be collected",
    "The loss of a connection could not be told",
    "The watch over the connection to RabbitMQ has failed",
    "Frames for RabbitMQ could not be queued",
)
RESTART_S = 0.5
PATIENCE_S = 400.0
"""A job that can be done is done within it, in a world where nothing fails any more."""

STORM = 40

Tamper = Callable[[RouterProcess], None]
"""Puts something broken into a router before it starts: the checker must find it."""

_process: contextvars.ContextVar[RouterProcess | None] = contextvars.ContextVar("process", default=None)


class Listener(logging.Handler):
    """Hears of background steps that ended with an exception, and of callbacks that raised."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.checker: Checker | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.checker is not None and record.msg in NOBODY_AWAITED:
            self.checker.violation("failed", f"{record.msg}: {record.exc_info and record.exc_info[1]!r}")

    def on_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """As a handler of the loop; an exception that was never retrieved is another's to tell."""
        if self.checker is not None and "never retrieved" not in context["message"]:
            self.checker.violation("failed", f"{context['message']}: {context.get('exception')!r}")


class World:
    """Everything of one history. `routers`: those that live, newest last; `down`: services that do not answer."""

    def __init__(self, script: Script, tamper: Tamper) -> None:
        loop = asyncio.get_running_loop()
        self._tamper = tamper
        self.script = script
        self.workers, self.window, self.batch_size = script.workers, script.window, script.batch_size
        self.wishes = Wishes()
        self.checker = Checker(self.wishes, loop.time)
        self.faults = Faults(script.faults)
        self.broker = SimBroker(TOPOLOGY, self.checker, order=script.order, limit=script.limit)
        self.store = SimStore(self.checker, self.faults)
        self.down: set[float] = set()
        self.routers: list[RouterProcess] = []
        self.closing = False
        self._context = contextvars.copy_context()
        self._numbers = iter(range(1, 1_000))
        self._tasks: set[asyncio.Task[Any]] = set()
        loop.set_task_factory(_known)

    def spawn(self, step: Awaitable[Any]) -> asyncio.Task[Any]:
        """Runs a step outside of all router processes."""

        async def run() -> object:
            return await step

        task = self._context.copy().run(asyncio.get_running_loop().create_task, run())
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def run_in(self, process: RouterProcess, step: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs a step inside of a router process: it ends with it."""
        context = self._context.copy()
        context.run(_process.set, process)
        return asyncio.get_running_loop().create_task(step, context=context)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever awaits it has it; one that nobody awaits any more is no error

    async def supervise(self) -> None:
        """Keeps one router running, as the driver does; one that was fenced is not wanted any more."""
        while not self.closing:
            process = RouterProcess(self, next(self._numbers))
            self._tamper(process)
            starting = self.run_in(process, process.start())
            await asyncio.wait([starting, process.ended], return_when=asyncio.FIRST_COMPLETED)
            if starting.done() and (starting.cancelled() or starting.exception() is not None):
                process.kill()
            elif not process.ended.done():
                self.routers.append(process)
                self.checker.outage_since = None
                await process.ended
                self.routers.remove(process)
                if process.router.fenced.is_set():
                    return
            await asyncio.sleep(RESTART_S)

    # -- the history

    async def play(self) -> None:
        """The steps, each at its time, until one thing is wrong."""
        loop = asyncio.get_running_loop()
        began, stage = loop.time(), Stage(self)
        self.spawn(self.supervise())
        for step in sorted(self.script.steps, key=lambda one: one.at):
            await self._wait(began + step.at - loop.time())
            if self.checker.violations:
                return
            getattr(stage, step.do)(*step.args)
        await self._rest(stage)

    async def _wait(self, seconds: float) -> None:
        """Lets time pass and looks around once a second."""
        while seconds > 0 and not self.checker.violations:
            await asyncio.sleep(min(seconds, 1.0))
            seconds -= 1.0
            self.look()

    async def _rest(self, stage: Stage) -> None:
        """Nothing fails from now on but services that are down; then these work again, and all comes to an end."""
        await self._wait(1.0)
        self.store.commit_again()
        await self._until(lambda: bool(self.routers))
        stage.heal()
        self.checker.progress_at = asyncio.get_running_loop().time()
        await self._until(lambda: not self._doable())
        self.down.clear()
        self.checker.progress_at = asyncio.get_running_loop().time()
        await self._until(lambda: not self.checker.unfinished and not self.broker.waiting and not self._left())

    async def _until(self, done: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        while not self.checker.violations and not done():
            await self._wait(1.0)
            if loop.time() - self.checker.progress_at > PATIENCE_S:
                jobs = ", ".join(f"{one} ({self.checker.wish(one).do})" for one in self.checker.unfinished[:5])
                self.checker.violation("held", f"no end for {PATIENCE_S:g} s; {jobs or 'all done'}; {self._left()}")

    def _doable(self) -> bool:
        """Whether a job waits that needs no service which is down."""
        wish = self.checker.wish
        return any(wish(one).do != "call" or wish(one).value not in self.down for one in self.checker.unfinished)

    def _left(self) -> str:
        """What the newest router has in hand; an earlier one that nobody has fenced yet may be paused."""
        return self.routers[-1].at_rest if self.routers else "no router"

    def look(self) -> None:
        """What is looked at once a second."""
        for router in self.routers:
            if "outage" in router.router.holds and len(self.routers) == 1:
                self.checker.knows_outage()
            kept = len(router.router.buffer) + len(router.quarantine)
            if router.intake.connected and kept > router.intake.unacked:
                self.checker.violation("memory", f"{kept} deliveries in hand, {router.intake.unacked} unacked")
            opened = router.opener.opened_at
            if len(opened) >= STORM and opened[-1] - opened[-STORM] < 10.0:
                self.checker.violation("storm", f"{STORM} connections within 10 s")

    async def end(self) -> None:
        """Ends all tasks."""
        self.closing = True
        for router in self.routers:
            router.kill()
        await asyncio.sleep(0)
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _known(loop: asyncio.AbstractEventLoop, step: Any, context: contextvars.Context | None = None) -> Any:
    """Each task is noted in the process that it was started in."""
    task = asyncio.Task(step, loop=loop, context=context)
    process = _process.get() if context is None else context.get(_process)
    if process is not None:
        if process.ended.done():
            task.cancel()
        process.tasks.add(task)
        task.add_done_callback(process.tasks.discard)
    return task


def run(script: Script, tamper: Tamper = lambda _: None) -> Violation | None:
    """The first violation (rule, text) of one history, or None."""
    loop, log, listener = SimLoop(), logging.getLogger("rabbitray"), Listener()
    before, state = (log.level, log.propagate), random.getstate()
    log.setLevel(logging.ERROR)
    log.propagate = False
    log.addHandler(listener)
    loop.set_exception_handler(listener.on_error)
    try:
        with virtual_clock(loop):
            random.seed(0)
            return loop.run_until_complete(_history(loop, script, tamper, listener))
    finally:
        random.setstate(state)
        log.removeHandler(listener)
        log.level, log.propagate = before
        loop.close()


async def _history(loop: SimLoop, script: Script, tamper: Tamper, listener: Listener) -> Violation | None:
    world = World(script, tamper)
    listener.checker = world.checker
    playing = loop.create_task(world.play())

    def on_endless() -> None:
        world.checker.violation("held", f"it goes on and on: {TURNS_MOST:,} turns of the loop")
        playing.cancel()

    loop.on_endless = on_endless
    try:
        await asyncio.wait([playing])
        if not playing.cancelled():
            playing.result()
        return world.checker.violations[0] if world.checker.violations else None
    finally:
        listener.checker = None
        await world.end()
