"""Commands against a running pool, each a process of its own, as an operator types them."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rabbitray.actors.message.job import Job
from tests.kit.command_process import Command, publish, queue_exists, ready, run, work
from tests.kit.eventually import eventually_sync

pytestmark = [pytest.mark.ray, pytest.mark.timeout("300")]


def test_an_operators_round(amqp_url: str, ray_cluster: str, tmp_path: Path) -> None:
    """status, pause, resume, scale, query, export, trace, drain: the pool ends with exit code 0."""
    queue = f"live-{uuid.uuid4().hex[:8]}"
    pool = Command(amqp_url, ray_cluster, *work(tmp_path / "results.duckdb", queue))

    def ask(*arguments: str) -> str:
        found, out, err = run(amqp_url, ray_cluster, *arguments, "--queue", queue)
        assert found == 0, f"{arguments}: {out}{err}"
        return out

    def status(*arguments: str) -> str:
        """Of a pool that is well; on a busy machine it may be degraded (exit code 1) for a moment."""

        def said_when_well() -> str | None:
            code, out, _ = run(amqp_url, ray_cluster, "status", *arguments, "--queue", queue)
            return out if code == 0 else None

        return eventually_sync(said_when_well) or ""

    try:
        eventually_sync(lambda: queue_exists(amqp_url, queue), within_s=60)
        publish(amqp_url, queue, [Job(id=f"job-{n}", payload={"n": n}) for n in range(300)])
        eventually_sync(lambda: ready(amqp_url, queue) == 0, within_s=60)
        assert json.loads(status("--json")), "status says something"
        ask("pause", "--reason", "maintenance")
        publish(amqp_url, queue, [Job(id=f"later-{n}") for n in range(50)])
        assert "maintenance" in status()
        assert ready(amqp_url, queue) == 50, "a paused pool takes nothing"
        ask("resume")
        eventually_sync(lambda: ready(amqp_url, queue) == 0, within_s=60)
        assert json.loads(ask("scale", "9", "--json")) == {"pool": queue, "fixed": 2}, "max_size is 2"
        assert "is held at 1 worker, the nearest to 0 that" in ask("scale", "0")
        assert "fixed at 1" in status()
        counted = ask("query", "SELECT count(*) AS rows FROM results", "--format", "json")
        assert json.loads(counted) == [{"rows": 350}]
        ask("export", str(tmp_path / "out"))
        files = list((tmp_path / "out").glob("**/*.parquet"))
        assert sum(pq.read_table(file).num_rows for file in files) == 350
        ask("drain")
        code, _, err = pool.end(60)
        assert code == 0, err
    finally:
        pool.process.kill()


def test_commands_without_a_pool_say_so(amqp_url: str, ray_cluster: str) -> None:
    code, _, err = run(amqp_url, ray_cluster, "status", "--queue", "nobody-works-this")
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert (code, len(errors)) == (3, 1), err
