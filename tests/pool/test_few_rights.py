"""A whole pool whose user may do little, as docs/security.md says: it works, and every command says what it may not.

Before RabbitMQ 4.2.6 and 4.3.1 everybody may look at a queue; there what is hidden later is seen.
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rabbitray.actors.message.job import Job
from rabbitray.cluster.broker import PrivateBroker
from tests.kit.broker_users import DOCUMENTED, NONE, OF_OLD, PRODUCER, Rights, look_needs_a_right, user_with
from tests.kit.command_line import Ran
from tests.kit.command_process import Command, publish, work
from tests.kit.eventually import eventually_sync
from tests.kit.live_commands import LiveCommands, live_commands

pytestmark = [pytest.mark.ray, pytest.mark.each_rabbitmq, pytest.mark.timeout("300")]

ONE_RUNG = {"RETRY_DELAY": "300", "RETRY_MAX_DELAY": "300"}
FINE, ONCE, DEAD = 20, 4, 3
JOBS = [
    *(Job(id=f"fine-{n}", payload={}) for n in range(FINE)),
    *(Job(id=f"once-{n}", payload={"do": "raise", "times": 1}) for n in range(ONCE)),
    *(Job(id=f"never-{n}", payload={"do": "reject"}) for n in range(DEAD)),
]


class Asking:
    """Commands on queue `jobs`, each by a user of its own."""

    def __init__(self, live: LiveCommands) -> None:
        self._live = live

    def __call__(self, url: str, *arguments: str) -> Ran:
        """Runs one; whatever it may not do is no traceback, and no password is told."""
        ran = self._live.run(*arguments, RABBITMQ_URL=url)
        told = ran.out + ran.err
        assert "Traceback" not in told, told
        assert f":{urlsplit(url).password}@" not in told
        return ran

    def refused(self, url: str, says: str, *arguments: str) -> None:
        """It must end with one line."""
        ran = self(url, *arguments)
        errors = [line for line in ran.err.splitlines() if line.startswith(("error: ", "failed: "))]
        assert (ran.code in (1, 2), len(errors)) == (True, 1), ran
        assert says in errors[0]


@pytest.mark.parametrize("rights", [DOCUMENTED, OF_OLD], ids=["documented", "of old"])
def test_a_pool_with_few_rights_works_and_every_command_says_what_it_may_not(
    broker: PrivateBroker, amqp_url: str, ray_cluster: str, tmp_path: Path, rights: Rights
) -> None:
    hides = rights is OF_OLD and look_needs_a_right(broker)
    results = tmp_path / "results.duckdb"
    with live_commands({"RAY_ADDRESS": ray_cluster} | ONE_RUNG) as live, user_with(broker, amqp_url, rights) as mine:
        ask = Asking(live)
        assert ask(amqp_url, "publish", "--generate", "1", "--create").code == 0
        pool = Command(mine, ray_cluster, *work(results, "jobs"), **ONE_RUNG)
        try:
            publish(amqp_url, "jobs", JOBS)
            eventually_sync(lambda: counts(ask, mine) == (1 + FINE + ONCE, DEAD), within_s=90)
            assert connections(broker, mine) == 5, "as docs/managed-brokers.md says"
            what_status_says(ask, broker, amqp_url, mine)
            what_check_says(ask, mine, hides=hides)
            who_may_publish(ask, broker, amqp_url, mine)
            what_dlq_says(ask, amqp_url, mine, hides=hides)
            assert ask(mine, "drain", "--queue", "jobs").code == 0
            code, _, err = pool.end(60)
        finally:
            pool.process.kill()
        assert code == 0, err
        assert "Traceback" not in err
        assert "queue 'jobs' could not be compared (no `configure` right)" in err
        assert ("queue 'jobs.dead': this user may not look at it (403)" in err) == hides
        until_empty(amqp_url, mine, ray_cluster, results, hides=hides)


def counts(ask: Asking, url: str) -> tuple[int, int]:
    """Jobs that are done, and dead; none while there is no pool."""
    ran = ask(url, "status", "--queue", "jobs", "--json")
    found = json.loads(ran.out)["counts"] if ran.out else {"done": 0, "dead": 0}
    return found["done"], found["dead"]


def connections(broker: PrivateBroker, url: str) -> int:
    """Open ones of the URL's user."""
    return broker.ctl("list_connections", "user").split().count(str(urlsplit(url).username))


def what_status_says(ask: Asking, broker: PrivateBroker, amqp_url: str, mine: str) -> None:
    """Who may consume may look, so that the pool grows; who may not is told why there is no number."""
    ran = ask(mine, "status", "--queue", "jobs", "--json")
    found = json.loads(ran.out)
    assert (ran.code, ran.err, found["state"], found["problems"]) == (0, "", "healthy", [])
    assert (found["messages"]["ready"], found["messages"]["dropped"]) == (0, 0)
    assert not [one for one in found["reasons"] if "unknown" in one["reason"] and "depth" in one["reason"]]
    with user_with(broker, amqp_url, NONE) as nobody:
        ran = ask(nobody, "status", "--queue", "jobs")
    unknown = look_needs_a_right(broker)
    assert ("messages  ? ready" in ran.out) == unknown
    assert ("queue depth of jobs is unknown: this user may not look at it (403)" in ran.err) == unknown


def what_check_says(ask: Asking, mine: str, *, hides: bool) -> None:
    ran = ask(mine, "check", "--queue", "jobs")
    assert (ran.code, ran.err) == (0, "")
    assert "this user may consume, retry and park" in ran.out
    assert "queue 'jobs' could not be compared (no `configure` right)" in ran.out
    assert ("queue 'jobs.retry.300': this user may not look at it (403)" in ran.out) == hides


def who_may_publish(ask: Asking, broker: PrivateBroker, amqp_url: str, mine: str) -> None:
    """Not the pool, through the default exchange; a producer, also where he may not look."""
    ask.refused(mine, "access to exchange 'amq.default'", "publish", "--generate", "1")  # 4.x: write access
    with user_with(broker, amqp_url, PRODUCER) as producer:
        ran = ask(producer, "publish", "--generate", "3", "--json")
    assert (ran.code, json.loads(ran.out)["published"]) == (0, 3)
    assert ("may not look at queue 'jobs' (403)" in ran.err) == look_needs_a_right(broker)
    eventually_sync(lambda: counts(ask, mine) == (4 + FINE + ONCE, DEAD))


def what_dlq_says(ask: Asking, amqp_url: str, mine: str, *, hides: bool) -> None:
    """Its letters are listed and shown; to replay and to purge is for people with more rights."""
    ran = ask(mine, "dlq", "ls", "--queue", "jobs", "--json")
    assert (ran.code, json.loads(ran.out)["waiting"]) == (0, None if hides else DEAD)
    assert ("queue 'jobs.dead': this user may not look at it (403)" in ran.err) == hides
    assert json.loads(ask(mine, "dlq", "show", "never-0", "--queue", "jobs", "--json").out)["reason"] == "rejected"
    may_not = "this user may not read queue 'jobs.dead' (403): grant it `read` on it"
    ask.refused(mine, may_not, "dlq", "replay", "--all", "--queue", "jobs")
    ask.refused(mine, may_not, "dlq", "purge", "--yes", "--queue", "jobs")
    ran = ask(amqp_url, "dlq", "replay", "--all", "--queue", "jobs", "--json")
    assert json.loads(ran.out)["replayed"] == DEAD
    eventually_sync(lambda: counts(ask, mine) == (4 + FINE + ONCE, 2 * DEAD))


def until_empty(amqp_url: str, mine: str, ray_cluster: str, results: Path, *, hides: bool) -> None:
    """It waits for what is in a rung, or says that it could not see it."""
    publish(amqp_url, "jobs", [Job(id="later", payload={"do": "raise", "times": 1})])
    pool = Command(mine, ray_cluster, *work(results, "jobs", "--until-empty"), **ONE_RUNG)
    code, out, err = pool.end(90)
    if not hides:
        assert (code, json.loads(out)["done"]) == (0, 1), err
        return
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert (code, out, len(errors)) == (2, "", 1), err
    assert "--until-empty cannot see what waits in jobs.retry.300" in errors[0]
