"""The commands that ask a running pool, against a pool that only answers."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from rabbitray.actors.errors import ConfigurationError, QueryError, RabbitrayError
from rabbitray.actors.router.report import JobProgress, WorkerRow
from rabbitray.actors.router.status import Counts
from rabbitray.actors.store.query import as_table, up_to
from rabbitray.cluster.commands import drain, trace
from rabbitray.cluster.commands.export import Count
from rabbitray.cluster.driver import session
from rabbitray.cluster.driver.session import require_node, require_ray, require_reachable
from rabbitray.cluster.operate.looking import look
from rabbitray.cluster.operate.running_pool import NotRunningError, token_hint
from rabbitray.cluster.operate.status import picture
from rabbitray.cluster.results.message_story import Whereabouts, unrecorded
from rabbitray.cluster.results.reader import PoolReader, whole
from rabbitray.cluster.settings import load
from tests.kit.fake_pool import FakePool
from tests.kit.pool_status import QUIET, QUIET_REPORT
from tests.kit.root import ROOT

REPORT = replace(QUIET_REPORT, pool=replace(QUIET, received=1), counts=Counts(acked=1))
NOWHERE = {"RABBITMQ_URL": "amqp://127.0.0.1:1/"}


def test_status_shows_which_actors_are_silent() -> None:
    silent = RabbitrayError("no answer")
    pool: Any = FakePool(
        router_report=REPORT, autoscaler_status=silent, autoscaler_decisions=silent, autoscaler_depths=silent,
        store_stats=silent, store_control=silent,
    )  # fmt: skip
    seen = picture(look(pool, load({}, NOWHERE, None), 0.0))
    assert seen.state == "degraded"
    assert seen.problems == ("the store does not answer", "the autoscaler does not answer")
    assert seen.messages.ready is None


def test_the_pool_says_how_much_waits_whatever_broker_this_machine_knows_of() -> None:
    answers: dict[str, Any] = {
        "router_report": REPORT,
        "autoscaler_status": REPORT.pool,
        "autoscaler_decisions": [[], [], []],
        "store_stats": None,
        "store_control": {},
    }
    pool: Any = FakePool(**answers, autoscaler_depths=[[77, 3], [77, 3]])
    began = time.monotonic()
    for environ in ({}, NOWHERE):  # no address, or one where nothing answers
        messages = picture(look(pool, load({}, environ, None), 0.0)).messages
        assert (messages.ready, messages.dropped) == (77, 3)
    mute: Any = FakePool(**answers, autoscaler_depths=RabbitrayError("no answer"))
    assert picture(look(mute, load({}, {}, None), 0.0)).messages.ready is None
    assert time.monotonic() - began < 2.0, "a default address is not asked"


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("http://localhost:8265", "ray job submit --address http://localhost:8265 -- rabbitray status"),
        ("https://ray.example/", "`ray exec CLUSTER.yaml"),
    ],
)
def test_the_address_of_the_dashboard_is_told_at_once(address: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        require_ray(address)


def test_a_machine_that_is_no_node_is_told_what_works_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "raylet_here", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as gcs:
        address = f"127.0.0.1:{gcs.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(ConfigurationError, match=f"no node of the Ray at {address}: .* `ray exec"):
            require_ray(address)
        assert time.monotonic() - began < 5.0
    for other in (None, "auto", "ray://head:10001"):
        require_node(other)


def test_status_without_a_router_is_no_status() -> None:
    pool: Any = FakePool(router_report=NotRunningError("gone"))
    with pytest.raises(NotRunningError):
        look(pool, load({}, NOWHERE, None), 0.0)


def test_drain_waits_until_the_router_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    pool: Any = FakePool(router_report=[REPORT, RabbitrayError("busy with ending"), NotRunningError("gone")])
    assert drain._ended(pool, 30.0) is True
    assert len(pool.asked) == 3


def test_drain_that_takes_too_long_says_so() -> None:
    pool: Any = FakePool(router_report=REPORT)
    assert drain._ended(pool, 0.1) is False


def test_the_results_of_a_running_pool_come_from_its_store() -> None:
    table = pa.table({"seq": [3, 7]})
    pool: Any = FakePool(store_query=table, store_stream=table.to_batches())
    reader = PoolReader(pool=pool)
    assert reader.query("SELECT 1", max_rows=5, timeout_s=2.0) is table
    assert [batch.num_rows for batch in reader.stream("SELECT 2")] == [2]
    assert pool.asked[0] == ("store", "query", ("SELECT 1", 5, 2.0))


def test_an_answer_that_was_cut_is_not_taken_for_all_there_is() -> None:
    batches = pa.table({"seq": [1, 2, 3]}).to_batches()
    assert whole(as_table(up_to(batches, 3, None))).num_rows == 3
    with pytest.raises(QueryError, match="more than the 2 rows"):
        whole(as_table(up_to(batches, 2, None)))


def test_a_trace_counts_what_the_router_holds() -> None:
    pool: Any = FakePool(router_report=[replace(REPORT, pool=replace(QUIET, held=7)), RabbitrayError("no answer")])
    reader = PoolReader(pool=pool)
    report = trace._report(reader)
    assert report is not None
    assert report.pool.held == 7
    assert trace._report(reader) is None


def test_a_trace_tells_how_far_a_job_is_that_runs() -> None:
    told = JobProgress(key="order-7", fraction=0.4, text="page 3 of 7", running_s=600.0, told_s_ago=200.0)
    row = WorkerRow(
        name="w-1", state="ready", pid=1, batches=1, jobs=0, busy_s=0.0, progress=(told, replace(told, key="order-8"))
    )
    running = tuple(trace._running(replace(REPORT, workers=(row,)), "order-7"))
    assert running == ("order-7 40%: page 3 of 7 (runs 10 min, told 3 min ago) on w-1",)
    lines = unrecorded("order-7", "results of pool jobs", Whereabouts(queue="jobs", running=running))
    assert lines == ["'order-7' runs now, and nothing is recorded yet:", f"  {running[0]}"]


def test_an_error_of_the_store_is_the_querys() -> None:
    pool: Any = FakePool(store_query=QueryError("no such table"))
    with pytest.raises(QueryError, match="no such table"):
        PoolReader(pool=pool).query("SELECT * FROM nothing")


def test_export_keeps_the_highest_seq() -> None:
    class Silent:
        def advance(self, by: int, done: int) -> None:
            pass

    bar: Any = Silent()
    count = Count(bar, numbered=True, last=None)
    batches = pa.table({"seq": [0, 9, 4]}).to_batches(max_chunksize=2)
    assert list(count.passing(batches)) == batches
    assert (count.rows, count.last) == (3, 9)


def test_a_ray_address_where_nothing_listens_is_refused_at_once() -> None:
    with pytest.raises(RabbitrayError, match=r"nothing answers at the Ray address 127\.0\.0\.1:1"):
        require_reachable("127.0.0.1:1")


def test_a_ray_that_gives_no_answer_is_given_up() -> None:
    """In a process of its own, which ends all the same: Ray goes on trying in a thread, and tells of it."""
    script = "import sys; from rabbitray.actors.remote.gcs import require_gcs; require_gcs(sys.argv[1], within_s=0.2)"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        asked = [sys.executable, "-c", script, where]
        done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert f"the Ray at {where} gave no answer within 0.2 s; set RAY_ADDRESS" in done.stderr


@pytest.mark.parametrize("address", [None, "auto", "local"])
def test_an_address_that_ray_finds_is_left_to_ray(address: str | None) -> None:
    require_reachable(address)


def test_an_explicit_address_gets_the_hint_about_token_auth() -> None:
    assert "RAY_AUTH_MODE=token" in token_hint("10.0.0.1:6379")
    assert token_hint(None) == token_hint("auto") == ""
