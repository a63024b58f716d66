"""What a run shows while it goes on and when it has ended."""

from __future__ import annotations

import json
from dataclasses import replace

from rabbitray.actors.router.report import Drained, RouterReport, WorkerRow
from rabbitray.actors.router.status import Counts
from rabbitray.actors.telemetry.metrics import Percentiles
from rabbitray.cluster.driver.driver import End, summary
from rabbitray.cluster.driver.progress_line import line
from tests.kit.pool_status import QUIET, QUIET_REPORT


def worker(number: int, state: str) -> WorkerRow:
    row = WorkerRow(name=f"w-{number}", state="ready", pid=number, batches=0, jobs=0, busy_s=0.0)
    return replace(row, state=state)


REPORT: RouterReport = replace(
    QUIET_REPORT,
    pool=replace(QUIET, held=1_050),
    counts=Counts(done=14_000, duplicates=2, retried=7, dead=1, acked=14_001),
    given_back=9,
    latency_ms=Percentiles(p50=8.2, p95=20.0, p99=30.5),
    workers=(worker(1, "ready"), worker(2, "starting"), worker(3, "retiring")),
)


def test_the_json_of_a_run() -> None:
    assert json.dumps(summary(Drained(clean=True, report=REPORT), 12.345, End(reason="done")).as_json()) == (
        '{"ended": "done", "done": 14000, "duplicates": 2, "retried": 7, "dead": 1, "given_back": 9, "clean": true, '
        '"duration_s": 12.35, "latency_ms": {"p50": 8.2, "p95": 20.0, "p99": 30.5}}'
    )


def test_the_json_of_a_run_whose_router_was_lost() -> None:
    assert json.dumps(summary(Drained(clean=False), 1.0, End(reason="asked to stop")).as_json()) == (
        '{"ended": "asked to stop", "done": 0, "duplicates": 0, "retried": 0, "dead": 0, "given_back": 0, '
        '"clean": false, "duration_s": 1.0, "latency_ms": {}}'
    )


def test_the_json_of_a_run_that_was_for_nothing_says_why() -> None:
    end = End(reason="no worker can start", failure="workers cannot start, tried 3 times: MAIL_TOKEN is not set")
    found = summary(Drained(clean=True, report=REPORT), 9.0, end)
    assert (found.clean, found.as_json()["failure"], found.ended) == (False, end.failure, "no worker can start")


def test_the_progress_line() -> None:
    assert line(REPORT, 12_345, 1_234.5, 7.0) == (
        "    7 s  waiting 12,345  held 1,050  done 14,000  retried 7  dead 1  "
        "1 workers (+1 starting) (-1 retiring)  1,234 msg/s"
    )
    held = replace(REPORT, holds={"store": "disk full"}, start_error="ImportError: x")
    assert line(held, 0, 0.0, 7.0).endswith("0 msg/s  HELD store: disk full  workers cannot start: ImportError: x")


def test_without_a_report_nothing_is_known() -> None:
    assert line(None, None, 0.0, 0.4) == ("    0 s  waiting ?  held 0  done 0  retried 0  dead 0  0 workers  0 msg/s")
