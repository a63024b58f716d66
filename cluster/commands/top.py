"""`rabbitray top`: a live dashboard of a running pool, with keys."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import click
from rich.live import Live

from rabbitray.actors.errors import ConfigurationError, RabbitrayError
from rabbitray.actors.router.report import RouterReport, WorkerRow
from rabbitray.actors.secret import Redactor
from rabbitray.cluster.cli.keyboard import Keys, typed
from rabbitray.cluster.cli.options import ON_HOST, REACH, with_settings
from rabbitray.cluster.cli.terminal import Terminal, tell, tell_json
from rabbitray.cluster.operate.dashboard import KEYS, View, frame, render
from rabbitray.cluster.operate.local_usage import LocalUsage
from rabbitray.cluster.operate.looking import look, queues_of
from rabbitray.cluster.operate.picture import Look, Picture
from rabbitray.cluster.operate.running_pool import NotRunningError, RunningPool, running
from rabbitray.cluster.operate.status import picture
from rabbitray.cluster.settings import Loaded

ANSWER_WITHIN_S = 5.0
BEFORE_LOOKS = 10
DEPTHS_KEPT = 120
NOTICE_S = 8.0
DRAIN_QUESTION = "Drain? What is in flight finishes, then the pool ends. y: yes, any other key: no"


@click.command("top")
@click.option("--once", is_flag=True, help="Print one frame and end.")
@click.option("--json", "as_json", is_flag=True, help="Print what a frame shows as one JSON object, and end.")
@click.option(
    "--every", "every_s", type=click.FloatRange(0.2, 60.0), default=1.0, show_default=True, metavar="SECONDS",
    help="Time between looks.",
)  # fmt: skip
@ON_HOST
@with_settings(*REACH)
def command(loaded: Loaded, once: bool, as_json: bool, every_s: float, host: str | None) -> int:
    """A live dashboard of a running pool: queue, throughput, errors against their targets, workers, decisions.

    \b
    p pause   r resume   + - one worker more or less, held   a autoscaler again   d drain   q quit

    Exit code 3 when no pool of that name runs. For machines: `rabbitray status --json`.
    """
    if not once and not as_json and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigurationError(
            "rabbitray top needs a terminal; use `rabbitray top --once` or `rabbitray status --json`"
        )
    with running(loaded.settings) as pool:
        if as_json:
            tell_json(picture(look(pool, loaded, every_s)).on_host(host).as_json())
        elif once:
            usage = LocalUsage()
            usage.read(_pids(pool.report().workers))  # from here on CPU is measured
            _print_once(look(pool, loaded, every_s), usage, host)
        else:
            tell(asyncio.run(Screen(pool, loaded, every_s, host).run()))
    return 0


def _print_once(seen: Look, usage: LocalUsage, host: str | None) -> None:
    """One frame, as long as it takes, as wide as the terminal or 80."""
    now = picture(seen).on_host(host)
    view = View(
        seen=now,
        at=time.time(),
        before=picture(replace(seen, report=seen.earlier)),
        apart_s=seen.apart_s,
        depths=[(seen.ready or 0) + seen.status.held],
        usage=usage.read(_pids(now.workers)),
        keys="",
    )
    console = Terminal()
    width = console.width if console.is_terminal else 80
    if console.is_terminal:
        console.print(render(view, width=width, height=None))
    else:
        tell(*frame(view, width=width, height=None).splitlines())


def _pids(workers: Iterable[WorkerRow]) -> list[int]:
    return [worker.pid for worker in workers if worker.pid]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One picture and when it was taken (monotonic seconds)."""

    picture: Picture
    at: float


class Screen:
    """The live dashboard: looks at the pool beside, draws, and does what the keys say."""

    def __init__(self, pool: RunningPool, loaded: Loaded, every_s: float, host: str | None = None) -> None:
        self._pool, self._host = pool, host
        self._queue, self._queues = loaded.settings.queue, queues_of(loaded)
        self._every_s = every_s
        self._redact = Redactor(*loaded.secrets)
        self._usage = LocalUsage()
        self._report: RouterReport | None = None
        self._reported_at = 0.0
        self._history: deque[Seen] = deque(maxlen=BEFORE_LOOKS + 1)
        self._depths: deque[int] = deque(maxlen=DEPTHS_KEPT)
        self._view: View | None = None
        self._notice, self._notice_until = "", 0.0
        self._asked = False  # the question about draining stands
        self._draining = False

    async def run(self) -> str:
        """Until `q`, or until the pool has ended; the last word about it."""
        await self._look()
        console = Terminal()
        with typed() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
            looking = asyncio.create_task(self._keep_looking())
            try:
                return await self._show(keys, live, looking)
            finally:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)

    async def _show(self, keys: Keys, live: Live, looking: asyncio.Task[None]) -> str:
        """Draws after each key and each look; ends with whatever ends the looking."""
        while not looking.done():
            self._draw(live)
            key = await keys.next(0.25)
            if key == "q" and not self._asked:
                return f"pool {self._pool.name!r} goes on"
            if key is not None:
                self._notify(await self._act(key))
        try:
            looking.result()
        except NotRunningError:
            if not self._draining:
                raise
        return f"pool {self._pool.name!r} has ended"

    def _draw(self, live: Live) -> None:
        assert self._view is not None
        notice = DRAIN_QUESTION if self._asked else self._notice if time.monotonic() < self._notice_until else ""
        size = live.console.size
        view = replace(self._view, notice=notice, at=time.time())  # whose figures may be older, see View.taken_at
        live.update(render(view, width=size.width, height=size.height), refresh=True)

    def _notify(self, notice: str) -> None:
        self._notice, self._notice_until = self._redact(notice), time.monotonic() + NOTICE_S

    async def _keep_looking(self) -> None:
        """Looks for ever; a silent actor is told, a pool that is gone ends it."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self._look()
            except NotRunningError:
                raise
            except RabbitrayError as error:
                self._notify(str(error))

    async def _look(self) -> None:
        earlier, earlier_at = self._report, self._reported_at
        report, depths = await asyncio.gather(
            self._ask_report(), self._if_it_answers("autoscaler", "depths", self._queues)
        )
        ready, dropped = depths or (None, None)
        self._report, self._reported_at = report, time.monotonic()
        decisions, store, control = await asyncio.gather(
            self._if_it_answers("autoscaler", "decisions"),
            self._if_it_answers("store", "stats"),
            self._if_it_answers("store", "control"),
        )
        seen = picture(
            Look(
                pool=self._pool.name,
                queue=self._queue,
                report=report,
                earlier=earlier or report,
                apart_s=self._reported_at - earlier_at,
                status=report.pool,
                decisions=decisions,
                store=store,
                control=control,
                ready=ready,
                dropped=dropped,
            )
        )
        self._keep(seen.on_host(self._host))

    def _keep(self, seen: Picture) -> None:
        """The frame compares with the oldest picture kept, some seconds ago."""
        self._history.append(Seen(picture=seen, at=self._reported_at))
        messages, oldest = seen.messages, self._history[0]
        self._depths.append((messages.ready or 0) + messages.held)
        self._view = View(
            seen=seen,
            at=time.time(),
            taken_at=time.time(),
            stale_after_s=2 * self._every_s + ANSWER_WITHIN_S,
            before=oldest.picture if len(self._history) > 1 else None,
            apart_s=max(self._reported_at - oldest.at, 0.001),
            depths=list(self._depths),
            usage=self._usage.read(_pids(seen.workers)),
            keys=KEYS,
        )

    async def _act(self, key: str) -> str:
        """Does what a key says; what came of it, in words."""
        if self._asked:
            self._asked = False
            return await self._order("router", "ask_drain", says="the pool drains") if key in "yY" else "not drained"
        match key:
            case "p":
                return await self._order("router", "pause", "rabbitray top", says="paused")
            case "r":
                return await self._order("router", "resume", says="goes on")
            case "+" | "=":
                return await self._scale(1)
            case "-":
                return await self._scale(-1)
            case "a":
                return await self._order("autoscaler", "fix", None, says="the autoscaler decides")
            case "d":
                self._asked = True
                return ""
        return KEYS

    async def _scale(self, more: int) -> str:
        assert self._view is not None
        size = self._view.seen.size
        wanted = max(0, (size.wanted if size.fixed is None else size.fixed) + more)
        if said := await self._order("autoscaler", "fix", wanted, says=""):
            return said
        held = self._view.seen.size.fixed  # the nearest to it that the bounds allow
        return f"held at {held} workers; a gives them back"

    async def _order(self, actor: str, method: str, *arguments: object, says: str) -> str:
        try:
            await self._ask(actor, method, *arguments)
            self._draining = self._draining or method == "ask_drain"
            await self._look()
        except RabbitrayError as error:
            return str(error)
        return says

    async def _ask_report(self) -> RouterReport:
        ask = partial(self._pool.report, within_s=ANSWER_WITHIN_S)
        return await asyncio.get_running_loop().run_in_executor(None, ask)

    async def _ask(self, actor: str, method: str, *arguments: object) -> Any:  # Any: as RunningPool.ask
        def ask() -> Any:  # Any: as above
            return self._pool.ask(actor, method, *arguments, within_s=ANSWER_WITHIN_S)

        return await asyncio.get_running_loop().run_in_executor(None, ask)

    async def _if_it_answers(self, actor: str, method: str, *arguments: object) -> Any:  # Any: as RunningPool.ask
        try:
            return await self._ask(actor, method, *arguments)
        except RabbitrayError:  # the picture says which one is silent
            return None
