"""No secret leaves: a canary password is looked for in logs, processes, actor state, the dashboard's JSON and spans."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import aiohttp
import psutil
import pytest
from ray.util.state import list_actors, list_jobs, list_tasks, list_workers

from rabbitray.actors.errors import RabbitrayError
from rabbitray.actors.message.job import Job
from rabbitray.actors.store.read_only import read_only_query
from rabbitray.cluster.broker import PrivateBroker
from tests.kit.canary import Canary, canary_url, new_canary
from tests.kit.eventually import eventually
from tests.kit.otlp_receiver import OtlpReceiver
from tests.kit.pool_settings import settings_for
from tests.kit.running_pool import RunningPool, pool_of

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster"), pytest.mark.timeout(180)]

PAGES = ("/logical/actors", "/nodes?view=summary", "/api/jobs/", "/api/cluster_status", "/api/v0/workers")


@pytest.fixture
def canary() -> Canary:
    return new_canary()


@pytest.fixture
def secret_url(broker: PrivateBroker, amqp_url: str, canary: Canary) -> Iterator[str]:
    """The test's vhost, for a user with the canary password."""
    with canary_url(broker, amqp_url, canary) as url:
        yield url


def file_of(url: str, folder: Path) -> dict[str, str]:
    """The environment of who has the URL in a file."""
    file = folder / "url"
    file.touch(mode=0o600)
    file.write_text(url)
    return {"RABBITMQ_URL": "", "RABBITMQ_URL_FILE": str(file)}


def logs_with(canary: str) -> list[str]:
    """The log files of this Ray session that hold the canary."""
    from ray._private.worker import _global_node  # the session's folder has no public name

    assert _global_node is not None
    folder = Path(_global_node.get_logs_dir_path())
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert len(files) > 10
    return [file.name for file in files if canary.encode() in file.read_bytes()]


def processes_with(canary: str) -> list[str]:
    """Processes that show the canary in their title or their environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if process.pid != os.getpid() and canary in f"{process.cmdline()} {process.environ()}":
                found.append(process.name())
    return found


def dashboard_url() -> str:
    """Of the Ray that this process is connected to."""
    from ray._private.worker import _global_node  # Ray tells the address at ray.init only

    assert _global_node is not None
    return f"http://{_global_node.webui_url}"


def state_with(canary: str) -> list[str]:
    """Entries of Ray's state API that hold the canary."""
    asked, url = (list_actors, list_workers, list_jobs), dashboard_url()
    entries = [str(one) for ask in asked for one in ask(address=url, detail=True, limit=1_000)]
    entries += [str(one) for one in list_tasks(address=url, detail=True, limit=5_000)]
    assert any("ConsumerRouter" in entry for entry in entries)
    return [entry for entry in entries if canary in entry]


async def pages_with(canary: str) -> list[str]:
    """Answers of the dashboard that hold the canary."""
    token = await asyncio.to_thread(Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text)
    found = []
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        for page in PAGES:
            async with session.get(f"{dashboard_url()}{page}") as answer:
                assert answer.status == 200, (page, answer.status)
                if canary in await answer.text():
                    found.append(page)
    return found


async def dead_with(broker: PrivateBroker, url: str, queue: str, canary: str) -> list[object]:
    """Headers of the dead letters that hold the canary."""
    vhost = urlsplit(url).path.lstrip("/")
    ask = {"count": 10, "ackmode": "ack_requeue_true", "encoding": "auto"}
    path = f"/api/queues/{quote(vhost, safe='')}/{quote(queue, safe='')}.dead/get"
    found = await asyncio.to_thread(broker.api, "POST", path, ask)
    assert isinstance(found, list)
    assert found
    return [one["properties"] for one in found if canary in str(one["properties"])]


async def work_and_fail(pool: RunningPool, careless: str) -> None:
    """Jobs that are done, retried and parked; the errors name the broker's address, as careless handlers do."""
    await pool.publish(
        [
            *(Job(id=f"job-{n}") for n in range(50)),
            Job(id="twice", payload={"do": "raise", "times": 1, "text": "again"}),
            Job(id="bad", payload={"do": "reject", "text": careless}),
            Job(id="long", payload={"do": "permanent", "text": "amqp://user:pw-of-others@host " * 15_000 + careless}),
        ]
    )
    await pool.acked(54)


async def test_a_password_is_in_no_log_process_state_page_span_or_result(
    broker: PrivateBroker, secret_url: str, canary: Canary, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    word = canary.word
    with OtlpReceiver() as receiver:
        environ = file_of(secret_url, tmp_path) | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{word}-token",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        loaded = settings_for("", tmp_path, environ, log_level="DEBUG")
        async with pool_of(loaded, "tests.kit.steered_handler:CarelessAtTheEnd") as pool:
            await work_and_fail(pool, canary.careless(secret_url))
            assert await asyncio.to_thread(processes_with, word) == []
            assert await asyncio.to_thread(state_with, word) == []
            assert await pages_with(word) == []
            assert "cannot reach" in str(report := await pool.report()), "the careless error is told"
            assert word not in str(report)
            assert await dead_with(broker, secret_url, loaded.settings.queue, word) == []
        assert await asyncio.to_thread(state_with, word) == [], "not even by the end of the handler"
        rows = read_only_query(loaded.settings.results, "SELECT * EXCLUDE (body) FROM dead_letters").to_pylist()
        assert "cannot reach amqp://" in str(rows)
        assert word not in str(rows)
        assert "pw-of-others" not in str(rows)
        await eventually(lambda: receiver.spans, message="no span arrived")
        assert word in str(receiver.requests), "the header did reach the collector"
        assert word not in str(receiver.spans)
    assert await asyncio.to_thread(logs_with, "cannot reach amqp://"), "the careless error did reach a log"
    assert await asyncio.to_thread(logs_with, "The handler could not be closed")
    assert await asyncio.to_thread(logs_with, word) == []
    assert word not in "".join(capfd.readouterr())
    assert word not in repr(loaded)


@pytest.mark.long  # the other one has all doors
async def test_a_password_in_the_error_of_a_handler_that_cannot_start_is_not_told(
    amqp_url: str, tmp_path: Path
) -> None:
    async with pool_of(settings_for(amqp_url, tmp_path), "tests.kit.steered_handler:Careless") as pool:

        async def start_error() -> object:
            return (await pool.report()).start_error

        told = str(await eventually(start_error, within_s=30))
        assert "ConnectionError: cannot reach amqp://***@host" in told
        await eventually(lambda: asyncio.to_thread(state_with, "amqp://***@host"), message="Ray does not tell it")
        assert await asyncio.to_thread(state_with, "careless-password") == []
        assert await pages_with("careless-password") == []


async def test_a_password_that_is_refused_is_not_told(
    secret_url: str, canary: Canary, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    word = canary.word
    wrong = secret_url.replace(word, word + "-wrong")
    with pytest.raises(RabbitrayError) as refused:
        async with pool_of(settings_for(wrong, tmp_path, log_level="DEBUG")):
            pass
    assert word not in str(refused.value)
    assert await asyncio.to_thread(logs_with, word) == []
    assert word not in "".join(capfd.readouterr())
