"""What `status` says of a pool, without a pool."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ray.exceptions import GetTimeoutError

from rabbitray.actors.errors import QueryError, RabbitrayError
from rabbitray.actors.router.endings import LastEndings
from rabbitray.actors.router.report import WorkerRow
from rabbitray.actors.router.status import Counts, ErrorCount
from rabbitray.actors.store.answers import StoreStats
from rabbitray.actors.telemetry.metrics import Percentiles
from rabbitray.autoscale.loop import DecisionRecord
from rabbitray.cluster.commands import status
from rabbitray.cluster.operate.picture import Look, ShownRates
from rabbitray.cluster.operate.running_pool import NotRunningError, translated
from rabbitray.cluster.operate.status import picture
from rabbitray.cluster.operate.status_lines import age, lines
from tests.kit.fake_pool import FakePool
from tests.kit.pool_status import QUIET, QUIET_REPORT

WORKER = WorkerRow(name="jobs-worker-0001", state="ready", pid=4, batches=1, jobs=9, busy_s=1.5)
REPORT = replace(
    QUIET_REPORT,
    pool=replace(QUIET, received=90, returned=30),
    counts=Counts(acked=150, done=140),
    latency_ms=Percentiles(p50=8.0, p99=30.0),
    workers=(WORKER,),
)
EARLIER = replace(REPORT, pool=replace(QUIET, received=80, returned=20), counts=Counts(acked=100, done=130))
DECISION = DecisionRecord(
    at=1_760_000_000.0, event="decided", kind="grow", wanted=3, had=1, starting=0, retiring=0, reason="want 3: load",
    window=50, batch_size=10, took_s=None, inputs={"arrival": 48.123, "speed": 20.0},
)  # fmt: skip
NO_NAME = ErrorCount(error_class="KeyError", count=40, example="'name'")
HEALTHY = Look(
    pool="jobs",
    queue="jobs",
    report=REPORT,
    earlier=EARLIER,
    apart_s=2.0,
    status=replace(QUIET, workers=1, starting=2, target=3, placeable=4),
    decisions=[DECISION],
    store=StoreStats(rows=140),
    control={"fixed_size": 3},
    ready=12,
)


def test_a_healthy_pool() -> None:
    seen = picture(HEALTHY)
    assert (seen.state, seen.problems) == ("healthy", ())
    assert (seen.size.wanted, seen.size.had, seen.size.starting) == (3, 1, 2)
    assert (seen.size.possible, seen.size.fixed) == (7, 3)
    assert seen.rates == ShownRates(
        received_s=10.0, acked_s=25.0, done_s=5.0, arrivals_s=48.12, speed_per_worker_s=20.0
    )
    assert seen.reasons[0].reason == "want 3: load"


def test_what_is_short_is_told_with_what_is_possible() -> None:
    text = lines(picture(replace(HEALTHY, status=replace(HEALTHY.status, short="gpu"))))
    assert [line for line in text if line.endswith("0 retiring, 7 possible (short of gpu)")]
    assert "short of" not in "\n".join(lines(picture(HEALTHY)))


def test_how_long_an_environment_took_is_told_where_there_is_one() -> None:
    text = lines(picture(replace(HEALTHY, report=replace(REPORT, environment_s=34.21))))
    assert "workers   the last one waited 34.2 s for its place and its environment" in text


def test_conflicts_are_told_where_there_are_any_and_are_no_fault_of_the_pool() -> None:
    """Anybody who may publish can make one."""
    seen = picture(replace(HEALTHY, store=StoreStats(rows=140, conflicts=1_200)))
    assert "conflicts 1,200 messages came under the key of another's result" in lines(seen)
    assert (seen.state, seen.conflicts) == ("healthy", 1_200)
    assert not [line for line in lines(picture(HEALTHY)) if line.startswith("conflicts")]


def test_what_fails_and_why_is_told() -> None:
    errors = tuple(ErrorCount(error_class=f"E{n}", count=1_200 - n, example="no such\nhost") for n in range(5))
    seen = picture(replace(HEALTHY, report=replace(REPORT, errors=errors)))
    assert [one.error_class for one in seen.errors] == ["E0", "E1", "E2"]
    assert "error     1,200 lately: E0: no such host" in lines(seen)


def test_figures_that_are_not_of_now_say_how_old_they_are() -> None:
    old = ErrorCount(error_class="E", count=2, example="x", last_s=600.0)
    text = "\n".join(lines(picture(replace(HEALTHY, report=replace(REPORT, errors=(old,), acked_s_ago=7_300.0)))))
    assert "2 lately, the last 10 min ago: E: x" in text
    assert "(publish to ack, of all since the start, the last 2 h ago)" in text
    assert " ago" not in "\n".join(lines(picture(replace(HEALTHY, report=replace(REPORT, acked_s_ago=59.0)))))


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0 s"), (119, "119 s"), (600, "10 min"), (7_200, "2 h"), (172_800, "2 days")]
)
def test_an_age_has_one_unit(seconds: float, told: str) -> None:
    assert age(seconds) == told


def test_the_text_holds_what_people_ask_for() -> None:
    text = "\n".join(lines(picture(HEALTHY)))
    for part in (
        "healthy",
        "1 of 3 wanted, fixed at 3",
        "12 ready",
        "25.0 finished",
        "want 3: load",
        "jobs-worker-0001",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("look", "says"),
    [
        (replace(HEALTHY, report=replace(REPORT, connected=False)), "not connected"),
        (replace(HEALTHY, report=replace(REPORT, holds={"store": "disk full"})), "held (store): disk full"),
        (
            replace(HEALTHY, report=replace(REPORT, start_error="ImportError: x")),
            "workers cannot start: ImportError: x",
        ),
        (replace(HEALTHY, report=replace(REPORT, fenced=True)), "another router"),
        (replace(HEALTHY, report=replace(REPORT, loop_lag_s=2.5)), "2.5 s late"),
        (replace(HEALTHY, store=None), "the store does not answer"),
        (replace(HEALTHY, store=StoreStats(paused="no space left")), "cannot commit: no space left"),
        (replace(HEALTHY, decisions=None), "the autoscaler does not answer"),
        (
            replace(HEALTHY, status=replace(QUIET, workers=0, starting=1, target=1, pending_s=90.0)),
            "no worker has started for 90 s: is there room in the cluster, or is it loading?",
        ),
        (
            replace(HEALTHY, status=replace(QUIET, workers=0, starting=1, target=1, pending_s=90.0, short="gpu")),
            "no worker has started for 90 s: the cluster is short of gpu",
        ),
        (
            replace(HEALTHY, report=replace(REPORT, endings=LastEndings(jobs=100, dead=51, in_a_row=3, error=NO_NAME))),
            "51 of the last 100 jobs that ended are dead letters, the last 3 one after another; "
            "40 lately: KeyError: 'name'",
        ),
        (
            replace(HEALTHY, report=replace(REPORT, endings=LastEndings(jobs=100, dead=40, in_a_row=20))),
            "the last 20 one after another",
        ),
    ],
)
def test_a_degraded_pool_says_why(look: Look, says: str) -> None:
    seen = picture(look)
    assert seen.state == "degraded"
    assert any(says in problem for problem in seen.problems), seen.problems
    assert any(says in line for line in lines(seen))


def test_a_pause_is_somebodys_will() -> None:
    report = replace(REPORT, holds={"paused": "night"})
    seen = picture(replace(HEALTHY, report=report, status=replace(QUIET, workers=1, target=1, paused=True)))
    assert (seen.state, seen.holds) == ("paused", {"paused": "night"})


def test_the_latency_of_writes_is_in_the_picture() -> None:
    written = Percentiles(p50=3.1, p95=8.0, p99=20.0)
    seen = picture(replace(HEALTHY, report=replace(REPORT, write_ms=written)))
    assert seen.as_json()["write_ms"] == {"p50": 3.1, "p95": 8.0, "p99": 20.0}


@pytest.mark.parametrize(
    ("report", "pool", "says"),
    [
        ({}, {"workers": 1, "target": 3}, None),
        ({}, {"workers": 0, "target": 0}, None),  # none is wanted
        ({"holds": {"paused": "night"}}, {"paused": True}, None),
        ({}, {"workers": 0, "starting": 2, "target": 2}, "no worker of 2 wanted is ready, 2 starting"),
        ({"start_error": "ImportError: x"}, {"workers": 0, "target": 1}, "ImportError: x"),
        ({"connected": False}, {}, "not connected to RabbitMQ"),
        ({"fenced": True}, {}, "another router"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_ready_is_connected_with_a_worker_or_none_wanted(
    report: dict[str, Any], pool: dict[str, Any], says: str | None, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: Any = FakePool(router_report=replace(REPORT, pool=replace(QUIET, **pool), **report))
    assert status._print_ready(asked, as_json=as_json) == (0 if says is None else 1)
    printed = capsys.readouterr().out
    assert (says or "ready") in printed
    if as_json:
        assert json.loads(printed)["ready"] is (says is None)


def test_unknown_values_are_shown_as_unknown() -> None:
    look = replace(HEALTHY, ready=None, decisions=[], control=None, status=replace(QUIET, placeable=None))
    assert "? ready" in "\n".join(lines(picture(look)))


def test_what_ray_raises_becomes_one_line() -> None:
    assert (
        str(translated(GetTimeoutError("long text"), "jobs-store", 5)) == "actor jobs-store gave no answer within 5 s"
    )
    assert not isinstance(translated(GetTimeoutError(""), "jobs-store", 5), NotRunningError)
    assert isinstance(translated(RuntimeError("a\nb"), "jobs-store", 5), RabbitrayError)
    assert NotRunningError("x").exit_code == 3
    assert QueryError("x").exit_code == 1


def test_lost_spans_are_told_where_there_are_some() -> None:
    assert not [line for line in lines(picture(HEALTHY)) if line.startswith("traces")]
    seen = picture(replace(HEALTHY, report=replace(REPORT, spans_lost=1_200)))
    assert seen.spans_lost == 1_200
    assert "traces    1,200 spans of the router are lost" in lines(seen)


def test_clocks_that_are_off_are_told_and_make_no_pool_degraded() -> None:
    early = replace(WORKER, host="w1", address="10.0.0.1", clock_s=3_600.2)
    late = replace(WORKER, host="w2", address="10.0.0.2", clock_s=-3_600.2)
    near = replace(WORKER, host="w3", address="10.0.0.3", clock_s=0.4)
    report = replace(REPORT, workers=(early, early, late, near), ahead=7, ahead_s=3_600.0)
    found = picture(replace(HEALTHY, report=report))
    assert found.state == "healthy"
    assert found.warnings == (
        "the clock of node w1 (10.0.0.1) is 3,600 s ahead: the times of its workers are corrected",
        "the clock of node w2 (10.0.0.2) is 3,600 s behind: the times of its workers are corrected",
        "7 messages were published by a clock that is ahead, the last by 3,600 s: they are not in the latency",
    )
    assert f"  note: {found.warnings[0]}" in lines(found)


@pytest.mark.parametrize(
    ("ready", "received", "newest_s", "told"),
    [
        (0, 90, 3_600.0, True),
        (0, 90, 5.0, False),
        (4, 90, 3_600.0, False),  # it may have waited
        (0, 80, 3_600.0, False),  # nothing came
        (0, 90, None, False),
    ],
)
def test_a_producer_whose_clock_is_behind_shows_where_nothing_waits(
    ready: int, received: int, newest_s: float | None, *, told: bool
) -> None:
    pool = replace(QUIET, received=received, returned=20)
    report = replace(REPORT, pool=pool, newest_s=newest_s)
    found = picture(replace(HEALTHY, report=report, earlier=EARLIER, ready=ready)).warnings
    assert any("a producer's clock is behind" in one for one in found) is told
