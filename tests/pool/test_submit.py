"""`rabbitray submit` on a Ray cluster with a job server: a user's project, worked, stopped, left alone."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray
from ray.experimental.internal_kv import _internal_kv_list
from ray.job_submission import JobStatus, JobSubmissionClient
from ray.util.state import list_actors

from rabbitray.actors.message.job import Job
from rabbitray.actors.rabbitmq.inspect import contact, declare
from rabbitray.actors.secret import Secret
from rabbitray.actors.store.read_only import read_only_query
from rabbitray.cluster.broker import PrivateBroker
from rabbitray.cluster.driver import compose
from rabbitray.cluster.settings import Settings
from tests.kit.canary import Canary, canary_url, new_canary
from tests.kit.command_process import publish, ready
from tests.kit.eventually import eventually_sync
from tests.kit.root import ROOT
from tests.kit.submitted import Submitted, secrets_file, shop, submit

pytestmark = [pytest.mark.ray, pytest.mark.timeout("400")]

KEY = "key-of-the-shop-4711"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one test's job works."""

    project: Path
    queue: str
    url: str
    canary: Canary
    dashboard: str
    cluster: str

    @property
    def results(self) -> Path:
        """The results file."""
        return self.project.parent / "results.duckdb"

    def publish(self, count: int) -> None:
        """So many orders, into a queue that is made for them where there is none."""
        if self.waiting() < 0:
            asyncio.run(made(self.url, self.queue))
        publish(self.url, self.queue, [Job(id=f"o-{n}", payload={"sku": "A-7", "count": 2}) for n in range(count)])

    def waiting(self) -> int:
        """Messages in the queue; -1 where there is none yet."""
        return ready(self.url, self.queue)

    def submit(self, *more: str, **environ: str) -> Submitted:
        """Submits, by the dashboard's address unless `environ` says another one."""
        return submit(self.project, self.queue, *more, **{"RAY_ADDRESS": self.dashboard} | environ)

    def client(self) -> JobSubmissionClient:
        """Ray's own."""
        return JobSubmissionClient(self.dashboard)

    def status(self, submission_id: str) -> JobStatus:
        """Of a job."""
        return self.client().get_job_status(submission_id)

    def rows(self) -> tuple[int, int]:
        """Rows and keys of the results."""
        (found,) = read_only_query(
            self.results, "SELECT count(*) AS rows, count(DISTINCT key) AS keys FROM results"
        ).to_pylist()
        return found["rows"], found["keys"]


async def made(url: str, queue: str) -> None:
    """Makes the queue as `rabbitray publish --create` does."""
    async with contact(Secret(url), within_s=15) as connection:
        await declare(connection, compose.topology(Settings(queue=queue)))


@pytest.fixture
def place(broker: PrivateBroker, amqp_url: str, ray_cluster: str, tmp_path: Path) -> Iterator[Place]:
    """A project, a queue of its own, and the address of the broker with a canary password in a file of secrets."""
    canary = new_canary()
    with canary_url(broker, amqp_url, canary) as url:
        secrets_file(tmp_path, RABBITMQ_URL=url, SHOP_KEY=KEY)
        yield Place(
            project=shop(tmp_path / "project"),
            queue=f"q{uuid.uuid4().hex[:8]}",
            url=url,
            canary=canary,
            dashboard=f"http://{ray._private.worker.global_worker.node.webui_url}",
            cluster=ray_cluster,
        )


def test_a_project_is_worked_and_ctrl_c_drains_it_and_no_secret_shows(place: Place) -> None:
    """The address is the GCS's, as `ray start` prints it."""
    job = f"{place.queue}-job"
    run = place.submit("--submission-id", job, "--stop-on-interrupt", RAY_ADDRESS=place.cluster)
    eventually_sync(lambda: place.waiting() >= 0 or run.process.poll() is not None, within_s=200)
    assert run.process.poll() is None, run.told()
    place.publish(600)
    eventually_sync(lambda: place.waiting() < 400, within_s=60)
    shown = shown_of(place, job)
    run.interrupt()
    assert run.end() == 0, run.told()
    told = run.told()
    rows, keys = place.rows()
    assert rows == keys
    assert rows + place.waiting() == 600, "nothing lost, nothing twice, nothing held"
    assert "(left out: rabbitray.toml, scratch)" in told
    assert "SIGTERM: draining" in told
    assert f"job {job} was stopped" in told
    assert [text for text in (told, *shown) if place.canary.word in text or KEY in text] == []
    results_are_right(place)


def shown_of(place: Place, job: str) -> list[str]:
    """What Ray shows of the job while it runs."""
    info = place.client().get_job_info(job)
    assert info.metadata == {
        "app": "rabbitray", "version": info.metadata["version"], "pool": place.queue, "queue": place.queue,
        "namespace": "rabbitray",
    }  # fmt: skip
    assert info.runtime_env["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"] == "50", "20 s to drain, and 30"
    assert "--drain-deadline-s 20.0" in info.entrypoint
    assert _internal_kv_list(b"gcs://rabbitray_sent") == [], "taken once, gone"
    actors = list_actors(address=ray.get_runtime_context().gcs_address, detail=True)
    assert len(actors) > 4
    return [str(info), str(actors)]


def results_are_right(place: Place) -> None:
    found = read_only_query(place.results, "SELECT DISTINCT result FROM results").to_pylist()
    key = hashlib.sha256(KEY.encode()).hexdigest()
    assert [json.loads(one["result"]) for one in found] == [{"total": 6, "key": key, "scratch": False}]


@pytest.mark.long
def test_until_empty_ends_with_the_job_s_exit_code(place: Place) -> None:
    place.publish(50)
    run = place.submit("--until-empty", "--json")
    assert run.end() == 0, run.told()
    assert run.json == {"submission_id": run.json["submission_id"], "status": "SUCCEEDED", "exit_code": 0}
    assert run.json["submission_id"].startswith(f"{place.queue}-")
    assert place.rows() == (50, 50)
    assert "50 done" in run.err.read_text(), "the job's log is on standard error"


@pytest.mark.long
def test_a_job_that_fails_ends_with_its_code_and_its_reason(place: Place) -> None:
    (place.project / "shop" / "orders.py").write_text("import no_such_module")
    run = place.submit()
    assert run.end() == 2, run.told()
    assert "no_such_module" in run.told()
    assert "failed: exit code 2" in run.told()
    other = place.submit("--python", "no-such-python")
    assert other.end() == 127, other.told()
    assert "name the cluster's Python with --python" in other.told()
    what_was_sent_is_gone(place)


def what_was_sent_is_gone(place: Place) -> None:
    """A job that is started again by its entrypoint, or so late that Ray has dropped what waited for it."""
    client = place.client()
    job = client.submit_job(
        entrypoint=f"exec {sys.executable} -m rabbitray run --handler shop.orders:handle --queue {place.queue}",
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT), "RABBITRAY_SENT": "rabbitray_sent_of_another.zip"}},
    )
    eventually_sync(lambda: place.status(job).is_terminal(), within_s=60)
    assert client.get_job_info(job).driver_exit_code == 2
    lines = client.get_job_logs(job).splitlines()
    assert [line for line in lines if line.startswith("error: ")] == [
        "error: what was sent with this job is gone: it is taken once, and kept for 10 minutes at most; submit it again"
    ]


@pytest.mark.long
def test_ctrl_c_and_kill_9_leave_the_job_alone_and_it_goes_on(place: Place) -> None:
    job = f"{place.queue}-job"
    run = place.submit("--submission-id", job)
    eventually_sync(lambda: place.waiting() >= 0, within_s=200)
    run.interrupt()
    assert run.end(10) == 130, run.told()
    assert f"job {job} goes on; follow it: ray job logs --address {place.dashboard} --follow {job}" in run.told()
    assert place.status(job) == JobStatus.RUNNING
    second = place.submit()
    assert second.end(30) == 2, second.told()
    assert f"is worked by job {job} (RUNNING); stop that one first" in second.told()
    place.publish(100)
    eventually_sync(lambda: place.waiting() == 0, within_s=60)
    place.client().stop_job(job)
    eventually_sync(lambda: place.status(job).is_terminal(), within_s=90)
    rows, keys = place.rows()
    assert rows == keys > 0
    assert rows + place.waiting() == 100, "what it did not begin went back"
    killed_is_no_stop(place)


def killed_is_no_stop(place: Place) -> None:
    """`kill -9` of a submit that follows."""
    job = f"{place.queue}-again"
    run = place.submit("--submission-id", job, "--stop-on-interrupt")
    eventually_sync(lambda: "is submitted" in run.told(), within_s=60)
    run.process.send_signal(signal.SIGKILL)
    assert run.end(10) == -signal.SIGKILL
    eventually_sync(lambda: place.status(job) == JobStatus.RUNNING, within_s=60)
    place.client().stop_job(job)
    eventually_sync(lambda: place.status(job).is_terminal(), within_s=90)


@pytest.mark.long
def test_a_second_ctrl_c_leaves_a_job_that_drains(place: Place) -> None:
    (place.project / "shop" / "orders.py").write_text("import time\ndef handle(job): time.sleep(15)\n")
    job = f"{place.queue}-job"
    run = place.submit("--submission-id", job, "--stop-on-interrupt")
    eventually_sync(lambda: place.waiting() >= 0, within_s=200)
    place.publish(2)
    eventually_sync(lambda: place.waiting() == 0, within_s=60)
    run.interrupt()
    eventually_sync(lambda: "SIGTERM: draining" in run.told(), within_s=30)
    run.interrupt()
    assert run.end(10) == 130, run.told()
    eventually_sync(lambda: place.status(job) == JobStatus.STOPPED, within_s=90)


@pytest.mark.long
def test_the_file_on_the_head_and_no_wait(place: Place) -> None:
    url = place.project.parent / "url"
    url.touch(mode=0o600)
    url.write_text(place.url)
    secrets_file(place.project.parent, SHOP_KEY=KEY)
    place.publish(20)
    run = place.submit("--url-file-on-head", os.fspath(url), "--until-empty", "--no-wait")
    assert run.end(60) == 0, run.told()
    job = run.out.read_text().strip()
    eventually_sync(lambda: place.status(job).is_terminal(), within_s=200)
    assert place.status(job) == JobStatus.SUCCEEDED, place.client().get_job_logs(job)
    assert place.rows() == (20, 20)
