"""What people see while a pool works: one line, rewritten on a terminal, now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

LINE_EVERY_S = 5.0


class Progress:
    """Shows reports of the router as a line on `console` (standard error); silent when `quiet`.

    On a terminal, what others write to standard error and standard output meanwhile stands above the line.
    """

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self._quiet = quiet
        self._console = console or Console(stderr=True, force_terminal=sys.stderr.isatty())
        self._terminal = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=sys.stdout.isatty())
        self._began = time.monotonic()
        self._last = (self._began, 0)
        self._shown_at = 0.0
        self._rate = 0.0

    def show(self, report: Mapping[str, Any], ready: int | None) -> None:  # Any: JSON values
        """One look at the pool; `ready` messages wait in the queue (None: not known)."""
        now = time.monotonic()
        before, acked = self._last
        if now - before >= 0.5:
            self._rate = max(0.0, (report.get("acked", 0) - acked) / (now - before))
            self._last = (now, report.get("acked", 0))
        if self._quiet or (not self._terminal and now - self._shown_at < LINE_EVERY_S):
            return
        self._shown_at = now
        text = Text(line(report, ready, self._rate, now - self._began))
        if self._terminal:
            self._live.start()
            self._live.update(text, refresh=True)
        else:
            self._console.print(text, soft_wrap=True)

    def end(self) -> None:
        """Leaves the line."""
        self._live.stop()


def line(report: Mapping[str, Any], ready: int | None, rate: float, elapsed_s: float) -> str:  # Any: JSON values
    """The line itself: time, what waits, what is done, workers, speed, and why nothing moves."""
    workers = [worker["state"] for worker in report.get("workers", [])]
    states = f"{workers.count('ready')} workers"
    states += f" (+{workers.count('starting')} starting)" if "starting" in workers else ""
    states += f" (-{workers.count('retiring')} retiring)" if "retiring" in workers else ""
    waiting = "?" if ready is None else f"{ready:,}"
    text = (
        f"{elapsed_s:5.0f} s  waiting {waiting}  held {report.get('unacked', 0):,}  done {report.get('done', 0):,}  "
        f"retried {report.get('retried', 0):,}  dead {report.get('dead', 0):,}  {states}  {rate:,.0f} msg/s"
    )
    holds = "; ".join(f"{name}: {reason}" for name, reason in report.get("holds", {}).items())
    if holds:
        text += f"  HELD {holds}"
    if report.get("start_error"):
        text += f"  workers cannot start: {report['start_error']}"
    return text
