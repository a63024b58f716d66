"""Cheap checks of the benches' own parts; that each bench works and what its JSON looks like is CI's `--quick` run."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from actors.job import Job
from actors.publisher import Publisher, PublisherConfig
from actors.reading import BodyLimits, read_delivery
from actors.secret import Secret
from actors.wire import decode
from bench import collector, errors, raw, spread, stations, usage
from bench.__main__ import RESULTS, names, ratios
from bench.contracts import CONTRACTS, broken, paths

ROOT = Path(__file__).parents[1]


def test_every_bench_has_a_contract_and_every_contract_a_bench() -> None:
    wanted = "throughput peers worker memory latency overhead idle load reaction errors policies publish store"
    assert set(wanted.split()) == set(CONTRACTS) == set(names())


@pytest.mark.parametrize("name", sorted(CONTRACTS))
def test_the_results_that_are_kept_hold_what_the_contract_says(name: str) -> None:
    record = json.loads((RESULTS / f"{name}.json").read_text())
    assert record["bench"] == name
    assert broken(name, record["result"]) == []


def test_a_contract_is_spread_out() -> None:
    assert paths("idle") == ["cpu_percent.ours", "cpu_percent.empty_actors"]
    assert "sizes.100 KiB.msg_s" in paths("throughput")
    assert len(paths("latency")) == 9


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


def test_spread_keeps_the_median_and_both_ends() -> None:
    rounds = {"msg_s": [3.0, 100.0, 5.0]}
    assert spread.medians(rounds) == {"msg_s": 5}
    assert spread.spreads(rounds) == {"msg_s": [3, 100]}
    assert spread.ratios([10.0, 30.0], [5.0, 10.0]) == [2.0, 3.0]


def test_only_medians_of_ratios_are_compared() -> None:
    result = {"ratio_to_aiormq": 0.8, "spread": {"ratio_to_aiormq": [0.7, 0.9]}, "msg_s": 1}
    assert ratios(result) == {"ratio_to_aiormq": 0.8}


def test_the_message_of_the_station_bench_is_one_of_ours() -> None:
    message = stations.delivered(Job(id="one", message_type="BIRTHDAY"))
    parcel = read_delivery(message, generation=1, consumer=1, limits=BodyLimits()).parcel
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


@pytest.mark.parametrize("drain", [raw.aio_pika_drain, raw.aiormq_drain])
async def test_the_baselines_drain_everything(drain: raw.Drain, amqp_url: str) -> None:
    await raw.declare(amqp_url, "raw")
    async with Publisher(PublisherConfig(url=Secret(amqp_url), queue="raw")) as publisher:
        assert (await publisher.publish_many(Job() for _ in range(120))).ok
    assert await raw.drained(drain, amqp_url, "raw", 120) > 0
    connection = await raw.aio_pika.connect(amqp_url)
    async with connection:
        queue = await (await connection.channel()).declare_queue("raw", passive=True)
        assert queue.declaration_result.message_count == 0


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
