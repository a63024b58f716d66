"""Runs one pool from start to end: what `run` and `demo` have in common."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import ray

from rabbitray.actors.errors import ConfigurationError, RabbitrayError
from rabbitray.actors.rabbitmq.depth import DepthLink, DepthProbe
from rabbitray.actors.router.end_asked import ENDS_WELL
from rabbitray.actors.router.report import Drained, RouterReport
from rabbitray.actors.router.status import Counts
from rabbitray.actors.telemetry.metrics import Percentiles
from rabbitray.actors.worker.handler.decoder import require_decoder
from rabbitray.actors.worker.handler.gpus import gpus_hidden
from rabbitray.actors.worker.handler.loading import find
from rabbitray.actors.worker.handler.shape import awaits
from rabbitray.cluster import telemetry
from rabbitray.cluster.driver import checks, compose
from rabbitray.cluster.driver.checks import facts
from rabbitray.cluster.driver.progress_line import Progress
from rabbitray.cluster.driver.run_totals import RunTotals
from rabbitray.cluster.driver.service import Service
from rabbitray.cluster.driver.session import Session, check_room, connect
from rabbitray.cluster.driver.until_empty import EMPTY_LOOKS, Sight, not_back, start_failure, vanished, waits_for
from rabbitray.cluster.settings import Loaded

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5

EMPTY = "the queue is empty"
"""How a run with --until-empty ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a run ends and what it shows. `duration_s`: 0 for no limit."""

    until_empty: bool = False
    quiet: bool = False
    dashboard: bool = False
    log_to_driver: bool = True


Before = Callable[[], Awaitable[None]]
"""What is looked at before Ray is started; it raises what ends the run."""

Beside = Callable[["Driver"], Awaitable[None]]
"""What is done beside the running pool, e.g. publishing; the run ends with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What the whole run came to, in numbers of jobs; `given_back` in messages. See RunTotals for what it may lack
    where a router died. `latency_ms`: of the last router; None without any report. `failure`: why it was for nothing.
    """

    ended: str
    done: int
    duplicates: int
    retried: int
    dead: int
    given_back: int
    clean: bool
    duration_s: float
    latency_ms: Percentiles | None
    failure: str | None = None

    def as_json(self) -> dict[str, Any]:  # Any: JSON values
        """As `rabbitray run --json` prints it."""
        found = asdict(self) | {"latency_ms": asdict(self.latency_ms) if self.latency_ms else {}}
        return found if self.failure else {name: value for name, value in found.items() if name != "failure"}


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Why a run ends. `failure`: what cannot be mended by going on."""

    reason: str
    failure: str | None = None


class Driver:
    """The driver process of one pool: settings, telemetry, signals, progress, summary."""

    def __init__(self, loaded: Loaded, handler: str, options: RunOptions) -> None:
        self.loaded = loaded
        self.options = options
        self.progress = Progress(quiet=options.quiet)
        self.session: Session | None = None
        self._handler = handler
        self._stop = asyncio.Event()
        self._service: Service | None = None
        self._depths = Depths(loaded)
        self._totals = RunTotals()
        self._told_wait = ""
        self.peak_workers = 0
        self.least_workers: int | None = None

    @property
    def service(self) -> Service:
        """The running pool."""
        assert self._service is not None
        return self._service

    async def run(self, beside: Beside | None = None, *, before: Before | None = None) -> Summary:
        """Starts the pool, waits for its end (signal, empty queue, `beside`), stops it; the summary."""
        check(self.loaded, self._handler)
        if before is not None:
            await before()
        began = time.monotonic()
        self.session = connect(
            self.loaded.settings, dashboard=self.options.dashboard, log_to_driver=self.options.log_to_driver
        )
        try:
            check_room(self.loaded.settings)
            self._take_signals()
            self._service = Service(self.loaded, self._handler, self.session)
            await self._service.start()
            end = await self._until_end(beside)
            log.info("Stopping: %s", end.failure or end.reason)
            drained = await self._service.stop()
        finally:
            await self._depths.close()
            self.progress.end()
            await asyncio.get_running_loop().run_in_executor(None, ray.shutdown)
        if drained.report is not None:
            self._totals.of_run(drained.report)
        return summary(replace(drained, report=self._totals.last()), time.monotonic() - began, end)

    async def look(self) -> tuple[RouterReport | None, int | None]:
        """The router's report, with the counts of the whole run, and what waits in the queue; None for what is not
        known now."""
        found, ready = await asyncio.gather(self.service.report(), self._depths.main())
        report = None if found is None else self._totals.of_run(found)
        ready_workers = sum(worker.state == "ready" for worker in report.workers) if report else 0
        self.peak_workers = max(self.peak_workers, ready_workers)
        if ready_workers:
            self.least_workers = min(self.least_workers or ready_workers, ready_workers)
        return report, ready

    def stop(self) -> None:
        """Ends the run as a signal would."""
        self._stop.set()

    def _take_signals(self) -> None:
        """After ray.init, which installs handlers of its own. A second signal changes nothing."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: int) -> None:
        if not self._stop.is_set():
            log.info("%s: draining", signal.Signals(number).name)
        self._stop.set()

    async def _until_end(self, beside: Beside | None) -> End:
        watch = asyncio.ensure_future(self._watch())
        waits: dict[asyncio.Future[Any], str] = {
            asyncio.ensure_future(self._stop.wait()): "asked to stop",
            asyncio.ensure_future(self.service.ended()): "fenced",
            watch: EMPTY,
        }
        if beside is not None:
            waits[asyncio.ensure_future(beside(self))] = "done"
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for other in pending:
            other.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for ended in done:
            if waits[ended] == "fenced" and ended.result() in ENDS_WELL:
                return End(reason=ended.result())
            if waits[ended] == "fenced":
                raise RabbitrayError(f"pool {self.loaded.settings.pool!r} stopped: {ended.result()}")
            ended.result()
        if watch in done:
            return watch.result()
        return End(reason=waits[next(iter(done))])

    async def _watch(self) -> End:
        """Shows progress. If the empty queue ends the run, it returns when queue and rungs were empty twice in a row,
        when no worker can start, and when the pool waits for a queue that vanished."""
        empty = 0
        while True:
            report, ready = await self.look()
            sight = Sight(report=report, ready=ready, rungs=None, consumers=self._depths.consumers)
            if self.options.until_empty and sight.may_be_empty:
                sight = replace(sight, rungs=await self._depths.rungs())
            waiting = waits_for(sight, time.time())
            self.progress.show(report, ready, waiting)
            empty = empty + 1 if sight.empty else 0
            if self.options.until_empty:
                if empty >= EMPTY_LOOKS:
                    return End(reason=EMPTY, failure=not_back(report, self.loaded.settings.rung_retry_interval_s))
                if (failure := vanished(report)) is not None:
                    return End(reason="a queue vanished", failure=failure)
                if (failure := start_failure(report)) is not None:
                    return End(reason="no worker can start", failure=failure)
                self._tell_wait(waiting, sight)
            await asyncio.sleep(LOOK_EVERY_S)

    def _tell_wait(self, waiting: str | None, sight: Sight) -> None:
        """Says once for each time until which there is something to wait for."""
        until = "" if waiting is None else f"until {sight.until_ms // 60_000}"
        if waiting is not None and until != self._told_wait:
            log.info("--until-empty waits for %s; Ctrl-C ends the run, and they stay", waiting)
            self._told_wait = until


class Depths:
    """Ready depth of the main queue and of all rungs together, over one connection; None where it is not known."""

    def __init__(self, loaded: Loaded) -> None:
        topology, url = compose.topology(loaded.settings), loaded.settings.rabbitmq_url
        self._link = DepthLink(url, f"how much waits in {topology.queue} and its rungs")
        self._main = DepthProbe(url, topology.queue, link=self._link)
        self._rungs = [DepthProbe(url, topology.rung(delay), link=self._link) for delay in topology.rung_delays_ms]

    async def main(self) -> int | None:
        """Messages ready in the main queue."""
        return await self._main.ready()

    @property
    def consumers(self) -> int | None:
        """Of the main queue, when it answered last."""
        return self._main.consumers

    async def rungs(self) -> int | None:
        """Messages in all rungs."""
        depths = await asyncio.gather(*(probe.ready() for probe in self._rungs))
        known = [depth for depth in depths if depth is not None]
        return sum(known) if len(known) == len(depths) else None

    async def close(self) -> None:
        """Ends the connection."""
        await self._link.close()


def check(loaded: Loaded, handler: str) -> None:
    """Everything that can be known to be wrong before anything starts; ConfigurationError, one line each."""
    settings = loaded.settings
    telemetry.start_logging(compose.logs(loaded), "driver")
    findings = checks.check_versions(checks.installed_versions())
    with gpus_hidden():
        sync_handler = not awaits(find(handler))
        require_decoder(settings.decoder)
    findings += checks.check_settings(settings, facts(loaded, sync_handler=sync_handler))
    for finding in findings:
        if finding.level == "warn":
            log.warning("%s", finding.text)
    refusals = [finding.text for finding in findings if finding.level == "refuse"]
    if refusals:
        raise ConfigurationError("\n".join(refusals))


def summary(drained: Drained, duration_s: float, end: End) -> Summary:
    """What a run came to."""
    report = drained.report
    counts = report.counts if report else Counts()
    return Summary(
        ended=end.reason,
        done=counts.done,
        duplicates=counts.duplicates,
        retried=counts.retried,
        dead=counts.dead,
        given_back=report.given_back if report else 0,
        clean=drained.clean and end.failure is None,
        duration_s=round(duration_s, 2),
        latency_ms=report.latency_ms if report else None,
        failure=end.failure,
    )
