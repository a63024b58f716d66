"""Several addresses: the order in which they are tried, and what happens when the one that is connected to is lost.

Most tests have two vhosts of one node for two nodes: one is lost when its user gets another password.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import pytest

from rabbitray.actors.message.job import Job
from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.publisher import Publisher, SyncPublisher
from rabbitray.actors.rabbitmq.depth import DepthProbe
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.intake.config import IntakeConfig
from rabbitray.actors.router.intake.consumer import Intake
from rabbitray.actors.secret import Secret
from rabbitray.cluster.broker import PrivateBroker
from tests.kit.broker_users import Rights, user_with
from tests.kit.command_line import Run
from tests.kit.eventually import eventually
from tests.kit.publishing import QUEUE, config
from tests.kit.queue_access import declare, drained
from tests.kit.results_file import empty_file

ALL = Rights(configure=".*", write=".*", read=".*")


@dataclass(frozen=True)
class Place:
    """One address: `url` for its own user, `root` for the test."""

    broker: PrivateBroker
    url: str
    root: str

    @property
    def at(self) -> str:
        """As people see it."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port}{parts.path}"

    def lose(self) -> None:
        """Nobody is let in any more, and who is in is thrown out."""
        user = str(urlsplit(self.url).username)
        self.broker.api("PUT", f"/api/users/{user}", {"password": "another-one", "tags": ""})
        self.broker.ctl("close_all_user_connections", user, "lost")


@pytest.fixture
def places(broker: PrivateBroker, amqp_url: str) -> Iterator[tuple[Place, Place]]:
    other = broker.add_vhost(f"{urlsplit(amqp_url).path[1:]}-other")
    with user_with(broker, amqp_url, ALL) as first, user_with(broker, other, ALL) as second:
        yield Place(broker, first, amqp_url), Place(broker, second, other)
    broker.remove_vhost(urlsplit(other).path[1:])


async def test_the_router_goes_to_the_next_address_at_once(
    places: tuple[Place, Place], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first, second = places
    got: list[Delivery] = []
    intake = Intake(
        IntakeConfig(
            url=Secret(f"{first.url} {second.url}"),
            topology=Topology(queue=QUEUE),
            limits=MessageLimits(),
            steady_s=0.0,
        ),
        on_delivery=got.append,
        on_lost=lambda _: None,
    )
    await declare(second.root, QUEUE, x_queue_type="quorum", x_delivery_limit=20)
    await intake.open()
    try:
        assert intake.address == first.at
        await intake.consume(10)
        await asyncio.to_thread(first.lose)
        await publish_one(second.root)
        assert await eventually(lambda: got, within_s=20)
        assert (intake.address, intake.refused) == (second.at, None)
        assert f"Connected to RabbitMQ again at {second.at} (generation 2)" in caplog.text
        assert "next try in" not in caplog.text
    finally:
        await intake.close()


async def test_a_publisher_that_fails_over_loses_nothing_that_was_confirmed(places: tuple[Place, Place]) -> None:
    first, second = places
    await asyncio.gather(declare(first.root, QUEUE), declare(second.root, QUEUE))
    stop = asyncio.Event()
    patient = config(f"{first.url} {second.url}", confirm_timeout_s=60.0)
    with SyncPublisher(patient) as threaded:
        async with Publisher(patient) as publisher:
            load = asyncio.gather(publish_until(publisher, stop), asyncio.to_thread(publish_here, threaded, stop))
            await eventually(lambda: publisher.totals.confirmed >= 300, within_s=20)
            await asyncio.to_thread(first.lose)
            before = publisher.totals.confirmed
            await eventually(lambda: publisher.totals.confirmed >= before + 500, within_s=20)
            stop.set()
            confirmed = set().union(*await load)
    left, right = [{message.message_id for message in await drained(one.root, QUEUE)} for one in places]
    assert left
    assert right
    assert confirmed <= left | right


async def publish_until(publisher: Publisher, stop: asyncio.Event) -> set[str]:
    """Ids that were confirmed; each must be."""
    confirmed: set[str] = set()

    async def producer() -> None:
        while not stop.is_set():
            job = Job()
            await publisher.publish(job)
            confirmed.add(str(job.id))

    await asyncio.gather(*(producer() for _ in range(50)))
    return confirmed


def publish_here(publisher: SyncPublisher, stop: asyncio.Event) -> set[str]:
    """The same, from a thread."""
    confirmed = set()
    while not stop.is_set():
        job = Job()
        publisher.publish(job)
        confirmed.add(str(job.id))
    return confirmed


async def publish_one(url: str) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(aio_pika.Message(b"{}", message_id="m1"), QUEUE)


async def test_a_depth_is_known_in_the_same_look_in_which_the_connection_was_found_lost(
    places: tuple[Place, Place],
) -> None:
    first, second = places
    await asyncio.gather(declare(first.root, QUEUE), declare(second.root, QUEUE))
    await publish_one(second.root)
    probe = DepthProbe(Secret(f"{first.url} {second.url}"), QUEUE)
    try:
        assert await probe.ready() == 0
        await asyncio.to_thread(first.lose)
        assert await probe.ready() == 1
    finally:
        await probe.close()


def test_commands_take_the_first_address_that_lets_them_in(
    run: Run, places: tuple[Place, Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = places
    asyncio.run(declare(second.root, "jobs.dead"))
    empty_file(Path("results.duckdb"))
    first.lose()
    monkeypatch.setenv("RABBITMQ_URL", f"amqp://127.0.0.1:1/ {first.url} {second.url}")
    checked = run("check", "--no-ray")
    assert f"at amqp://***@{second.at}, login accepted" in checked.out
    assert checked.code == 0
    assert "warn   broker    RabbitMQ at 127.0.0.1:1/ (URL 1): " in checked.out
    assert f"warn   broker    RabbitMQ at {first.at} (URL 2): login refused; check user and password" in checked.out
    assert run("publish", "--generate", "2", "--create").code == 0
    assert run("dlq", "ls").code == 0
    assert len(asyncio.run(drained(second.root, QUEUE))) == 2


def test_check_tries_each_login_of_one_address(
    run: Run, places: tuple[Place, Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = places
    good, bad = first.root, f"{first.url}?heartbeat=30"
    empty_file(Path("results.duckdb"))
    first.lose()
    for urls, number in ((f"{good} {bad}", 2), (f"{bad} {good}", 1)):
        monkeypatch.setenv("RABBITMQ_URL", urls)
        warned = [line for line in run("check", "--no-ray").out.splitlines() if "login refused" in line]
        assert len(warned) == 1
        assert warned[0].startswith(f"warn   broker    RabbitMQ at {first.at} (URL {number}): login refused;")


@pytest.mark.parametrize("arguments", [("publish", "--generate", "1"), ("check", "--no-ray")])
def test_where_each_address_refuses_for_good_a_command_ends_at_once_and_says_what_each_said(
    run: Run, places: tuple[Place, Place], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    first, second = places
    first.lose()
    nowhere = f"{second.url}-not-there"
    monkeypatch.setenv("RABBITMQ_URL", f"{first.url} {nowhere}")
    ran = run(*arguments)
    assert ran.code == 2
    said = ran.out + ran.err
    assert f"RabbitMQ at 2 addresses: {first.at}: login refused;" in said
    assert f"; {second.at}-not-there: vhost refused (" in said
    assert "-secret" not in said


async def test_a_killed_node_is_left_for_the_other_one_and_taken_again_when_that_is_lost(
    amqp_url: str, own_broker: PrivateBroker, own_url: str
) -> None:
    """Two nodes, not clustered: what was confirmed lies on either."""
    await asyncio.gather(declare(own_url, QUEUE), declare(amqp_url, QUEUE))
    stop = asyncio.Event()
    async with Publisher(config(f"{own_url} {amqp_url}", confirm_timeout_s=60.0)) as publisher:
        load = asyncio.create_task(publish_until(publisher, stop))
        await eventually(lambda: publisher.totals.confirmed >= 500, within_s=20)
        await asyncio.to_thread(own_broker.kill)
        before = publisher.totals.confirmed
        await eventually(lambda: publisher.totals.confirmed >= before + 500, within_s=20)
        stop.set()
        confirmed = await load
    await asyncio.to_thread(own_broker.start)
    found = [{message.message_id for message in await drained(url, QUEUE)} for url in (own_url, amqp_url)]
    assert all(found)
    assert confirmed <= set().union(*found)
