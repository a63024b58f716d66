"""`run --until-empty` while retries are out of sight: RabbitMQ keeps what the queue refused, and tells nobody.

The queue is a classic one of the user's that gets a policy of no length at all: it has nothing and takes nothing, so
that a rung's messages cannot come back for as long as the test wants. (A quorum queue takes one, see
tests/broker/test_full_queue_rungs.py; a classic one drops what it has when it gets such a policy.)
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RayError

from rabbitray.actors.message.job import Job
from rabbitray.actors.router.assemble import RETRIES_OUT
from rabbitray.actors.store.read_only import read_only_query
from rabbitray.cluster.broker import PrivateBroker
from tests.kit.command_process import Command, publish, ready, run, work
from tests.kit.eventually import eventually_sync
from tests.kit.live_commands import LiveCommands, live_commands
from tests.kit.queue_access import declare_now

pytestmark = [pytest.mark.ray, pytest.mark.each_rabbitmq, pytest.mark.timeout("300")]

COUNT = 5
NO_ROOM = {"pattern": "^jobs$", "apply-to": "queues", "definition": {"max-length": 0, "overflow": "reject-publish"}}
Start = Callable[..., tuple[Command, Callable[[], object]]]
RUNG_S = 5
ONE_RUNG = ("--until-empty", "--retry-delay-ms", f"{RUNG_S}000", "--retry-max-delay-ms", f"{RUNG_S}000")


@pytest.fixture
def run_without_room(broker: PrivateBroker, amqp_url: str, ray_cluster: str) -> Iterator[Start]:
    """Starts a run on a queue of jobs that fail once, which takes nothing more once it is empty; it, and what makes
    room again."""
    started: list[Command] = []

    def start(*arguments: str) -> tuple[Command, Callable[[], object]]:
        declare_now(amqp_url, "jobs", x_queue_type="classic")
        publish(amqp_url, "jobs", [Job(id=f"job-{n}", payload={"do": "raise", "times": 1}) for n in range(COUNT)])
        started.append(Command(amqp_url, ray_cluster, *arguments))
        eventually_sync(lambda: ready(amqp_url, "jobs") == 0, within_s=90, message="nothing is worked")
        policy = f"/api/policies/{amqp_url.rpartition('/')[2]}/no-room"
        broker.api("PUT", policy, NO_ROOM)
        return started[0], lambda: broker.api("DELETE", policy)

    yield start
    for command in started:
        command.process.kill()
        command.process.communicate()


def worked_twice(results: Path) -> None:
    """Each job has one result, of its second run."""
    rows = read_only_query(results, "SELECT key, attempts FROM results ORDER BY key").to_pylist()
    assert rows == [{"key": f"job-{n}", "attempts": 2} for n in range(COUNT)]


def messages(live: LiveCommands) -> dict[str, Any]:
    return dict(json.loads(live.ask("status", "--queue", "jobs", "--json"))["messages"])


def saved(live: LiveCommands) -> bool:
    """Whether the next router would know of all that is out."""
    asked = f"SELECT value->>'out' AS out FROM control WHERE name = '{RETRIES_OUT}' ORDER BY version DESC LIMIT 1"
    rows = json.loads(live.ask("query", asked, "--queue", "jobs", "--format", "json"))
    return bool(rows == [{"out": str(COUNT)}])


def router() -> int | None:
    """The process of the router; None while it is being started."""
    try:
        actor = ray.get_actor("jobs-router", "rabbitray")
        return int(ray.get(actor.__ray_call__.remote(lambda _: os.getpid()), timeout=10))
    except (ValueError, RayError):
        return None


def test_what_a_full_queue_refused_is_waited_for_also_by_the_next_router(
    amqp_url: str, ray_cluster: str, run_without_room: Start, tmp_path: Path
) -> None:
    results = tmp_path / "results.duckdb"
    pool, make_room = run_without_room(*work(results, "jobs", *ONE_RUNG))
    waits = pool.line_with(f"waits for {COUNT} messages on the way back from the retry queues")
    until = datetime.strptime(waits.partition(" until ")[2][:19], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    assert 300 < until.timestamp() - time.time() < 362, "twice 180 s after the rung's"
    with live_commands({"RABBITMQ_URL": amqp_url, "RAY_ADDRESS": ray_cluster}) as live:
        found = messages(live)
        assert (found["ready"], found["held"], found["retries_out"], found["retries_overdue"]) == (0, 0, COUNT, 0)
        assert datetime.fromisoformat(found["retries_until"]) == until
        eventually_sync(lambda: saved(live), message="what is out was not saved")
        victim = router()
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        eventually_sync(lambda: router() not in (None, victim), within_s=60, message="no other router")
        found = messages(live)
        assert (found["retries_out"], found["retries_overdue"]) == (COUNT, 0), "the count outlives the router"
        told = live.ask("status", "--queue", "jobs")
        assert f"retries   {COUNT} in rungs or on their way back, expected until 20" in told
    assert pool.process.poll() is None, "it waits"
    make_room()
    code, out, err = pool.end(90)
    assert code == 0, err
    summary = json.loads(out)
    assert (summary["done"], summary["ended"], summary["clean"]) == (COUNT, "the queue is empty", True)
    worked_twice(results)


def test_what_does_not_come_back_in_time_ends_the_run_with_its_number_and_the_next_one_works_it(
    amqp_url: str, ray_cluster: str, run_without_room: Start, tmp_path: Path
) -> None:
    results = tmp_path / "results.duckdb"
    arguments = work(results, "jobs", *ONE_RUNG, "--rung-retry-interval-s", "2")
    pool, make_room = run_without_room(*arguments)
    code, out, err = pool.end(90)
    [error] = [line for line in err.splitlines() if line.startswith("error: ")]
    assert (code, json.loads(out)["clean"]) == (1, False), err
    assert error.startswith(f"error: {COUNT} retries have not come back from their rungs within 4 s after their time: ")
    assert "tries again every 2 s (rung_retry_interval_s); run again for them" in error
    assert json.loads(out)["failure"] == error.removeprefix("error: ")
    assert read_only_query(results, "SELECT * FROM results").num_rows == 0
    make_room()
    eventually_sync(lambda: ready(amqp_url, "jobs") == COUNT, message="RabbitMQ did not try again")
    code, out, err = run(amqp_url, ray_cluster, *arguments)
    assert (code, json.loads(out)["done"]) == (0, COUNT), err
    worked_twice(results)
