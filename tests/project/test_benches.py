"""Cheap checks of the benches' own parts; that each bench works and what its JSON looks like is CI's `--quick` run."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from opentelemetry.sdk.trace import TracerProvider

from bench import collector, errors, ordinary, policies, spread, stations, usage, wave
from bench.__main__ import RESULTS, names, ratios, worse, write_page
from bench.burst import burst_until_grown
from bench.contracts import CONTRACTS, broken, paths
from bench.switch import METERS, switch
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.message import Message
from rabbitray.actors.message.wire import MessageLimits, decode
from rabbitray.actors.router.intake.reading import read_delivery
from rabbitray.actors.router.status import Counts, PoolStatus
from rabbitray.actors.telemetry import kpi
from rabbitray.actors.telemetry.metrics import MetricsBuffer, MetricsConfig, Totals
from rabbitray.actors.telemetry.span import NO_SPAN
from rabbitray.actors.telemetry.tracing import Tracing
from rabbitray.actors.testing import work
from rabbitray.actors.worker.meter import WorkerMeter
from rabbitray.autoscale.loop import DecisionRecord
from rabbitray.autoscale.simulation.compare import ComparisonRow
from tests.kit.pool_status import QUIET, QUIET_REPORT
from tests.kit.root import ROOT


def test_every_bench_has_a_contract_and_every_contract_a_bench() -> None:
    wanted = "batch throughput peers worker memory latency overhead idle load reaction errors policies publish store"
    assert set(wanted.split()) == set(CONTRACTS) == set(names())


@pytest.mark.parametrize("name", sorted(CONTRACTS))
def test_the_results_that_are_kept_hold_what_the_contract_says(name: str) -> None:
    record = json.loads((RESULTS / f"{name}.json").read_text())
    assert record["bench"] == name
    assert broken(name, record["result"]) == []


def test_a_contract_is_spread_out() -> None:
    assert paths("idle") == ["cpu_percent.ours", "cpu_percent.empty_actors"]
    assert "sizes.100 KiB.msg_s" in paths("throughput")
    assert len(paths("latency")) == 17


def test_a_figure_that_is_missing_or_no_number_is_told() -> None:
    good = dict.fromkeys(paths("errors"), 1.0)
    assert broken("errors", good) == []
    assert broken("errors", good | {"token": None}) == ["errors: token is None, not a figure"]
    assert broken("errors", good | {"token": float("nan")}) == ["errors: token is nan, not a figure"]
    assert len(broken("idle", {"cpu_percent": 3.0})) == 2
    row = dict.fromkeys(paths("policies"), 0)
    assert broken("policies", [row, row]) == []
    assert broken("policies", [row, row | {"p95_age_s": "1"}]) == ["policies: p95_age_s is '1', not a figure"]
    assert broken("policies", []) == ["policies: no rows"]


@pytest.mark.parametrize(
    ("printed", "code"), [('{"cpu_percent": {"ours": 1, "empty_actors": 2.5}}', 0), ("{}", 1), ("", 1)]
)
def test_check_reads_what_a_bench_printed(printed: str, code: int) -> None:
    command = [sys.executable, "-m", "bench", "check", "idle"]
    done = subprocess.run(command, input=printed, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == code, done.stderr
    assert done.stdout.startswith("idle: ")


def test_ci_checks_each_quick_run() -> None:
    text = (ROOT / ".ci" / "run").read_text()
    assert re.search(r"bench \"\$1\" --quick --json \| tee >\(cat >&2\) \| \S+ -m bench check \"\$1\"", text)
    assert "pipefail" in text


def test_the_broken_collectors_of_the_overhead_bench_are_broken() -> None:
    def connected(url: str) -> socket.socket:
        host, port = url.removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)), timeout=0.2)

    with collector.refusing() as down, pytest.raises(ConnectionRefusedError):
        connected(down)
    with collector.silent() as hole, connected(hole) as client:
        client.sendall(b"POST /v1/traces HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        with pytest.raises(TimeoutError):
            client.recv(1)


def test_metrics_and_traces_are_switched_off_and_are_on_again_as_before() -> None:
    sink, tracing = Totals(), Tracing(queue="q", provider=TracerProvider())
    metrics = MetricsBuffer(sink, MetricsConfig(batched=False))
    jobs = [SimpleNamespace(started_us=0, finished_us=1_000)]
    as_written = [vars(kind)[name] for kind, name in METERS]
    try:
        for _ in range(2):  # a pool that is off may be told so again
            switch(metrics=False, traces=False)
        metrics.record("anything")
        WorkerMeter(metrics).jobs(jobs)
        WorkerMeter(metrics).look(1.0, cpu_percent=1.0, rss_bytes=1)
        assert (
            sink.count("anything") == sink.count(kpi.PROCESSING_DURATION.name) == sink.count(kpi.WORKER_CPU.name) == 0
        )
        assert tracing.process_span("b", "q", []) is NO_SPAN
    finally:
        switch(metrics=True, traces=True)
    assert [vars(kind)[name] for kind, name in METERS] == as_written
    metrics.record("anything")
    WorkerMeter(metrics).jobs(jobs)
    assert sink.count("anything") == sink.count(kpi.PROCESSING_DURATION.name) == 1
    assert tracing.process_span("b", "q", []) is not NO_SPAN


def test_spread_keeps_the_median_and_both_ends() -> None:
    rounds = {"msg_s": [3.0, 100.0, 5.0]}
    assert spread.medians(rounds) == {"msg_s": 5}
    assert spread.spreads(rounds) == {"msg_s": [3, 100]}
    assert spread.ratios([10.0, 30.0], [5.0, 10.0]) == [2.0, 3.0]


def test_only_medians_of_ratios_are_compared() -> None:
    result = {"ratio_to_aiormq": 0.8, "spread": {"ratio_to_aiormq": [0.7, 0.9]}, "msg_s": 1}
    assert ratios(result) == {"ratio_to_aiormq": 0.8}


def test_only_the_whole_word_ratio_counts_and_rows_go_by_their_texts() -> None:
    rows = [{"load": "step", "duration_s": 900, "policy": "keda", "ratio_to_ideal": 1.2}, {"ratio": 2}]
    assert ratios(rows) == {"step.keda.ratio_to_ideal": 1.2, "1.ratio": 2.0}
    assert ratios({"duration_s": 3, "operations": 4, "dedupe_cost_ratio": 0.9}) == {"dedupe_cost_ratio": 0.9}


def test_a_ratio_that_is_better_when_lower_is_so_in_every_row() -> None:
    before = [{"load": "step", "ratio_to_ideal": 1.0}, {"load": "sine", "ratio_to_ideal": 1.0}]
    after = [{"load": "sine", "ratio_to_ideal": 0.5}, {"load": "step", "ratio_to_ideal": 1.5}]
    assert worse("policies", before, after) == ["policies.step.ratio_to_ideal: 1.000 -> 1.500 (50% worse)"]


def test_a_name_that_only_ends_alike_is_not_better_when_lower() -> None:
    one, other = ({side: {"ratio_to_bare": value} for side in ("sequential", "pipelined")} for value in (1.0, 0.5))
    assert worse("publish", one, other) == ["publish.pipelined.ratio_to_bare: 1.000 -> 0.500 (50% worse)"]


@pytest.mark.parametrize(("name", "after", "lines"), [("policies", 0.1, 1), ("policies", 0, 0), ("store", 0.1, 0)])
def test_a_ratio_that_was_zero_can_be_compared(name: str, after: float, lines: int) -> None:
    assert len(worse(name, {"ratio_to_ideal": 0}, {"ratio_to_ideal": after})) == lines


def test_a_ratio_below_zero_that_falls_is_worse() -> None:
    assert worse("store", {"ratio": -1.0}, {"ratio": -1.5}) == ["store.ratio: -1.000 -> -1.500 (50% worse)"]


def _compared(base: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", "compare", str(base)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_where_nothing_is_compared_nothing_passes(tmp_path: Path) -> None:
    base = tmp_path / "base.json"
    base.write_text(json.dumps({"bench": "errors", "result": {"known": 1.0}}))
    told = _compared(base)
    assert (told.returncode, told.stdout.count("\n")) == (2, 1)
    assert told.stdout.startswith("nothing compared: no ratio in ")


def test_results_are_not_compared_with_themselves() -> None:
    told = _compared(RESULTS / "worker.json")
    assert (told.returncode, told.stdout.count("\n")) == (2, 1)
    assert "holds the results that it would be compared with" in told.stdout


def _row(ideal: float) -> ComparisonRow:
    texts = {"load": "step", "policy": "rabbitray"}
    counts = dict.fromkeys(("messages", "duration_s", "load_changes", "direction_changes", "peak"), 1)
    figures = {"p95_age_s": 0.5, "target_age_s": 1.0, "drained_s": 1.0, "worker_seconds": 30.0}
    return ComparisonRow(**texts, **counts, **figures, ideal_worker_seconds=ideal)  # type: ignore[arg-type]  # by name


def test_a_policy_is_held_against_the_schedule_that_knows_the_load() -> None:
    rows = [policies.as_json(_row(ideal)) for ideal in (20.0, 0.0)]
    assert ratios(rows) == {"step.rabbitray.ratio_to_ideal": 1.5}
    assert len(policies.table(rows).splitlines()) == 4


def _record(at: float, event: str, had: int, wanted: int) -> DecisionRecord:
    return DecisionRecord(
        at=at,
        event=event,
        kind="grow",
        wanted=wanted,
        had=had,
        starting=0,
        retiring=0,
        reason=f"want {wanted}",
        window=1,
        batch_size=1,
        took_s=None,
        inputs={},
    )


def test_a_decision_is_told_with_its_time_its_sizes_and_its_effect() -> None:
    log = [
        _record(99.0, "decided", 2, 1),  # before the wave
        _record(100.5, "in_effect", 1, 1),
        _record(112.3, "decided", 1, 4),
        _record(113.0, "still", 1, 4),
        _record(114.0, "in_effect", 4, 4),
        _record(120.0, "decided", 4, 2),  # overtaken by the next
        _record(121.0, "decided", 3, 1),
        _record(122.0, "in_effect", 1, 1),
        _record(130.0, "decided", 1, 4),  # the last, not there yet
    ]
    assert wave.decision_lines(log, 100.0) == [
        "+12.3 s  decided 1 -> 4, in effect after 1.7 s: want 4",
        "+20.0 s  decided 4 -> 2: want 2",
        "+21.0 s  decided 3 -> 1, in effect after 1.0 s: want 1",
        "+30.0 s  decided 1 -> 4: want 4",
    ]


def test_a_job_worked_twice_is_seen_though_the_store_keeps_one_row() -> None:
    clean = QUIET_REPORT
    stored = {"n": 10, "jobs": 10, "charged": 0}
    assert set(wave.audit(stored, clean, 10).values()) == {0}
    assert set(wave.audit({"n": 0, "jobs": 0, "charged": None}, clean, 0).values()) == {0}
    assert wave.audit(stored, replace(clean, counts=Counts(duplicates=3)), 10)["duplicated"] == 3
    worse = replace(clean, counts=Counts(retried=1, dead=1), replaced=2)
    found = wave.audit({"n": 9, "jobs": 8, "charged": 1}, worse, 10)
    assert found == {"lost": 2, "duplicated": 1, "attempts_charged": 3, "busy_killed": 2}


class _SlowlyGrowing:
    """A pool that works 100 messages between two looks, as long as it has them, and needs `looks` of them to grow."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.sent = self.done = self.starved = 0

    async def status(self) -> PoolStatus:
        self.looks -= 1
        self.done += min(100, self.sent - self.done)
        self.starved += 0 < self.sent == self.done
        return replace(QUIET, done=7 + self.done, target=4, workers=4 if self.looks < 0 else 1)

    async def publish(self, many: Iterable[Job]) -> None:
        self.sent += len(list(many))

    async def acked(self, count: int) -> None:
        assert count == 7 + self.sent


def _empty_jobs(count: int) -> list[Job]:
    return [Job()] * count


async def test_a_burst_is_not_over_before_the_pool_has_grown() -> None:
    pool = _SlowlyGrowing(looks=60)
    found = await burst_until_grown(pool, 4, waiting=1_000, jobs=_empty_jobs, feed_s=0.001)
    assert found.sent == pool.sent > 1_000
    assert found.took_s > 0
    assert pool.starved == 0


async def test_a_burst_at_a_pool_that_never_grows_says_how_far_it_came() -> None:
    with pytest.raises(RuntimeError, match=r"4 workers were not reached within 0\.05 s \(now 1 of 4\)"):
        await burst_until_grown(_SlowlyGrowing(10**9), 4, waiting=1_000, jobs=_empty_jobs, within_s=0.05)


def test_an_ordinary_message_has_2_kib_and_comes_to_ten_fields_in_a_pool_as_by_hand() -> None:
    sent = dict(ordinary.documents(3))
    assert {len(body) for body in sent.values()} == {ordinary.BODY_BYTES} == {2_048}
    messages = [Message(body=body, message_id=key, content_type=ordinary.CONTENT_TYPE) for key, body in sent.items()]
    outcomes = work(ordinary.HANDLER, messages)
    by_hand = [ordinary.handle(msgspec.json.decode(body, type=ordinary.Order)) for body in sent.values()]
    assert [outcome.result for outcome in outcomes] == by_hand
    assert [(result["order"], len(result)) for result in by_hand] == [(key, 10) for key in sent]


def test_the_table_of_throughput_begins_with_the_ordinary_message_and_ends_with_the_empty_one() -> None:
    result = _filled(paths("throughput")) | {"rounds": 1, "load_average": 0.5, "load_average_before": 0.25}
    code = "import json, sys; from bench.throughput import table; print(table(json.load(sys.stdin)))"
    command = [sys.executable, "-c", code]  # in a process of its own: it sets the environment of Ray
    done = subprocess.run(command, input=json.dumps(result), capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    told = [done.stdout.index(text) for text in ("2,048 bytes of JSON", "| 1 KiB", "| 1 MiB", "| empty, quorum")]
    assert told == sorted(told)
    assert "| CPU, µs per message or record | ordinary | 1 KiB | 10 KiB | 100 KiB | 1 MiB | packed" in done.stdout
    assert "before and after: 0.25, 0.5" in done.stdout


def _filled(wanted: list[str]) -> dict[str, Any]:  # Any: JSON values
    """A result of the throughput bench with these figures in it, and what its table shows beside them."""
    result: dict[str, Any] = {}
    for path in wanted:
        *steps, name = path.split(".")
        place = result
        for step in steps:
            place = place.setdefault(step, {})
        place[name] = 2
    ends = {name: [1, 3] for name in ("msg_s", "by_hand_msg_s")}
    shown = {"spread": ends, "cpu_us": {"router": 1.5}, "mb_s": 1.0}
    for one in (result, result["ordinary"], *result["sizes"].values()):
        one |= shown
    result["ordinary"]["body_bytes"] = 2_048
    return result | {"packed_cpu_us": {"10": {"router": 0.5}}}


def test_the_message_of_the_station_bench_is_one_of_ours() -> None:
    message = stations.delivered(Job(id="one", message_type="BIRTHDAY"))
    parcel = read_delivery(message, generation=1, consumer=1, limits=MessageLimits()).parcel
    assert parcel.message_id == "one"
    assert parcel.published_ms > 0
    assert decode(parcel.body, parcel.content_type)[0].message_type == "BIRTHDAY"


def test_stations_and_categories_cost_something() -> None:
    assert all(spent > 0 for name, spent in stations.costs_us(200).items() if name != "validate")
    assert all(spent > 0 for spent in errors.run(quick=True).values())


def test_usage_knows_this_process() -> None:
    pid = os.getpid()
    meter = usage.CpuMeter({"me": [pid]})
    sum(range(3_000_000))
    assert meter.seconds()["me"] > 0
    assert 0 < usage.private_mb(pid) <= usage.peak_mb(pid)


async def test_the_collector_takes_what_it_is_sent() -> None:
    with collector.collector() as url:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for _ in range(2):  # on one connection
            writer.write(b"POST /v1/traces HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            assert await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()


def test_the_peers_are_pinned_by_hash_and_name_no_host() -> None:
    text = (ROOT / "bench" / "peers" / "requirements.txt").read_text()
    pinned = {line.split("==")[0].split("[")[0] for line in text.splitlines() if "==" in line}
    assert {"celery", "dramatiq", "taskiq", "taskiq-aio-pika", "faststream", "ray"} <= pinned
    assert "--hash=sha256:" in text
    assert "http://" not in text
    assert "https://" not in text


def test_the_page_of_the_kept_results_tells_which_are_of_an_earlier_bench(tmp_path: Path) -> None:
    kept = json.loads((ROOT / "bench" / "results" / "errors.json").read_text())
    (tmp_path / "errors.json").write_text(json.dumps(kept))
    (tmp_path / "policies.json").write_text(json.dumps(kept | {"bench": "policies", "result": [{}]}))
    write_page(["load"], tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert kept["commit"] in page
    assert "Failed: load" in page
    assert "run `python -m bench policies` again" in page
    assert set(json.loads((tmp_path / "all.json").read_text())) == {"errors", "policies"}
