"""What people see while a pool works: one line, rewritten on a terminal, now and then elsewhere."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from rabbitray.actors.printable import printable
from rabbitray.actors.router.report import RouterReport
from rabbitray.actors.router.status import Counts
from rabbitray.cluster.cli.terminal import Terminal

LINE_EVERY_S = 5.0


class Progress:
    """Shows reports of the router as a line on `console` (standard error); silent when `quiet`.

    On a terminal, what others write to standard error and standard output meanwhile stands above the line.
    """

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self._quiet = quiet
        self._console = console or Terminal(stderr=True, force_terminal=sys.stderr.isatty())
        self._terminal = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=sys.stdout.isatty())
        self._began = time.monotonic()
        self._last = (self._began, 0)
        self._shown_at = 0.0
        self._rate = 0.0

    def show(self, report: RouterReport | None, ready: int | None, waits_for: str | None = None) -> None:
        """One look at the pool; `ready` messages wait in the queue. None: not known. `waits_for`: all that is left."""
        now = time.monotonic()
        before, acked = self._last
        if now - before >= 0.5:
            acked_now = report.counts.acked if report else 0
            self._rate = max(0.0, (acked_now - acked) / (now - before))
            self._last = (now, acked_now)
        if self._quiet or (not self._terminal and now - self._shown_at < LINE_EVERY_S):
            return
        self._shown_at = now
        text = Text(printable(line(report, ready, self._rate, now - self._began, waits_for)))
        if self._terminal:
            self._live.start()
            self._live.update(text, refresh=True)
        else:
            self._console.print(text, soft_wrap=True)

    def end(self) -> None:
        """Leaves the line."""
        self._live.stop()


def line(
    report: RouterReport | None, ready: int | None, rate: float, elapsed_s: float, waits_for: str | None = None
) -> str:
    """The line itself: time, what waits, what is done, workers, speed, and why nothing moves."""
    counts = report.counts if report else Counts()
    held = report.pool.held if report else 0
    waiting = "?" if ready is None else f"{ready:,}"
    text = (
        f"{elapsed_s:5.0f} s  waiting {waiting}  held {held:,}  done {counts.done:,}  "
        f"retried {counts.retried:,}  dead {counts.dead:,}  {_workers(report)}  {rate:,.0f} msg/s"
    )
    if report and report.holds:
        text += f"  HELD {'; '.join(f'{name}: {reason}' for name, reason in report.holds.items())}"
    if report and report.start_error:
        text += f"  workers cannot start: {report.start_error}"
    return text + (f"  waits for {waits_for}" if waits_for else "")


def _workers(report: RouterReport | None) -> str:
    states = [worker.state for worker in report.workers] if report else []
    text = f"{states.count('ready')} workers"
    text += f" (+{states.count('starting')} starting)" if "starting" in states else ""
    return text + (f" (-{states.count('retiring')} retiring)" if "retiring" in states else "")
