"""The Ray dashboard shows a running pool: a real headless Chromium finds its actors, its log lines and its job."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
import ray
from ray.job_submission import JobStatus, JobSubmissionClient
from ray.util.state import list_actors

from rabbitray.actors.message.job import Job
from tests.kit.chrome import Tab, chromium
from tests.kit.doc_blocks import ROOT, blocks, commands
from tests.kit.eventually import eventually
from tests.kit.pool_settings import settings_for
from tests.kit.ray_job import agent_takes
from tests.kit.running_pool import pool_of

TOKEN_COOKIE = "ray-authentication-token"
SEEN_WITHIN_S = 60.0
FILTER_BY_NAME = """(() => {
  const label = [...document.querySelectorAll('label')].find(one => one.innerText.trim() === 'Name');
  const input = document.getElementById(label.htmlFor) ?? label.parentElement.querySelector('input');
  input.focus();
  return document.execCommand('insertText', false, 'NAME');
})()"""

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster"), pytest.mark.timeout(240)]


def dashboard() -> str:
    """The address of the session's dashboard."""
    from ray._private.worker import _global_node  # Ray tells it at ray.init only, and a fixture did that

    assert _global_node is not None
    return f"http://{_global_node.webui_url}"


@contextlib.asynccontextmanager
async def signed_in() -> AsyncIterator[Tab]:
    """A browser that holds the token of this Ray, as after its log-in dialog."""
    async with chromium() as tab:
        token = await asyncio.to_thread(Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text)
        await tab.call("Network.setCookie", name=TOKEN_COOKIE, value=token, url=dashboard())
        await tab.look_like(width=1500, height=700)
        yield tab


async def sees(tab: Tab, *words: str) -> str:
    """Waits until all words stand on the page; its text then."""
    text = ""

    async def all_there() -> bool:
        nonlocal text
        text = str(await tab.run("document.body.innerText"))
        return all(word in text for word in words)

    try:
        await eventually(all_there, within_s=SEEN_WITHIN_S)
    except AssertionError as late:
        missing = [word for word in words if word not in text]
        raise AssertionError(f"not on the page: {missing}; it says: {text[:2000]}") from late
    return text


async def test_actors_are_found_by_class_name_and_repr_and_log_lines_by_the_ids_of_a_message(
    amqp_url: str, tmp_path: Path
) -> None:
    name = "orders"
    loaded = settings_for(amqp_url, tmp_path, pool=name, queue=name)
    async with pool_of(loaded) as pool, signed_in() as tab:
        await pool.publish([Job(id=f"job-{n}") for n in range(200)])
        await pool.acked(200)
        await finds_the_actors(tab, name)
        await pool.publish([Job(id="order-4711", payload={"do": "reject", "text": "no such user"})])
        await pool.acked(201)
        await finds_the_log_line(tab, name)


async def finds_the_actors(tab: Tab, name: str) -> None:
    await tab.open(f"{dashboard()}/#/actors")
    await sees(tab, "Repr")
    assert await tab.run(FILTER_BY_NAME.replace("NAME", f"{name}-"))
    await sees(
        tab,
        *("ConsumerRouter", "PoolWorker", "ResultStore", "Autoscaler"),
        *(f"{name}-router", f"{name}-store", f"{name}-autoscaler", f"{name}-worker-0001"),
        *(f"ConsumerRouter({name}-router)", f"ResultStore({name}-store)"),
        *(f"PoolWorker({name}-worker-0001)", f"PoolWorker({name}-worker-0002)"),
    )
    if wanted := os.environ.get("RABBITRAY_SCREENSHOT"):  # docs/images/ray-dashboard.png is made this way
        await asyncio.to_thread(Path(wanted).write_bytes, await tab.screenshot())


async def finds_the_log_line(tab: Tab, name: str) -> None:
    (router,) = await asyncio.to_thread(
        list_actors,
        address=ray.get_runtime_context().gcs_address,
        filters=[("class_name", "=", "ConsumerRouter"), ("name", "=", f"{name}-router")],
    )
    await tab.open("about:blank")  # from one fragment to the next nothing is loaded
    await tab.open(f"{dashboard()}/#/actors/{router.actor_id}")
    await sees(tab, f"ConsumerRouter({name}-router)", "1 to the dead letters", "key=order-4711", "message_id=")


@pytest.mark.long  # test_submit.py has a job, too
async def test_the_job_page_shows_entrypoint_and_metadata(amqp_url: str, tmp_path: Path) -> None:
    """The job of docs/getting-started.md, submitted by its own line; only addresses and paths are the test's."""
    submit = submit_of_the_page(tmp_path, amqp_url)
    metadata = json.loads(submit[submit.index("--metadata-json") + 1])
    assert "rabbitray" in metadata.values()
    named = [word for word in submit if "rabbitray" in word and not word.startswith("{")]
    assert named == ["rabbitray"], "beside the metadata it stands in the entrypoint only, once"
    client = JobSubmissionClient(dashboard())
    number = submit[submit.index("--submission-id") + 1]
    await eventually(lambda: asyncio.to_thread(agent_takes, submit), within_s=90, message="no agent takes jobs")
    try:
        await eventually(lambda: client.get_job_status(number) == JobStatus.RUNNING, within_s=60)
        async with signed_in() as tab:
            await tab.open(f"{dashboard()}/#/jobs/{quote(number)}")
            text = await sees(tab, "-m rabbitray run --handler greetings:greet", number, *metadata.values())
            assert text.count("rabbitray") > 1, "in the entrypoint, and in the metadata"
        assert client.get_job_info(number).metadata == metadata
    finally:
        client.stop_job(number)
    await eventually(lambda: client.get_job_status(number).is_terminal(), within_s=90)


def submit_of_the_page(folder: Path, amqp_url: str) -> tuple[str, ...]:
    """Options and entrypoint of its `ray job submit`; `folder` gets the handler and the file with the address."""
    found = blocks(ROOT / "docs" / "getting-started.md")
    (handler,) = (block for block in found if block.marks.get("file") == "greetings.py")
    (folder / "jobs").mkdir()
    (folder / "jobs" / "greetings.py").write_text(handler.text)
    address = folder / "rabbitmq-url"
    address.touch(mode=0o600)
    address.write_text(amqp_url)
    lines = [words for block in found if block.language == "bash" for words in commands(block)]
    (words,) = (words[2:] for words in lines if words[:3] == ["ray", "job", "submit"])
    variables = json.loads(words[words.index("--runtime-env-json") + 1])["env_vars"]
    variables |= {"RABBITMQ_URL_FILE": str(address), "PYTHONPATH": str(ROOT), "RABBITRAY_DEDUPE_CAPACITY": "100000"}
    ours = {
        "--address": dashboard(),
        "--working-dir": str(folder / "jobs"),
        "--runtime-env-json": json.dumps({"env_vars": variables}),
        "--results": str(folder / "orders.duckdb"),
        "--queue": f"q{uuid.uuid4().hex[:8]}",
    }
    words = [ours.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    words = [sys.executable if word == "python" else word for word in words]
    return ("submit", "--submission-id", f"job-{uuid.uuid4().hex[:8]}", "--no-wait", *words[1:])


async def test_without_the_token_it_shows_nothing() -> None:
    async with chromium() as tab:
        await tab.open(f"{dashboard()}/#/actors")
        await sees(tab, "Token")
        assert ray.is_initialized()
        assert "ConsumerRouter" not in str(await tab.run("document.body.innerText"))
