"""The driver as people start it, `rabbitray run`: in a process of its own; most of what is refused, in one for all."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from pamqp import commands as spec

from rabbitray.actors.message.headers import DUE
from rabbitray.actors.message.job import Job
from rabbitray.actors.store.read_only import read_only_query
from rabbitray.cluster.broker import PrivateBroker
from tests.kit.command_line import Ran
from tests.kit.command_process import ROOT, Command, publish, queue_exists, ready, run, work
from tests.kit.eventually import eventually_sync
from tests.kit.file_holder import holder_of
from tests.kit.live_commands import LiveCommands, live_commands
from tests.kit.pool_settings import HANDLE
from tests.kit.queue_access import opened
from tests.kit.raw_amqp import publish as raw_publish


@pytest.fixture(scope="module")
def live(ray_cluster: str) -> Iterator[LiveCommands]:
    """Whose commands are all refused: each one ends before the next."""
    with live_commands({"RAY_ADDRESS": ray_cluster}) as found:
        yield found


@pytest.mark.ray
@pytest.mark.timeout("240")
def test_sigterm_under_load_and_a_second_run(amqp_url: str, ray_cluster: str, tmp_path: Path) -> None:
    """Every id exactly once in the results, over two runs, the first of which is told to stop half-way. The second one
    would end with the empty queue, but for a message that is due in 29 days: it says so, and is told to stop.
    """
    results = tmp_path / "results.duckdb"
    first = Command(amqp_url, ray_cluster, *work(results, "waves"))
    count = 1_500
    eventually_sync(lambda: queue_exists(amqp_url, "waves"), within_s=90)
    publish(amqp_url, "waves", [Job(id=f"job-{n}", payload={"do": "slow", "s": 0.004}) for n in range(count)])
    eventually_sync(lambda: 0 <= ready(amqp_url, "waves") < count * 0.8, within_s=40)
    first.process.send_signal(signal.SIGTERM)
    code, out, err = first.end(60)
    assert code == 0, err
    summary = json.loads(out)
    assert summary["clean"]
    assert 0 < summary["done"] < count
    publish_due_in(amqp_url, "waves", days=29)
    second = Command(amqp_url, ray_cluster, *work(results, "waves", "--until-empty"))
    waits = second.line_with("--until-empty waits for ")
    due = f"{datetime.now(UTC) + timedelta(days=29):%Y-%m-%d}"
    assert f"waits for 1 message in the retry queues, the last of them due at {due}" in waits
    assert "(in 28 d 23 h)" in waits
    second.process.send_signal(signal.SIGTERM)
    code, out, err = second.end(60)
    assert code == 0, err
    found = json.loads(out)
    assert (found["ended"], found["clean"]) == (summary["ended"], True)
    assert summary["done"] + found["done"] == count
    counts = read_only_query(results, "SELECT count(*) AS rows, count(DISTINCT key) AS keys FROM results")
    assert counts.to_pylist() == [{"rows": count, "keys": count}]


def publish_due_in(amqp_url: str, queue: str, *, days: int) -> None:
    """A job that is not to be run before."""
    due_ms = (time.time_ns() // 1_000_000) + days * 86_400_000
    properties = spec.Basic.Properties(headers={DUE: due_ms}, message_id="later", delivery_mode=2)
    asyncio.run(raw_publish(amqp_url, queue, [(properties.marshal(), b"{}")]))


@pytest.mark.ray
def test_a_run_whose_workers_cannot_start_ends_with_the_error(
    amqp_url: str, live: LiveCommands, tmp_path: Path
) -> None:
    """And does not take its empty queue for the end of its work."""
    arguments = work(tmp_path / "r.duckdb", "jobs", "--until-empty", "--pool", "startless", "--initial-size", "1")
    ran = live.run(*arguments, "--handler", "tests.kit.steered_handler:NeverReady", RABBITMQ_URL=amqp_url)
    errors = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert (ran.code, len(errors)) == (1, 1), ran.err
    assert errors[0].startswith("error: workers cannot start, tried 3 times: ")
    assert errors[0].endswith("the model is missing")
    summary = json.loads(ran.out)
    assert (summary["clean"], summary["done"], summary["ended"]) == (False, 0, "no worker can start")
    assert f"error: {summary['failure']}" == errors[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "--handler", "no_such_module:handle"), "no module named 'no_such_module'"),
        (("run", "--handler", "tests.kit.steered_handler:handel"), "did you mean 'handle'"),
        (("run",), "no handler"),
        (("run", "--handler", HANDLE, "--max-size", "0"), "max-size"),
        (("run", "--handler", HANDLE, "--prefetch-count", "0"), "prefetch"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    amqp_url: str, live: LiveCommands, arguments: tuple[str, ...], says: str
) -> None:
    assert says in the_error(live.run(*arguments, RABBITMQ_URL=amqp_url))


def the_error(ran: Ran) -> str:
    """The only line of a command that was refused: exit code 2, nothing printed, no traceback."""
    errors = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert (ran.code, ran.out, len(errors)) == (2, "", 1), ran.err
    assert "Traceback" not in ran.err
    return errors[0]


@pytest.mark.ray
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("amqp://guest:guest@127.0.0.1:9/", "127.0.0.1:9"),
        ("amqp://guest:wrong@{address}/", "login refused"),
    ],
)
def test_a_broker_that_cannot_be_used(
    broker: PrivateBroker, live: LiveCommands, url: str, says: str, tmp_path: Path
) -> None:
    address = url.format(address=f"127.0.0.1:{broker.port}")
    arguments = work(tmp_path / "r.duckdb", "jobs", "--connect-timeout-s", "2", "--pool", "unreachable")
    ran = live.run(*arguments, RABBITMQ_URL=address)
    assert says in the_error(ran)
    assert "wrong" not in ran.err


@pytest.mark.ray
def test_results_files_that_cannot_be_used(amqp_url: str, live: LiveCommands, tmp_path: Path) -> None:
    text = tmp_path / "notes.duckdb"
    text.write_text("this is no database")
    ran = live.run(*work(text, "jobs", "--pool", "unusable"), RABBITMQ_URL=amqp_url)
    assert "notes.duckdb" in the_error(ran)
    assert text.read_text() == "this is no database"


@pytest.mark.ray
@pytest.mark.parametrize(
    ("name", "flags", "says"),
    [
        # broker/test_declare.py has each of them against a node; one tells that nothing was consumed
        pytest.param("jobs", {"auto_delete": True}, "queue 'jobs' is auto-delete", marks=pytest.mark.long),
        pytest.param(
            "jobs",
            {"durable": False, "exclusive": True},
            "queue 'jobs' is exclusive to another connection",
            marks=pytest.mark.long,
        ),
        (
            "jobs",
            {"arguments": {"x-queue-type": "quorum", "x-delivery-limit": 3}},
            "queue 'jobs' has x-delivery-limit=3 and no dead-letter exchange",
        ),
        pytest.param(
            "jobs.dead",
            {"arguments": {"x-queue-type": "quorum", "x-message-ttl": 60_000}},
            "queue 'jobs.dead' exists with x-message-ttl=60000",
            marks=pytest.mark.long,
        ),
    ],
    ids=["auto-delete", "exclusive", "drops-by-itself", "dead-letters-expire"],
)
async def test_a_queue_that_would_lose_messages_is_refused_before_anything_is_consumed(
    amqp_url: str, ray_cluster: str, tmp_path: Path, name: str, flags: dict[str, Any], says: str
) -> None:
    """In a process of its own, which has to end with what it had started."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(name, **{"durable": True} | flags)
        await channel.default_exchange.publish(aio_pika.Message(b"{}", message_id="kept"), name)
        arguments = work(tmp_path / "r.duckdb", "jobs", "--pool", "refused")
        code, out, err = await asyncio.to_thread(run, amqp_url, ray_cluster, *arguments)
        assert says in the_error(Ran(code=code, out=out, err=err))
        message = await queue.get(timeout=5)
        assert message is not None
        assert (message.message_id, message.redelivered) == ("kept", False)


@pytest.mark.ray
async def test_a_results_file_in_use_is_refused_with_the_holders_pid(
    amqp_url: str, live: LiveCommands, tmp_path: Path
) -> None:
    results = tmp_path / "results.duckdb"
    async with opened(amqp_url, "jobs") as queue:
        await queue.channel.default_exchange.publish(aio_pika.Message(b"{}", message_id="kept"), "jobs")
        with holder_of(results) as holder:
            arguments = work(results, "jobs", "--pool", "locked", "--results-lock-timeout-ms", "300")
            ran = await asyncio.to_thread(live.run, *arguments, RABBITMQ_URL=amqp_url)
        assert f"{results} is in use by process {holder.pid}: stop it, or choose another file" in the_error(ran)
        message = await queue.get(timeout=5)
        assert message is not None
        assert (message.message_id, message.redelivered) == ("kept", False)


def test_demo_prints_one_json_object(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("RABBITMQ_URL", "RAY_ADDRESS")}
    done = subprocess.run(
        [sys.executable, "-m", "rabbitray", "demo", "--messages", "600", "--json"],
        cwd=ROOT,
        env=environment | {"RABBITRAY_RESULTS": str(tmp_path / "demo.duckdb")},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"published", "done", "dead", "rows", "duration_s", "throughput_msg_s", "decisions", "results"} <= set(found)
    assert (found["published"], found["done"], found["dead"], found["rows"]) == (600, 600, 0, 600)
    assert "leaked" not in done.stderr, "something of DuckDB outlived the run"
    assert set(found["latency_ms"]) == {"p50", "p99"}
    assert set(found["pool"]) == {"min", "max"}
