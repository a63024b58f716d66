"""A project with modules named as ours works its queue with the installed product, on Ray, from its own folder."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
import ray
from ray.job_submission import JobSubmissionClient

from rabbitray.actors.store.read_only import read_only_query
from tests.kit.eventually import eventually_sync
from tests.kit.installed import JOBS, OWN_NAMES, Installed, shop
from tests.kit.ray_job import agent_takes
from tests.kit.root import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.timeout("300")]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed") / "env", ".")


@pytest.fixture
def project(installed: Installed, amqp_url: str, tmp_path: Path) -> Path:
    """The user's project, with jobs in the queue `shop`."""
    folder = shop(tmp_path / "shop")
    publish = (installed.program, "publish", "jobs.jsonl", "--queue", "shop", "--create")
    published = installed.run(*publish, cwd=folder, RABBITMQ_URL=amqp_url)
    assert published.returncode == 0, published.stderr
    return folder


def work(results: Path) -> tuple[str, ...]:
    """Arguments of `rabbitray` that work the queue `shop` with the project's handler."""
    sizes = ("--max-size", "1", "--dedupe-capacity", "100000")
    pool = f"shop-{uuid.uuid4().hex[:8]}"
    return (
        "run",
        "--handler",
        "shop:handle",
        "--queue",
        "shop",
        "--pool",
        pool,
        "--until-empty",
        "--results",
        str(results),
        *sizes,
    )


def check(results: Path, installed: Installed) -> None:
    """Each job was worked by the user's modules and the installed rabbitray, in a worker that knows of no checkout."""
    rows = read_only_query(results, "SELECT result FROM results").to_pylist()
    assert len(rows) == JOBS
    for result in (json.loads(row["result"]) for row in rows):
        assert result["own"] == dict.fromkeys(OWN_NAMES, "shop")
        assert Path(result["rabbitray"]) == installed.packages / "rabbitray" / "__init__.py"
        assert str(ROOT) not in result["path"]


def test_rabbitray_run_in_a_projects_folder(project: Path, installed: Installed, amqp_url: str, tmp_path: Path) -> None:
    """On a local Ray of its own."""
    results = tmp_path / "results.duckdb"
    ran = installed.run(installed.program, *work(results), cwd=project, RABBITMQ_URL=amqp_url)
    assert ran.returncode == 0, ran.stderr
    check(results, installed)


def test_a_project_as_the_working_directory_of_a_ray_job(
    project: Path, installed: Installed, amqp_url: str, ray_cluster: str, tmp_path: Path
) -> None:
    """`py_executable` stands for a cluster whose machines have rabbitray installed: this one runs in the checkout."""
    results, secret = tmp_path / "results.duckdb", tmp_path / "rabbitmq-url"
    secret.touch(mode=0o600)
    secret.write_text(amqp_url)
    environment = {"env_vars": {"RABBITMQ_URL_FILE": str(secret)}, "py_executable": str(installed.python)}
    dashboard, job = f"http://{ray._private.worker.global_worker.node.webui_url}", f"shop-{uuid.uuid4().hex[:8]}"
    submit = (
        "submit", "--address", dashboard, "--submission-id", job, "--no-wait", "--working-dir", ".",
        "--runtime-env-json", json.dumps(environment),
        "--", "exec", str(installed.python), "-m", "rabbitray", *work(results),
    )  # fmt: skip
    eventually_sync(lambda: agent_takes(submit, folder=project), within_s=90, message="no agent takes jobs")
    client = JobSubmissionClient(dashboard)
    eventually_sync(lambda: client.get_job_status(job).is_terminal(), within_s=120, message="the job did not end")
    assert client.get_job_status(job) == "SUCCEEDED", client.get_job_logs(job)
    check(results, installed)
