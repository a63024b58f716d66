"""`ray job submit` and `ray job stop` on a Ray cluster with a dashboard, as its users do it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from pathlib import Path

import pytest
import ray
from ray.job_submission import JobSubmissionClient

from rabbitray.actors.message.job import Job
from rabbitray.actors.publisher import Publisher, PublisherConfig
from rabbitray.actors.store.read_only import read_only_query
from tests.kit.command_process import ready
from tests.kit.eventually import eventually_sync
from tests.kit.pool_settings import HANDLE
from tests.kit.ray_job import agent_takes, ray_job

pytestmark = pytest.mark.ray


async def publish(amqp_url: str, queue: str, count: int) -> None:
    async with Publisher(PublisherConfig(url=amqp_url, queue=queue)) as publisher:
        jobs = [Job(id=f"job-{n}", payload={"do": "slow", "s": 0.01}) for n in range(count)]
        assert (await publisher.publish_many(jobs)).ok


@pytest.fixture
def dashboard(ray_cluster: str) -> str:
    return f"http://{ray._private.worker.global_worker.node.webui_url}"


@pytest.mark.long  # test_submit.py has a job, too
@pytest.mark.timeout("600")
def test_a_submitted_job_works_and_drains_when_it_is_stopped(amqp_url: str, dashboard: str, tmp_path: Path) -> None:
    """The broker's address comes from a file of mode 0600, never through the job's metadata."""
    queue, job = f"q{uuid.uuid4().hex[:8]}", f"job-{uuid.uuid4().hex[:8]}"
    results, secret = tmp_path / "results.duckdb", tmp_path / "rabbitmq-url"
    secret.touch(mode=0o600)
    secret.write_text(amqp_url)
    variables = {
        "RAY_JOB_STOP_WAIT_TIME_S": "60",
        "RABBITMQ_URL_FILE": str(secret),
        "RABBITRAY_DEDUPE_CAPACITY": "100000",
        "SHOP_PASSWORD": "which everybody sees",
    }
    entrypoint = ["exec", sys.executable, "-m", "rabbitray", "run", "--handler", HANDLE, "--queue", queue]
    entrypoint += ["--results", str(results), "--initial-size", "2", "--max-size", "2"]
    submit = (
        "submit", "--address", dashboard, "--submission-id", job, "--no-wait", "--working-dir", ".",
        "--runtime-env-json", json.dumps({"env_vars": variables}),
        "--", *entrypoint,
    )  # fmt: skip
    eventually_sync(lambda: agent_takes(submit), within_s=90, message="no agent takes jobs")
    eventually_sync(lambda: ready(amqp_url, queue) >= 0, within_s=240, message="the job did not start")
    asyncio.run(publish(amqp_url, queue, 2_000))
    eventually_sync(lambda: ready(amqp_url, queue) < 1_500, within_s=60)
    ray_job("stop", "--address", dashboard, job)
    logs = ray_job("logs", "--address", dashboard, job)
    assert "SIGTERM: draining" in logs
    assert "SHOP_PASSWORD in this job's runtime environment: whoever reaches the job server reads it" in logs
    counts = read_only_query(results, "SELECT count(*) AS rows, count(DISTINCT key) AS keys FROM results")
    found = counts.to_pylist()[0]
    assert found["rows"] == found["keys"]
    assert found["rows"] + ready(amqp_url, queue) == 2_000, "nothing lost, nothing twice, nothing held"
    metadata = str(JobSubmissionClient(dashboard).get_job_info(job))
    assert os.fspath(secret) in metadata, "where the address is may be seen"
    assert not [text for text in (logs, metadata) if amqp_url in text or "guest:guest" in text], "the address may not"
