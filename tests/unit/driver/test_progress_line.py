"""The progress line: rewritten on a terminal of any width, a line now and then elsewhere, nothing when quiet."""

from __future__ import annotations

import io
import logging
import re
import sys
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from rabbitray.actors.router.dispatch.member import State
from rabbitray.actors.router.report import WorkerRow
from rabbitray.actors.router.status import Counts
from rabbitray.cluster.driver.progress_line import Progress, line
from rabbitray.cluster.telemetry import LogConfig, start_logging
from tests.kit.hostile import TEXTS, unfit
from tests.kit.pool_status import QUIET, QUIET_REPORT

STATES: list[State] = ["ready", "ready", "starting", "retiring"]
REPORT = replace(
    QUIET_REPORT,
    pool=replace(QUIET, held=1_500),
    counts=Counts(acked=40, done=38, retried=2, dead=1),
    workers=tuple(WorkerRow(name="w", state=state, pid=None, batches=0, jobs=0, busy_s=0.0) for state in STATES),
)


def on_a_terminal(width: int = 200, **more: Any) -> Console:  # Any: options of the console
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None, **more)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_line_says_what_waits_what_is_done_and_who_works() -> None:
    text = line(REPORT, 12_345, rate=1_234.4, elapsed_s=7.4)
    assert text == (
        "    7 s  waiting 12,345  held 1,500  done 38  retried 2  dead 1  "
        "2 workers (+1 starting) (-1 retiring)  1,234 msg/s"
    )
    assert "waiting ?" in line(None, None, 0, 0)


def test_the_line_says_why_nothing_moves() -> None:
    held = replace(QUIET_REPORT, holds={"paused": "by ann", "store": "no room"}, start_error="ValueError: no")
    text = line(held, 1, 0, 0)
    assert text.endswith("HELD paused: by ann; store: no room  workers cannot start: ValueError: no")


@pytest.mark.parametrize("text", TEXTS)
def test_no_text_of_a_stranger_steers_the_terminal(text: str) -> None:
    console = Console(file=io.StringIO(), width=200)
    progress = Progress(console=console)
    progress.show(replace(QUIET_REPORT, holds={"paused": text}, start_error=text), 1)
    progress.end()
    assert not unfit(shown(console))
    assert shown(console).count("\n") == 1


def test_on_a_terminal_each_look_takes_the_place_of_the_one_before() -> None:
    console = on_a_terminal()
    progress = Progress(console=console)
    for ready in (300, 200, 100):
        progress.show(REPORT, ready)
    progress.end()
    text = shown(console)
    assert [text.count(f"waiting {ready}") for ready in (300, 200, 100)] == [1, 1, 2]  # the last one is left standing
    assert re.search(r"waiting 300[^\n]*\r\x1b\[2K[^\n]*waiting 200[^\n]*\r\x1b\[2K[^\n]*waiting 100", text)
    assert text.endswith("\x1b[?25h")  # the cursor is back


def test_on_a_narrow_terminal_all_of_a_wrapped_line_is_replaced() -> None:
    console = on_a_terminal(width=60)
    progress = Progress(console=console)
    progress.show(REPORT, 300)
    first = shown(console)
    progress.show(REPORT, 200)
    progress.end()
    assert first.count("\n") == 1
    assert shown(console)[len(first) :].startswith("\r\x1b[2K\x1b[1A\x1b[2K")


def test_on_a_terminal_the_log_stands_above_the_line() -> None:
    """The log begins before the line, as in a run."""
    console = on_a_terminal()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    start_logging(LogConfig(), "driver")
    progress = Progress(console=console)
    try:
        progress.show(REPORT, 300)
        logging.getLogger("rabbitray.cluster.test").warning("Something to know")
        print("a worker's print", file=sys.stderr)  # noqa: T201 # as Ray shows what workers print
        progress.show(REPORT, 200)
    finally:
        progress.end()
        root.handlers[:], root.level = handlers, level
    lines = [one for one in re.split(r"\n|\r\x1b\[2K|\r", shown(console)) if one.strip()]
    order = [next(i for i, one in enumerate(lines) if word in one) for word in ("Something", "print", "waiting 200")]
    assert order == sorted(order)
    assert not any("waiting" in one and ("Something" in one or "print" in one) for one in lines)


@pytest.mark.parametrize("environ", [{}, {"FORCE_COLOR": "1"}])
def test_elsewhere_a_whole_line_is_written_now_and_then(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    progress = Progress()
    for ready in (300, 200, 100):
        progress.show(REPORT, ready)
    progress.end()
    out, error = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r" +0 s  waiting 300  held .* 2 workers \(\+1 starting\) \(-1 retiring\)  0 msg/s\n", error)


def test_a_terminal_that_cannot_move_its_cursor_gets_lines() -> None:
    console = on_a_terminal(_environ={"TERM": "dumb"})
    progress = Progress(console=console)
    for ready in (300, 200):
        progress.show(REPORT, ready)
    progress.end()
    assert shown(console).count("\n") == 1
    assert "\x1b" not in shown(console)


def test_quiet_shows_nothing() -> None:
    console = on_a_terminal()
    progress = Progress(quiet=True, console=console)
    progress.show(REPORT, 300)
    progress.end()
    assert shown(console) == ""
