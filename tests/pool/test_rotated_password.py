"""A password that is changed under a whole pool: its URL file has the new one, so that it goes on by itself."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rabbitray.actors.message.job import Job
from rabbitray.actors.store.read_only import read_only_query
from rabbitray.cluster.broker import PrivateBroker
from tests.kit.broker_users import Rights, user_with
from tests.kit.command_process import Command, publish, queue_exists, work
from tests.kit.eventually import eventually_sync
from tests.kit.live_commands import LiveCommands, live_commands

pytestmark = [pytest.mark.ray, pytest.mark.each_rabbitmq, pytest.mark.timeout("300")]

EVERYTHING = Rights(configure=".*", write=".*", read=".*")
NEW = "a-new-one-0815"
COUNT = 20


def jobs(turn: str) -> list[Job]:
    """All are worked in the end, after a retry each, but one."""
    steps = [{"do": "raise", "times": 1}] * COUNT + [{"do": "reject"}]
    return [Job(id=f"{turn}-{n}", payload=step) for n, step in enumerate(steps)]


def write(file: Path, url: str) -> None:
    """As a secret is replaced: another file under the same name."""
    fresh = file.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(url)
    fresh.replace(file)


def ended(live: LiveCommands) -> tuple[int, int]:
    """Jobs that are done, and dead; none where nobody can say."""
    ran = live.run("status", "--queue", "jobs", "--json")
    found = json.loads(ran.out)["counts"] if ran.out else {"done": 0, "dead": 0}
    return found["done"], found["dead"]


def test_a_pool_goes_on_with_the_password_that_its_file_has_now(
    broker: PrivateBroker, amqp_url: str, ray_cluster: str, tmp_path: Path
) -> None:
    """Router, publisher of copies, collector and probes: all are let in again, and nobody was told to do anything."""
    results, file = tmp_path / "results.duckdb", tmp_path / "url"
    retries = ("--retry-delay-ms", "300", "--retry-max-delay-ms", "300")
    with user_with(broker, amqp_url, EVERYTHING) as url:
        parts = urlsplit(url)
        user, old = str(parts.username), str(parts.password)
        write(file, url)
        pool = Command(None, ray_cluster, *work(results, "jobs", *retries), RABBITMQ_URL_FILE=str(file))
        try:
            eventually_sync(lambda: queue_exists(amqp_url, "jobs"), within_s=90)
            with live_commands({"RABBITMQ_URL": amqp_url, "RAY_ADDRESS": ray_cluster}) as live:
                publish(amqp_url, "jobs", jobs("before"))
                eventually_sync(lambda: ended(live) == (COUNT, 1), within_s=60)
                write(file, url.replace(f":{old}@", f":{NEW}@"))
                broker.api("PUT", f"/api/users/{user}", {"password": NEW, "tags": ""})
                broker.ctl("close_all_user_connections", user, "rotated")
                publish(amqp_url, "jobs", jobs("after"))
                eventually_sync(lambda: ended(live) == (2 * COUNT, 2), within_s=90, message="it does not go on")
                found = json.loads(live.ask("status", "--queue", "jobs", "--json"))
            assert (found["connected"], found["problems"], found["messages"]["ready"]) == (True, [], 0)
            pool.process.send_signal(signal.SIGTERM)
            code, _, err = pool.end(60)
        finally:
            pool.process.kill()
    assert code == 0, err
    assert old not in err
    assert NEW not in err
    rows = read_only_query(
        results, "SELECT count(DISTINCT key) AS keys, min(attempts) AS runs FROM results"
    ).to_pylist()
    assert rows == [{"keys": 2 * COUNT, "runs": 2}]
