"""Commands against a running pool, as an operator types them."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rabbitray.actors.message.job import Job
from rabbitray.actors.router.endings import DEAD_IN_A_ROW_MOST
from tests.kit.command_process import Command, publish, queue_exists, ready, run, work
from tests.kit.eventually import eventually_sync
from tests.kit.hostile import FORGED, TEXTS, unfit
from tests.kit.hostile_queries import SHAPES
from tests.kit.live_commands import DEGRADED, LiveCommands, live_commands

RAYS_PREFIX = re.compile(r"\x1b\[3\dm\([^\x1b]* pid=\d+(, ip=[\d.]+)?\)\x1b\[0m ")
"""Before a line of an actor that Ray passes on, coloured."""

TOLD = [(number, text) for number, text in enumerate(TEXTS) if text.strip()]
assert len(TOLD) >= DEAD_IN_A_ROW_MOST

pytestmark = [pytest.mark.ray, pytest.mark.timeout("300")]


def strangers(amqp_url: str, queue: str, live: LiveCommands) -> None:
    """Whatever keys and errors say, each command shows it printable and gives it out whole, through the pool.

    So many jobs in a row that are dead are a degraded pool, whose status tells the error.
    """
    jobs = [Job(id=f"{number}{text}", user_id=text, payload={"do": "reject", "text": text}) for number, text in TOLD]
    publish(amqp_url, queue, jobs)

    def groups() -> list[dict[str, object]]:
        found = json.loads(live.ask("dlq", "ls", "--queue", queue, "--json"))
        return [group for group in found["groups"] for _ in range(group["count"])]

    eventually_sync(lambda: len(groups()) == len(jobs), within_s=60)
    key = str(jobs[0].id)
    for arguments in (("status",), ("top", "--once"), ("dlq", "ls"), ("dlq", "show", key), ("trace", key)):
        ran = live.run(*arguments, "--queue", queue)
        assert ran.code == (DEGRADED if arguments == ("status",) else 0), arguments
        assert not unfit(ran.out), arguments
        assert not [line for line in ran.out.split("\n") if line.startswith(FORGED)], arguments
        json.loads(live.run(*arguments, "--queue", queue, "--json").out)
    everything = live.ask("query", "SELECT key, error FROM dead_letters", "--queue", queue, "--json")
    assert {row["key"] for row in json.loads(everything)} == {job.id for job in jobs}


def strange_queries(queue: str, results: Path, live: LiveCommands) -> None:
    """What would take gigabytes is refused, the store goes on; who names no pool is told that one holds the file."""

    def store_pid() -> str:
        return str(re.findall(r"by process (\d+),", live.run("query", "SELECT 1", *there).err)[0])

    there = ("--results", str(results))
    before = store_pid()
    ran = live.run("query", SHAPES["doubled"], "--queue", queue)
    assert (ran.code, ran.err.count("\n")) == (1, 1), ran.err
    assert "more memory than a query may take" in ran.err
    ran = live.run("query", "SELECT 1", *there)
    assert ran.code == 2
    assert f"is in use by process {before}, the store of a running pool: ask that pool with --queue NAME" in ran.err
    assert f"running there: {queue!r}" in ran.err
    assert f"is in use by process {before}, the store of a running pool" in live.run("check", *there).out


def test_an_operators_round(amqp_url: str, ray_cluster: str, tmp_path: Path) -> None:
    """status, pause, resume, scale, query, export, drain: the pool ends with exit code 0.

    Its first `status`, of a pool that does not run, and the last command are processes of their own.
    """
    queue = f"live-{uuid.uuid4().hex[:8]}"
    code, _, err = run(amqp_url, ray_cluster, "status", "--queue", queue)
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert (code, len(errors)) == (3, 1), err
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "0" * 64)
        code, _, err = run(amqp_url, ray_cluster, "query", "SELECT 1", "--queue", queue, within_s=45)
    assert code == 2, err
    assert "refuses this process" in err
    assert "RAY_AUTH_TOKEN_PATH" in err
    pool = Command(amqp_url, ray_cluster, *work(tmp_path / "results.duckdb", queue))
    try:
        with live_commands({"RABBITMQ_URL": amqp_url, "RAY_ADDRESS": ray_cluster}) as live:
            eventually_sync(lambda: queue_exists(amqp_url, queue), within_s=60)
            publish(amqp_url, queue, [Job(id=f"job-{n}", payload={"n": n}) for n in range(300)])
            eventually_sync(lambda: ready(amqp_url, queue) == 0, within_s=60)

            def ask(*arguments: str) -> str:
                return live.ask(*arguments, "--queue", queue)

            assert json.loads(ask("status", "--json")), "status says something"
            ask("pause", "--reason", "maintenance")
            publish(amqp_url, queue, [Job(id=f"later-{n}") for n in range(50)])
            assert "maintenance" in ask("status")
            assert ready(amqp_url, queue) == 50, "a paused pool takes nothing"
            ask("resume")
            eventually_sync(lambda: ready(amqp_url, queue) == 0, within_s=60)
            assert json.loads(ask("scale", "9", "--json")) == {"pool": queue, "fixed": 2}, "max_size is 2"
            assert "is held at 1 worker, the nearest to 0 that" in ask("scale", "0")
            assert "fixed at 1" in ask("status")
            counted = ask("query", "SELECT count(*) AS rows FROM results", "--format", "json")
            assert json.loads(counted) == [{"rows": 350}]
            strangers(amqp_url, queue, live)
            strange_queries(queue, tmp_path / "results.duckdb", live)
            ask("export", str(tmp_path / "out"))
        files = list((tmp_path / "out").glob("**/*.parquet"))
        assert sum(pq.read_table(file).num_rows for file in files) == 350
        code, out, err = run(amqp_url, ray_cluster, "drain", "--queue", queue)
        assert code == 0, out + err
        code, _, err = pool.end(60)
        assert code == 0, err
        own = RAYS_PREFIX.sub("", err)
        assert not unfit(own), "the logs of all actors, and the progress line"
        assert not [line for line in own.split("\n") if line.startswith(FORGED)]
    finally:
        pool.process.kill()
