"""What people see while a pool works: one line, rewritten on a terminal, now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import click

LINE_EVERY_S = 5.0


class Progress:
    """Shows reports of the router as a line on standard error; silent when `quiet`."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
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
        text = line(report, ready, self._rate, now - self._began)
        click.echo(f"\r\x1b[2K{text}" if self._terminal else text, err=True, nl=not self._terminal)

    def end(self) -> None:
        """Leaves the line."""
        if self._terminal and not self._quiet:
            click.echo("", err=True)


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
