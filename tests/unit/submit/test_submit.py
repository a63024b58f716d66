"""The steps of a submission, against a job server that answers as Ray does."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.remote.compat import inside
from rabbitray.actors.secret import Secret
from rabbitray.cluster.settings import load
from rabbitray.cluster.settings.job import JobServerAccess
from rabbitray.cluster.submit.follow import End
from rabbitray.cluster.submit.submit import Following, Plan, read_folder, submit
from tests.kit.fake_ray import FakeRay

ACCESS = JobServerAccess()


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "myjobs.py").write_text("def handle(job): ...")
    return Plan(
        loaded=load({"handler": "myjobs:handle", "queue": "orders", "results": "/data/orders.duckdb"}, {}, None),
        folder=read_folder(tmp_path, (), ACCESS, ()),
        variables={"RABBITMQ_URL": Secret("amqp://a:geheim@rabbit/"), "SHOP_KEY": Secret("geheim")},
        url_file=None,
        own_environment={"pip": ["httpx"]},
        python="python",
        run_options=("--until-empty",),
        submission_id="orders-1",
        version="1.2",
    )


async def submitted(ray: FakeRay, plan: Plan, *, wait: bool = True) -> tuple[End, list[str], list[str]]:
    """How it ended, lines of the log, lines of ours."""
    shown: list[str] = []
    said: list[str] = []
    following = Following(wait=wait, stop_on_interrupt=False, show=shown.append, say=said.append)
    async with ray.running() as url:
        return await submit(plan, url, ACCESS, following), shown, said


async def test_folder_and_secrets_are_left_for_the_job_and_its_log_and_code_come_back(plan: Plan) -> None:
    ray = FakeRay(code=3)
    end, shown, said = await submitted(ray, plan)
    assert (end.code, end.status, shown) == (3, "FAILED", ["one", "two"])
    (asked,) = ray.asked
    environment = asked["runtime_env"]
    folder = ray.taken[environment["working_dir"].removeprefix("gcs://")]
    assert ZipFile(BytesIO(folder)).namelist() == ["myjobs.py"]
    sent = json.loads(ray.taken[environment["env_vars"]["RABBITRAY_SENT"]])
    assert sent == {"RABBITMQ_URL": "amqp://a:geheim@rabbit/", "SHOP_KEY": "geheim"}
    assert environment["pip"] == ["httpx"]
    assert asked["entrypoint"].startswith("exec python -m rabbitray run --queue orders --handler myjobs:handle")
    assert asked["entrypoint"].endswith(" --until-empty")
    assert said[0].startswith("uploading 1 files, 20 B of ")
    assert said[1].startswith("job orders-1 is submitted; follow it: ray job logs --address http://127.0.0.1:")
    assert "geheim" not in str((asked, said))


async def test_without_secrets_nothing_is_left_and_it_says_where_the_broker_s_address_comes_from(plan: Plan) -> None:
    ray = FakeRay()
    end, shown, said = await submitted(ray, replace(plan, variables={}), wait=False)
    assert (end.code, shown, len(ray.taken)) == (0, [], 1)
    assert "RABBITRAY_SENT" not in str(ray.asked)
    assert said[0] == (
        "note: no broker is named here, so the job takes RABBITMQ_URL or RABBITMQ_URL_FILE of the machine where it runs"
    )


async def test_what_the_job_server_would_not_take_is_refused_before_the_upload(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside, "REQUEST_BYTES", 10)
    ray = FakeRay()
    with pytest.raises(ConfigurationError, match="once packed, and Ray's job server takes 10 B"):
        await submitted(ray, plan)
    assert (ray.taken, ray.asked) == ({}, [])


def job_of(pool: str, status: str, name: str = "other") -> dict[str, object]:
    metadata = {"app": "rabbitray", "pool": pool, "namespace": "rabbitray", "queue": "orders", "version": "1"}
    return {"submission_id": name, "status": status, "metadata": metadata}


@pytest.mark.parametrize(
    ("job", "says"),
    [
        (
            job_of("orders", "RUNNING"),
            "pool 'orders' is worked by job other (RUNNING); stop that one first, `ray job stop",
        ),
        (job_of("orders", "PENDING"), "pool 'orders' is worked by job other (PENDING)"),
        (job_of("mail", "SUCCEEDED", "orders-1"), "--submission-id orders-1: http://127.0.0.1:"),
    ],
)
async def test_a_pool_or_a_name_that_is_taken_is_refused_before_anything_is_uploaded(
    plan: Plan, job: dict[str, object], says: str
) -> None:
    ray = FakeRay()
    ray.jobs.append(job)
    with pytest.raises(ConfigurationError, match="orders") as refused:
        await submitted(ray, plan)
    assert str(refused.value).startswith(says)
    assert "\n" not in str(refused.value)
    assert (ray.taken, ray.asked) == ({}, [])


async def test_other_jobs_hold_up_nobody(plan: Plan) -> None:
    ray = FakeRay()
    foreign = {"submission_id": "x", "status": "RUNNING", "metadata": None}
    driver = {"submission_id": None, "status": "RUNNING"}
    ray.jobs += [job_of("orders", "STOPPED"), job_of("mail", "RUNNING"), foreign, driver]
    end, _, _ = await submitted(ray, plan)
    assert end.code == 0


async def test_another_ray_is_refused(plan: Plan) -> None:
    ray = FakeRay(version="2.40.0")
    with pytest.raises(ConfigurationError, match=r"runs Ray 2\.40\.0, >=2\.57,<2\.61 is needed"):
        await submitted(ray, plan)
    assert ray.taken == {}


async def test_a_cluster_that_starts_is_asked_again(plan: Plan) -> None:
    ray = FakeRay()
    ray.refusals.append("No available agent to submit job, please try again later.")
    end, _, said = await submitted(ray, plan)
    assert (end.code, len(ray.asked)) == (0, 2)
    assert "the cluster starts, and takes no jobs yet: it is asked again" in said
