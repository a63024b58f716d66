"""Users with few rights on a real node: what they may is found without doing it, and a 403 on a look is no error.

From RabbitMQ 4.2.6 and 4.3.1 on a look needs a right: there the rows about what is hidden are true, below they are not.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import pytest

from rabbitray.actors.errors import ConfigurationError, TopologyError
from rabbitray.actors.rabbitmq.declare import TopologyBuilder
from rabbitray.actors.rabbitmq.depth import DepthProbe
from rabbitray.actors.rabbitmq.inspect import Examination, examine
from rabbitray.actors.rabbitmq.look import look, look_at_exchange
from rabbitray.cluster.broker import PrivateBroker
from rabbitray.cluster.operate.preflight import preflight
from rabbitray.cluster.settings import load
from tests.kit.broker_users import DOCUMENTED, NONE, OF_OLD, PRODUCER, Rights, give, look_needs_a_right, user_with
from tests.kit.command_line import Run
from tests.kit.jobs_topology import JOBS
from tests.kit.queue_access import declare, drained

pytestmark = pytest.mark.versions

ALL = {JOBS.exchange, *JOBS.queues()}
UNSEEN_OF_OLD = {JOBS.dead_queue, *map(JOBS.rung, JOBS.rung_delays_ms)}


@asynccontextmanager
async def made(amqp_url: str, url: str) -> AsyncIterator[aio_pika.abc.AbstractConnection]:
    """A connection to `url`; the queues were made before, with one message in the main queue."""
    async with await aio_pika.connect(amqp_url) as owner:
        assert await TopologyBuilder(owner, JOBS).build() == []
        channel = await owner.channel()
        await channel.default_exchange.publish(aio_pika.Message(b"{}"), JOBS.queue)
    async with await aio_pika.connect(url) as connection:
        yield connection


def hidden(found: Examination) -> set[str]:
    return {finding.name for finding in (found.exchange, *found.queues) if finding.there is None}


@pytest.mark.parametrize(
    ("rights", "lacking", "unseen"),
    [
        (DOCUMENTED, [], set()),
        (OF_OLD, [], UNSEEN_OF_OLD),
        (Rights(read=".*"), ["publish to exchange 'jobs.rabbitray'"], set()),
        (Rights(write=".*", read="^jobs$"), ["consume queue 'jobs.dropped'"], set()),
        (
            NONE,
            ["consume queue 'jobs'", "consume queue 'jobs.dropped'", "publish to exchange 'jobs.rabbitray'"],
            ALL,
        ),
    ],
    ids=["documented", "of old", "may not park", "may not collect", "none"],
)
async def test_what_a_user_may_is_found_and_nothing_is_touched(
    broker: PrivateBroker, amqp_url: str, rights: Rights, lacking: list[str], unseen: set[str]
) -> None:
    with user_with(broker, amqp_url, rights) as url:
        async with made(amqp_url, url) as connection:
            found = await examine(connection, JOBS)
            warnings = await TopologyBuilder(connection, JOBS).build()
    assert len(found.lacking) == len(lacking)
    assert all(f"may not {what} (403)" in line for what, line in zip(lacking, found.lacking, strict=True))
    assert found.refused == list(found.lacking)
    expected = unseen if look_needs_a_right(broker) else set()
    assert hidden(found) == expected
    assert sum("may not look at it (403)" in line for line in warnings) == len(expected)
    if JOBS.queue not in expected:
        [line] = [
            line for line in warnings if line.startswith("queue 'jobs' could not be compared (no `configure` right)")
        ]
        assert "make sure that it is durable, no stream, and has x-dead-letter-exchange='jobs.rabbitray'" in line
        assert line in found.warnings, "`check` says the same"
    [message] = await drained(amqp_url, JOBS.queue)
    assert not message.redelivered, "no look and no question took the message"


async def test_who_may_make_the_queues_has_all_rights_before_and_after(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as owner:
        found = await examine(owner, JOBS)
        assert (found.refused, found.warnings) == ([], [])
        assert {finding.there for finding in (found.exchange, *found.queues)} == {False}
        assert not (await look(owner, JOBS.queue)).there, "a question makes no queue"
        assert not (await look_at_exchange(owner, JOBS.exchange)).there
        await TopologyBuilder(owner, JOBS).build()
        found = await examine(owner, JOBS)
        assert (found.refused, found.warnings) == ([], [])


async def test_what_is_missing_and_cannot_be_made_is_refused(broker: PrivateBroker, amqp_url: str) -> None:
    with user_with(broker, amqp_url, Rights(write=".*", read=".*")) as url:
        async with await aio_pika.connect(url) as connection:
            found = await examine(connection, JOBS)
            assert len(found.refused) == len(ALL)
            assert all("does not exist and this user may not create it (403)" in line for line in found.refused)
            with pytest.raises(TopologyError, match=r"exchange 'jobs.rabbitray' does not exist and this user may not"):
                await TopologyBuilder(connection, JOBS).build()


async def test_a_depth_that_may_not_be_seen_is_unknown_and_says_why(
    broker: PrivateBroker, amqp_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    await declare(amqp_url, "jobs")
    with user_with(broker, amqp_url, NONE) as url:
        probe = DepthProbe(url, "jobs")
        if look_needs_a_right(broker):
            assert await probe.ready() is None
            assert probe.retry_in_s > 0
            assert "queue depth of jobs is unknown: this user may not look at it (403); grant it" in caplog.text
        else:
            assert await probe.ready() == 0
        await probe.close()


# commands


@pytest.mark.parametrize(
    ("until_empty", "seen"), [(False, DOCUMENTED), (True, DOCUMENTED), (False, OF_OLD), (True, OF_OLD)]
)
async def test_before_a_run_rights_are_looked_at(
    broker: PrivateBroker, amqp_url: str, tmp_path: Path, until_empty: bool, seen: Rights
) -> None:
    """`--until-empty` must see the rungs."""
    with user_with(broker, amqp_url, seen) as url:
        async with made(amqp_url, url):
            given = {"results": str(tmp_path / "results.duckdb"), "retry_delay_ms": 1_000, "retry_max_delay_ms": 2_000}
            step = preflight(load(given, {"RABBITMQ_URL": url}, None), until_empty=until_empty)
            if until_empty and seen is OF_OLD and look_needs_a_right(broker):
                with pytest.raises(ConfigurationError, match=r"cannot see what waits in jobs\.retry\.1000, jobs"):
                    await step()
            else:
                await step()
        give(broker, urlsplit(url).username or "", amqp_url, NONE)
        with pytest.raises(ConfigurationError) as caught:
            await step()
        assert "this user may not consume queue 'jobs' (403)" in str(caught.value)
    assert not os.listdir(tmp_path)


def test_check_tells_of_rights_and_of_what_was_not_compared(
    run: Run, broker: PrivateBroker, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBITMQ_URL", amqp_url)
    assert run("publish", "--generate", "1", "--create").code == 0
    told = run("check", "--no-ray", "--json")
    assert (told.code, [row["text"] for row in told.json if row["text"].startswith("this user")]) == (
        0,
        ["this user may consume, retry and park"],
    )
    for rights, code, says in (
        (DOCUMENTED, 0, "queue 'jobs' could not be compared (no `configure` right)"),
        (NONE, 2, "this user may not consume queue 'jobs' (403): grant it `read` on it"),
    ):
        with user_with(broker, amqp_url, rights) as url:
            monkeypatch.setenv("RABBITMQ_URL", url)
            ran = run("check", "--no-ray")
        assert (ran.code, ran.err) == (code, "")
        assert says in ran.out


def test_a_producer_publishes_to_what_it_may_not_look_at(
    run: Run, broker: PrivateBroker, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBITMQ_URL", amqp_url)
    assert run("publish", "--generate", "1", "--create").code == 0
    with user_with(broker, amqp_url, PRODUCER) as url:
        monkeypatch.setenv("RABBITMQ_URL", url)
        ran = run("publish", "--generate", "3", "--json")
        lost = run("publish", "--generate", "1", "--queue", "nobodys", "--json")
    assert (ran.code, ran.json["published"]) == (0, 3)
    if not look_needs_a_right(broker):
        assert "queue 'nobodys' does not exist" in lost.err
        return
    assert "may not look at queue 'jobs' (403)" in ran.err
    assert (lost.code, lost.json["failed"]["unroutable"]) == (1, 1)
    assert "no queue takes it (RabbitMQ: 312 NO_ROUTE); check the queue's name" in lost.json["errors"][0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("dlq", "purge", "--yes"), "this user may not read queue 'jobs.dead' (403): grant it `read` on it"),
        (("dlq", "replay", "--all"), "this user may not read queue 'jobs.dead' (403): grant it `read` on it"),
        (("dlq", "purge"), "add --yes"),
        (("publish", "--generate", "1", "--create", "--queue", "other"), "may not create it (403)|may not look at it"),
    ],
    ids=["purge", "replay", "ask first", "create"],
)
def test_who_may_not_is_told_in_one_line(
    run: Run,
    broker: PrivateBroker,
    amqp_url: str,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    says: str,
) -> None:
    monkeypatch.setenv("RABBITMQ_URL", amqp_url)
    assert run("publish", "--generate", "1", "--create").code == 0
    assert run("publish", "--generate", "1", "--queue", "jobs.dead").code == 0
    with user_with(broker, amqp_url, Rights(write=r"^(amq\.default)?$", read="^jobs$")) as url:
        monkeypatch.setenv("RABBITMQ_URL", url)
        ran = run(*arguments)
    assert ran.code in (1, 2), ran
    assert any(text in ran.err for text in says.split("|")), ran
    assert "Traceback" not in ran.err
    if "--create" not in arguments:
        assert ran.err.count("\n") == 1
