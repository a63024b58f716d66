"""Runs one pool from start to end: what `run` and `demo` have in common."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

import ray

from rabbitray.actors.errors import ConfigurationError, RabbitrayError
from rabbitray.actors.rabbitmq.depth import DepthProbe
from rabbitray.actors.router.actor import DRAIN_ASKED
from rabbitray.actors.router.report import Drained, RouterReport
from rabbitray.actors.router.status import Counts
from rabbitray.actors.telemetry.metrics import Percentiles
from rabbitray.actors.worker.handlers import awaits, find
from rabbitray.cluster import telemetry
from rabbitray.cluster.driver import checks, compose
from rabbitray.cluster.driver.checks import facts
from rabbitray.cluster.driver.progress_line import Progress
from rabbitray.cluster.driver.service import Service
from rabbitray.cluster.driver.session import Session, connect
from rabbitray.cluster.settings import Loaded

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5

EMPTY = "the queue is empty"
"""How a run with --until-empty ends; retries that have not come back in time are told beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a run ends and what it shows. `duration_s`: 0 for no limit."""

    until_empty: bool = False
    quiet: bool = False
    dashboard: bool = False
    log_to_driver: bool = True


Beside = Callable[["Driver"], Awaitable[None]]
"""What is done beside the running pool, e.g. publishing; the run ends with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a run came to, in numbers of jobs; `given_back` and `retries_out` in messages.

    `retries_out`: copies that went into rungs and have not come back. `latency_ms`: None without a last report.
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
    retries_out: int = 0

    def as_json(self) -> dict[str, Any]:  # Any: JSON values
        """As `rabbitray run --json` prints it."""
        return asdict(self) | {"latency_ms": asdict(self.latency_ms) if self.latency_ms else {}}


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
        self.peak_workers = 0
        self.least_workers: int | None = None

    @property
    def service(self) -> Service:
        """The running pool."""
        assert self._service is not None
        return self._service

    async def run(self, beside: Beside | None = None) -> Summary:
        """Starts the pool, waits for its end (signal, empty queue, `beside`), stops it; the summary."""
        check(self.loaded, self._handler)
        began = time.monotonic()
        self.session = connect(
            self.loaded.settings, dashboard=self.options.dashboard, log_to_driver=self.options.log_to_driver
        )
        try:
            self._take_signals()
            self._service = Service(self.loaded, self._handler, self.session)
            await self._service.start()
            reason = await self._until_end(beside)
            log.info("Stopping: %s", reason)
            drained = await self._service.stop()
        finally:
            await self._depths.close()
            self.progress.end()
            await asyncio.get_running_loop().run_in_executor(None, ray.shutdown)
        return summary(drained, time.monotonic() - began, reason)

    async def look(self) -> tuple[RouterReport | None, int | None]:
        """The router's report and what waits in the queue; None for what is not known now."""
        report, ready = await asyncio.gather(self.service.report(), self._depths.main())
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

    async def _until_end(self, beside: Beside | None) -> str:
        waits: dict[asyncio.Future[Any], str] = {
            asyncio.ensure_future(self._stop.wait()): "asked to stop",
            asyncio.ensure_future(self.service.ended()): "fenced",
            asyncio.ensure_future(self._watch()): EMPTY,
        }
        if beside is not None:
            waits[asyncio.ensure_future(beside(self))] = "done"
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for other in pending:
            other.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for ended in done:
            if waits[ended] == "fenced" and ended.result() == DRAIN_ASKED:
                return DRAIN_ASKED
            if waits[ended] == "fenced":
                raise RabbitrayError(f"pool {self.loaded.settings.pool!r} stopped: {ended.result()}")
            ended.result()
        return waits[next(iter(done))]

    async def _watch(self) -> None:
        """Shows progress; returns when the queue and its rungs were empty twice in a row, if that ends the run.

        A rung does not tell of what RabbitMQ could not move out of it: the router counts that, and waits no longer than
        it takes RabbitMQ to try twice more.
        """
        empty = 0
        while True:
            report, ready = await self.look()
            self.progress.show(report, ready)
            empty = empty + 1 if is_idle(report, ready) and await self._depths.rungs() == 0 else 0
            if self.options.until_empty and empty >= 2:
                return
            await asyncio.sleep(LOOK_EVERY_S)


def is_idle(report: RouterReport | None, ready: int | None) -> bool:
    """Whether nothing waits in the main queue, is held by the pool, or is expected back from a rung."""
    if report is None or not report.connected or ready != 0:
        return False
    return not report.pool.held and not report.retries_out


class Depths:
    """Ready depth of the main queue and of all rungs together; None where it is not known."""

    def __init__(self, loaded: Loaded) -> None:
        topology, url = compose.topology(loaded.settings), loaded.settings.rabbitmq_url.reveal()
        self._main = DepthProbe(url, topology.queue)
        self._rungs = [DepthProbe(url, topology.rung(delay)) for delay in topology.rung_delays_ms]

    async def main(self) -> int | None:
        """Messages ready in the main queue."""
        return await self._main.ready()

    async def rungs(self) -> int | None:
        """Messages in all rungs."""
        depths = await asyncio.gather(*(probe.ready() for probe in self._rungs))
        known = [depth for depth in depths if depth is not None]
        return sum(known) if len(known) == len(depths) else None

    async def close(self) -> None:
        """Ends the connections."""
        await asyncio.gather(self._main.close(), *(probe.close() for probe in self._rungs))


def check(loaded: Loaded, handler: str) -> None:
    """Everything that can be known to be wrong before anything starts; ConfigurationError, one line each."""
    settings = loaded.settings
    telemetry.start_logging(compose.logs(loaded), "driver")
    findings = checks.check_versions(checks.installed_versions())
    findings += checks.check_settings(settings, facts(loaded, sync_handler=not awaits(find(handler))))
    for finding in findings:
        if finding.level == "warn":
            log.warning("%s", finding.text)
    refusals = [finding.text for finding in findings if finding.level == "refuse"]
    if refusals:
        raise ConfigurationError("\n".join(refusals))


def summary(drained: Drained, duration_s: float, reason: str) -> Summary:
    """What a run came to."""
    report = drained.report
    counts = report.counts if report else Counts()
    return Summary(
        ended=reason,
        done=counts.done,
        duplicates=counts.duplicates,
        retried=counts.retried,
        dead=counts.dead,
        given_back=report.given_back if report else 0,
        clean=drained.clean,
        duration_s=round(duration_s, 2),
        retries_out=report.retries_out + report.retries_overdue if report else 0,
        latency_ms=report.latency_ms if report else None,
    )
