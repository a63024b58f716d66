"""What `status --json` and `top --json` print, to the byte: keys, their order and values are a documented interface."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

from rabbitray.actors.router.dispatch.node_watch import NodeEvent
from rabbitray.actors.router.endings import LastEndings
from rabbitray.actors.router.holds.vanished import VanishedQueue
from rabbitray.actors.router.report import JobProgress, RouterReport, WorkerRow
from rabbitray.actors.router.status import Counts, ErrorCount, PoolStatus
from rabbitray.actors.store.answers import StoreStats
from rabbitray.actors.telemetry.metrics import Percentiles
from rabbitray.autoscale.loop import DecisionRecord
from rabbitray.cluster.operate.picture import Look
from rabbitray.cluster.operate.status import picture
from rabbitray.cluster.operate.status_lines import lines
from tests.kit.pool_status import QUIET, QUIET_REPORT

STATUS: PoolStatus = replace(
    QUIET, workers=1, busy=1, starting=2, retiring=1, target=3, held=40, in_flight=12, oldest_held_s=0.4567, placeable=4
)
REPORT: RouterReport = replace(
    QUIET_REPORT,
    pool=replace(STATUS, received=90, returned=30),
    counts=Counts(
        done=140, duplicates=2, retried=7, dead=1, acked=150, strays=4, split=1, again=2, skipped=1, near_limit=3,
        renewed=2, late=4,
    ),
    given_back=9,
    endings=LastEndings(jobs=100, dead=1, error=ErrorCount(error_class="E9", count=1, example="no", last_s=4.0)),
    acked_s_ago=0.5,
    latency_ms=Percentiles(p50=8.2, p95=20.0, p99=30.5),
    write_ms=Percentiles(p50=3.1, p95=8.0),
    holds={"store": "disk full"},
    errors=tuple(ErrorCount(error_class=f"E{n}", count=9 - n, example="no such host") for n in range(4)),
    workers=(
        WorkerRow(name="jobs-worker-0002", state="starting", pid=None, batches=0, jobs=0, busy_s=0.0),
        WorkerRow(
            name="jobs-worker-0003", state="ready", pid=6, batches=2, jobs=12, busy_s=2.25, cpu_percent=71.5,
            rss_bytes=45_000_000, host="w1", address="10.0.0.1", silent_s=6.0,
            progress=(JobProgress(key="k7", fraction=0.4, text="page 3 of 7", running_s=60.5, told_s_ago=1.5),),
        ),
    ),
    quarantined=3,
    uncommitted_bytes=7_000_000,
    retries_out=4,
    retries_until_ms=1_760_000_360_900,
    retries_overdue=2,
    uncollected="541",
    node_events=(
        NodeEvent(at=1_760_000_000.0, node="w1 (10.0.0.1)", fate="silent", workers=1, messages=20, silent_s=6.0),
    ),
    vanished=(VanishedQueue(queue="orders", at_s=1_760_000_000.0, ready=12, seen_s_ago=3.0, unacked=2),),
    spans_lost=5,
)  # fmt: skip
DECISION = DecisionRecord(
    at=1_760_000_000.0, event="decided", kind="grow", wanted=3, had=1, starting=0, retiring=0, reason="want 3: load",
    window=50, batch_size=10, took_s=None, inputs={"arrival": 48.123, "speed": None},
)  # fmt: skip
PRINTED = (
    '{"pool": "jobs", "queue": "orders", "state": "degraded", "problems": ["held (store): disk full", '
    "\"queue 'orders' vanished with 12 ready, 2 delivered and not acknowledged (last seen 3 s before); "
    'the pool waits for it, confirm it with `rabbitray resume --vanished`", '
    '"node w1 (10.0.0.1) has given no answer for 6 s: 1 workers with 2 batches", '
    '"2 retries should be back from their rungs: is the queue full, or a policy on them?", '
    '"1 messages that RabbitMQ dropped are not collected: 541"], "warnings": [], '
    '"size": {"wanted": 3, "had": 1, "busy": 1, "starting": 2, "retiring": 1, "possible": 8, "fixed": 3, "lent": 0, '
    '"short": null}, '
    '"messages": {"ready": 12, "held": 40, "in_flight": 12, "quarantined": 3, "oldest_held_s": 0.46, '
    '"uncommitted_bytes": 7000000, "retries_out": 6, '
    '"retries_until": "2025-10-09T08:59:20+00:00", "retries_overdue": 2, "dropped": 1}, '
    '"window": 200, "window_fixed": null, "batch_size": 10, "holds": {"store": "disk full"}, '
    '"vanished": [{"queue": "orders", "at_s": 1760000000.0, "ready": 12, "seen_s_ago": 3.0, "unacked": 2, "times": 1, '
    '"state": "missing"}], '
    '"counts": {"done": 140, "duplicates": 2, "retried": 7, "dead": 1, "acked": 150, '
    '"postponed": 0, "spared": 0, "strays": 4, "split": 1, "again": 2, "near_limit": 3, "renewed": 2, "skipped": 1, '
    '"late": 4}, '
    '"endings": {"jobs": 100, "dead": 1, "in_a_row": 0, '
    '"error": {"error_class": "E9", "count": 1, "example": "no", "last_s": 4.0}, "limit": 20}, "acked_s_ago": 0.5, '
    '"rates": {"received_s": 10.0, "acked_s": 25.0, "done_s": 71.0, "arrivals_s": 48.12, "speed_per_worker_s": null}, '
    '"latency_ms": {"p50": 8.2, "p95": 20.0, "p99": 30.5}, "write_ms": {"p50": 3.1, "p95": 8.0, "p99": null}, '
    '"errors": [{"error_class": "E0", "count": 9, "example": "no such host", "last_s": 0.0}, '
    '{"error_class": "E1", "count": 8, "example": "no such host", "last_s": 0.0}, '
    '{"error_class": "E2", "count": 7, "example": "no such host", "last_s": 0.0}], '
    '"reasons": [{"at": "2025-10-09T08:53:20+00:00", "event": "decided", "wanted": 3, "reason": "want 3: load"}], '
    '"rows": 140, "conflicts": 4, "connected": true, "broker": "127.0.0.1:5672/", "spans_lost": 5, "workers": ['
    '{"name": "jobs-worker-0002", "state": "starting", "pid": null, "batches": 0, "jobs": 0, "busy_s": 0.0, '
    '"cpu_percent": null, "rss_bytes": null, "host": null, "address": null, "silent_s": null, "clock_s": null, '
    '"progress": []}, '
    '{"name": "jobs-worker-0003", "state": "ready", "pid": 6, "batches": 2, "jobs": 12, "busy_s": 2.25, '
    '"cpu_percent": 71.5, "rss_bytes": 45000000, "host": "w1", "address": "10.0.0.1", "silent_s": 6.0, '
    '"clock_s": null, "progress": [{"key": "k7", "fraction": 0.4, "text": "page 3 of 7", "running_s": 60.5, '
    '"told_s_ago": 1.5}]}], '
    '"node_events": [{"at": 1760000000.0, "node": "w1 (10.0.0.1)", "fate": "silent", "workers": 1, "messages": 20, '
    '"silent_s": 6.0}], "environment_s": null}'
)


LOOK = Look(
    pool="jobs",
    queue="orders",
    report=REPORT,
    earlier=replace(REPORT, pool=replace(REPORT.pool, received=80, returned=20), counts=Counts(acked=100)),
    apart_s=2.0,
    status=STATUS,
    decisions=[DECISION],
    store=StoreStats(rows=140, conflicts=4),
    control={"fixed_size": 3},
    ready=12,
    dropped=1,
)


def test_the_json_of_a_status() -> None:
    assert json.dumps(picture(LOOK).as_json()) == PRINTED


def test_a_report_travels_between_processes() -> None:
    assert pickle.loads(pickle.dumps(REPORT)) == REPORT


def test_the_line_about_retries_says_until_when_and_how_many_are_late() -> None:
    seen = picture(LOOK)
    text = (
        "retries   6 in rungs or on their way back, expected until 2025-10-09T08:59:20+00:00 at the latest, 2 of them "
    )
    assert f"{text}overdue" in lines(seen)
    fine = replace(seen, messages=replace(seen.messages, retries_out=1, retries_until=None, retries_overdue=0))
    assert "retries   1 in rungs or on their way back" in lines(fine)
