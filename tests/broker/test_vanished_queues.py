"""Queues of ours that vanish under a pool: what is said, what is waited for, what is declared anew."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

import aio_pika
import pytest
from aiormq.exceptions import ChannelNotFoundEntity

from rabbitray.actors.rabbitmq.consumer_timeout import ARGUMENT, ConsumerTimeout
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.rabbitmq.versions import behaviour, parse_version
from rabbitray.actors.router.holds.vanished import VANISHED
from rabbitray.cluster.broker import PrivateBroker
from tests.kit.eventually import eventually
from tests.kit.root import ROOT
from tests.kit.watched_path import RUNG_MS, WatchedPath

pytestmark = pytest.mark.versions

TOPOLOGY = Topology(queue="jobs")
OTHER_TYPE = {"quorum": "classic", "classic": "quorum"}
DLX = {"x-dead-letter-exchange": TOPOLOGY.exchange, "x-dead-letter-routing-key": TOPOLOGY.dropped_queue}
RUNG, DEAD, DROPPED = f"jobs.retry.{RUNG_MS}", "jobs.dead", "jobs.dropped"


class Node:
    """What an operator does to the vhost of the test, with rabbitmqctl, and what a producer does."""

    def __init__(self, broker: PrivateBroker, url: str) -> None:
        self.url = url
        self.vhost = url.rpartition("/")[2]
        self._broker = broker

    async def ctl(self, command: str, *arguments: str) -> str:
        return await asyncio.to_thread(self._broker.ctl, command, "-p", self.vhost, *arguments)

    async def delete(self, queue: str) -> None:
        self.api("DELETE", f"/api/queues/{{vhost}}/{queue}")

    def api(self, method: str, path: str, body: object = None) -> object:
        return self._broker.api(method, path.format(vhost=quote(self.vhost, safe="")), body)

    def policy(self, name: str, pattern: str, definition: object) -> None:
        self.api("PUT", "/api/policies/{vhost}/" + name, {"pattern": pattern, "definition": definition})

    def effective(self, queue: str) -> object:
        """What the policies of a queue come to, as the management tells it."""
        found = self.api("GET", f"/api/queues/{{vhost}}/{queue}")
        return found.get("effective_policy_definition") if isinstance(found, dict) else None

    def listed(self, queue: str) -> bool:
        """Whether the management lists it. A look over AMQP is a use, after which `expires` counts anew."""
        found: Any = self.api("GET", "/api/queues/{vhost}?columns=name")
        return queue in {one["name"] for one in found}

    async def ready(self, queue: str) -> int | None:
        """Messages in a queue; None where there is no such queue."""
        async with await aio_pika.connect(self.url) as connection, connection.channel() as channel:
            try:
                found = await channel.declare_queue(queue, passive=True)
            except ChannelNotFoundEntity:
                return None
            return found.declaration_result.message_count or 0

    def holds(self, queue: str, count: int | None) -> Callable[[], Awaitable[bool]]:
        async def look() -> bool:
            return await self.ready(queue) == count

        return look

    async def declare(self, queue: str, arguments: dict[str, Any]) -> None:
        """As an operator brings one back: without our binding."""
        async with await aio_pika.connect(self.url) as connection, connection.channel() as channel:
            await channel.declare_queue(queue, durable=True, arguments=arguments)

    async def bound(self, queue: str) -> bool:
        """Whether our exchange leads to it."""
        found: Any = self.api("GET", f"/api/queues/{{vhost}}/{queue}/bindings")
        return any(one["source"] == TOPOLOGY.exchange for one in found)

    async def asks(self, generation: int, arguments: dict[str, int]) -> None:
        """Waits until the consumer of this generation is told to have these arguments; the management may keep those of
        a queue that is gone."""

        def asked() -> list[dict[str, int]]:
            found: Any = self.api("GET", "/api/consumers/{vhost}")
            return [one["arguments"] for one in found if one["consumer_tag"].startswith(f"path-{generation}-")]

        assert await eventually(asked, within_s=20) == [arguments]

    async def publish(self, *keys: str) -> None:
        async with await aio_pika.connect(self.url) as connection, connection.channel() as channel:
            for key in keys:
                message = aio_pika.Message(b"{}", message_id=key, delivery_mode=2)
                await channel.default_exchange.publish(message, "jobs")


@pytest.fixture
def node(broker: PrivateBroker, amqp_url: str) -> Node:
    return Node(broker, amqp_url)


BOTH_TYPES = pytest.mark.parametrize("path", ["quorum", "classic"], indirect=True)


@pytest.fixture
async def path(request: pytest.FixtureRequest, amqp_url: str) -> AsyncIterator[WatchedPath]:
    found = WatchedPath(amqp_url, queue_type=getattr(request, "param", "quorum"))
    await found.start(workers=1, window=2, batch_size=1)
    await found.watch.look()
    yield found
    await found.stop()


async def test_an_empty_queue_is_declared_anew_and_told(
    path: WatchedPath, node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    await node.delete("jobs")
    event = await path.event("jobs")
    assert (event.state, event.messages, event.times) == ("made", 0, 1)
    await path.consumes()
    assert VANISHED not in path.router.holds
    assert path.watch.declared_again == 1
    await node.publish("k0")
    worker, batch = await path.batch()
    worker.done(batch)
    await eventually(lambda: path.rows() == {"k0": 1})
    assert caplog.text.count("queue 'jobs' vanished with 0 ready") == 1
    assert path.events == [event], "until somebody confirms it"
    assert await path.watch.confirm() == (event,)
    assert path.events == []


@BOTH_TYPES
async def test_a_queue_that_had_messages_is_waited_for_until_somebody_confirms_its_loss(
    path: WatchedPath, node: Node
) -> None:
    await path.router.hold("paused", "while messages gather")
    await node.publish(*(f"k{n}" for n in range(5)))
    await eventually(node.holds("jobs", 5))
    await path.watch.look()
    await node.delete("jobs")
    await path.router.release("paused")  # a consumer is asked for, and answered with 404
    event = await path.event("jobs")
    assert (event.state, event.ready, event.unacked) == ("missing", 5, 0)
    await eventually(lambda: VANISHED in path.router.holds)
    assert "queue 'jobs' vanished with 5 ready" in path.router.holds[VANISHED]
    assert "`rabbitray resume --vanished`" in path.router.holds[VANISHED]
    await eventually(lambda: path.intake.connected, within_s=20)
    await path.watch.look()
    assert await node.ready("jobs") is None, "nobody made it anew"
    assert await path.watch.confirm() == (event,)
    await path.consumes()
    assert (path.events, dict(path.router.holds)) == ([], {})
    await node.publish("k9")
    worker, batch = await path.batch()
    worker.done(batch)
    await eventually(lambda: path.rows() == {"k9": 1})


async def test_a_queue_that_does_not_know_of_its_consumer_is_not_believed_to_be_empty(
    path: WatchedPath,
) -> None:
    """As RabbitMQ tells of a quorum queue whose leader is away; here it is really paused."""
    await path.router.hold("paused", "no consumer")
    path.watch.vanished.saw("jobs", 5, time.time())
    path.watch.vanished.saw(DEAD, 7, time.time())
    path.says_consuming = True
    await path.watch.look()
    lost = [path.watch.vanished.gone(queue, time.time()) for queue in ("jobs", DEAD)]
    assert [event.ready for event in lost if event is not None] == [5, 7]


async def test_what_was_delivered_and_not_finished_counts(path: WatchedPath, node: Node) -> None:
    await node.publish("k0", "k1", "k2")
    await path.batch()
    await eventually(lambda: path.intake.unacked == 2)
    await eventually(node.holds("jobs", 1))
    await path.watch.look()
    await node.delete("jobs")
    event = await path.event("jobs")
    assert (event.state, event.ready, event.unacked) == ("missing", 1, 2)


async def test_retries_that_were_back_in_a_queue_that_vanished_are_not_expected_any_more(
    path: WatchedPath, node: Node
) -> None:
    await node.publish("k0")
    await path.fail()
    await eventually(node.holds(RUNG, 1))
    path.outstanding.went_in("k1", 1, RUNG_MS, round(time.time() * 1000) - RUNG_MS - 1_000)
    assert path.outstanding.out == 2
    await node.delete("jobs")
    await path.event("jobs")
    assert path.outstanding.out == 1, "k0 is still in its rung"


async def test_a_queue_that_comes_back_is_consumed_and_stays_told(path: WatchedPath, node: Node) -> None:
    await path.router.hold("paused", "while messages gather")
    await node.publish("k0", "k1")
    await eventually(node.holds("jobs", 2))
    await path.watch.look()
    await node.delete("jobs")
    await path.watch.look()  # a paused pool has no consumer that could be cancelled
    assert (await path.event("jobs")).state == "missing"
    await path.router.release("paused")
    assert list(path.router.holds) == [VANISHED]
    async with await aio_pika.connect(node.url) as other, other.channel() as channel:
        await channel.declare_queue("jobs", durable=True, arguments=path.topology.main_arguments())
    await node.publish("k0", "k1")
    await path.watch.look()
    assert dict(path.router.holds) == {}
    await path.consumes()
    await path.batch()
    assert [event.state for event in path.events] == ["back"]


@BOTH_TYPES
async def test_a_queue_that_was_away_is_consumed_as_what_it_is_now(
    path: WatchedPath, node: Node, broker: PrivateBroker
) -> None:
    """What a consumer may ask for hangs on the type; the binding went with the queue."""
    await node.publish("k0", "k1", "k2")
    await eventually(node.holds("jobs", 1))
    await path.watch.look()
    await node.delete("jobs")
    await eventually(lambda: VANISHED in path.router.holds)
    await eventually(lambda: path.intake.connected)
    await node.declare("jobs", {"x-queue-type": OTHER_TYPE[path.topology.queue_type]} | DLX)
    await path.watch.look()
    await path.consumes()
    asks = behaviour(parse_version(broker.version)).timeout_of_consumer and path.topology.queue_type == "classic"
    await node.asks(path.intake.generation, {ARGUMENT: 1_800_000} if asks else {})
    assert await node.bound("jobs")


async def test_a_queue_that_was_away_in_a_pause_is_consumed_as_what_it_is_now(
    amqp_url: str, node: Node, broker: PrivateBroker
) -> None:
    """No consumer was cancelled and nothing answered 404: it was only looked at."""
    await node.declare("jobs", {"x-queue-type": "classic"} | DLX)
    path = WatchedPath(amqp_url)
    await path.start(workers=1, window=2, batch_size=1)
    await path.router.hold("paused", "while the queue is made anew")
    await path.watch.look()
    await node.delete("jobs")
    await path.watch.look()
    assert (await path.event("jobs")).state == "made"
    await path.router.release("paused")
    await path.consumes()
    asks = behaviour(parse_version(broker.version)).timeout_of_consumer
    await node.asks(path.intake.generation, {ARGUMENT: 1_800_000} if asks else {})
    await path.stop()


@BOTH_TYPES
async def test_a_queue_that_was_made_anew_at_once_is_consumed_as_what_it_is_now(path: WatchedPath, node: Node) -> None:
    """Its consumer is cancelled, and by the time that we look another queue is there."""
    await node.delete("jobs")
    await node.declare("jobs", {"x-queue-type": OTHER_TYPE[path.topology.queue_type]} | DLX)
    await eventually(lambda: path.intake.reconnects)
    await path.consumes()
    assert await node.bound("jobs")
    await node.publish("k0")
    worker, batch = await path.batch()
    worker.done(batch)
    await eventually(lambda: path.rows() == {"k0": 1})


async def test_a_pool_with_a_long_handler_waits_for_a_queue_too(
    amqp_url: str, node: Node, broker: PrivateBroker
) -> None:
    """What the pool may ask for is not known while there is no queue; it is known, and asked for, once it is there."""
    before = WatchedPath(amqp_url)
    await before.start(workers=1, window=2, batch_size=1)
    before.watch.vanished.saw("jobs", 3, 0.0)
    kept = json.loads(json.dumps(before.watch.vanished.state()))
    await before.stop()
    await node.delete("jobs")
    does = behaviour(parse_version(broker.version))
    hold_s = 1_000 if does.timeout_of_consumer else 800
    path = WatchedPath(amqp_url, kept=kept, timeout=ConsumerTimeout(hold_s=hold_s))
    await path.start(workers=1, window=2, batch_size=1)
    assert VANISHED in path.router.holds
    await path.watch.confirm()
    await path.consumes()
    await node.asks(path.intake.generation, {ARGUMENT: 2_500_000} if does.timeout_of_consumer else {})
    await path.stop()


async def test_a_rung_that_comes_back_gets_its_binding(path: WatchedPath, node: Node) -> None:
    await node.publish("k0")
    await path.fail()
    await eventually(node.holds(RUNG, 1))
    await path.watch.look()
    await node.delete(RUNG)
    await path.watch.look()
    assert (await path.event(RUNG)).state == "missing"
    await node.declare(RUNG, path.topology.rung_arguments(RUNG_MS))
    await path.watch.look()
    assert dict(path.router.holds) == {}
    assert await node.bound(RUNG)


async def test_a_setting_declares_anew_at_once(amqp_url: str, node: Node) -> None:
    path = WatchedPath(amqp_url, wait=False)
    await path.start(workers=1, window=2, batch_size=1)
    await path.router.hold("paused", "while messages gather")
    await node.publish("k0", "k1")
    await eventually(node.holds("jobs", 2))
    await path.watch.look()
    await node.delete("jobs")
    await path.router.release("paused")
    event = await path.event("jobs")
    assert (event.state, event.ready) == ("made", 2)
    await path.consumes()
    assert VANISHED not in path.router.holds
    await path.stop()


async def test_the_next_router_knows_what_was_there(amqp_url: str, node: Node) -> None:
    before = WatchedPath(amqp_url)
    await before.start(workers=1, window=2, batch_size=1)
    await before.router.hold("paused", "while messages gather")
    await node.publish("k0", "k1", "k2")
    await eventually(node.holds("jobs", 3))
    await before.watch.look()
    kept = json.loads(json.dumps(before.watch.vanished.state()))
    await before.stop()
    await node.delete("jobs")
    await node.delete(DEAD)
    path = WatchedPath(amqp_url, kept=kept)
    await path.start(workers=1, window=2, batch_size=1)
    assert {event.queue: (event.state, event.ready) for event in path.events} == {
        "jobs": ("missing", 3),
        DEAD: ("made", 0),
    }
    assert VANISHED in path.router.holds
    assert await node.ready("jobs") is None
    await path.stop()


@BOTH_TYPES
async def test_a_rung_that_is_gone_is_declared_again_and_the_copy_goes_into_it(
    path: WatchedPath, node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    await node.delete(RUNG)
    await node.publish("k0", "k1")
    await path.fail()
    await path.fail()
    await eventually(node.holds(RUNG, 2))
    await eventually(lambda: not path.intake.unacked)
    assert path.outstanding.out == 2
    assert path.settler.tally.retried == 2
    assert [(event.queue, event.state) for event in path.events] == [(RUNG, "made")]
    assert path.watch.declared_again == 1
    assert caplog.text.count(f"queue '{RUNG}' vanished") == 1


async def test_a_rung_that_had_retries_is_waited_for(path: WatchedPath, node: Node) -> None:
    await node.publish("k0")
    await path.fail()
    await eventually(node.holds(RUNG, 1))
    assert path.outstanding.out == 1
    await node.delete(RUNG)
    await node.publish("k1")
    await path.fail()
    event = await path.event(RUNG)
    assert (event.state, event.ready) == ("missing", 1), "it was not looked at since, but we count what went in"
    await eventually(lambda: VANISHED in path.router.holds)
    assert path.outstanding.out == 0, "it is not expected back"
    await eventually(node.holds("jobs", 1))  # the copy found no way, and its message stays
    await path.watch.confirm()
    await path.fail()
    await eventually(node.holds(RUNG, 1))


@pytest.mark.parametrize("path", ["quorum", pytest.param("classic", marks=pytest.mark.long)], indirect=True)
async def test_dead_letters_that_a_policy_expires(path: WatchedPath, node: Node) -> None:
    """Empty or not, nobody consumes that queue: RabbitMQ deletes it, and whoever parks finds it gone."""
    node.policy("everything", ".*", {"expires": 300})
    await eventually(lambda: not node.listed(DEAD), within_s=30)
    node.api("DELETE", "/api/policies/{vhost}/everything")
    await node.publish("k0")
    await path.fail("dead")
    await eventually(node.holds(DEAD, 1))
    await eventually(lambda: not path.intake.unacked)
    assert (await path.event(DEAD)).state == "made"
    assert path.settler.tally.dead == 1


async def test_a_policy_of_a_higher_priority_keeps_others_away(path: WatchedPath, node: Node) -> None:
    command = path.topology.shielding_policy()
    assert command.startswith("rabbitmqctl set_policy --priority 100 --apply-to queues rabbitray-own ")
    assert Topology(queue="orders").shielding_policy() in (ROOT / "docs" / "operations.md").read_text()
    pattern, given = command.split(" rabbitray-own ")[1].replace("'", "").split(" ", 1)
    node.policy("everything", ".*", {"expires": 3_600_000})
    await node.ctl("set_policy", "--priority", "100", "--apply-to", "queues", "rabbitray-own", pattern, given)
    listed = [line.split("\t") for line in (await node.ctl("list_queues", "name", "policy")).splitlines()]
    told = {line[0]: line[1] for line in listed if line[0].startswith("jobs")}
    assert told == {"jobs": "everything"} | dict.fromkeys((RUNG, DEAD, DROPPED), "rabbitray-own")
    await eventually(lambda: node.effective(DEAD) == json.loads(given))


async def test_what_was_dropped_is_collected_again_after_its_queue_vanished(path: WatchedPath, node: Node) -> None:
    await node.delete(DROPPED)
    assert (await path.event(DROPPED)).state == "made"
    await eventually(node.holds(DROPPED, 0))
    async with await aio_pika.connect(node.url) as connection, connection.channel() as channel:
        exchange = await channel.get_exchange(path.topology.exchange)
        await exchange.publish(aio_pika.Message(b"{}", message_id="k0", delivery_mode=2), DROPPED)
    await eventually(node.holds(DEAD, 1), within_s=20)


async def test_a_binding_that_is_gone_is_made_again(
    path: WatchedPath, node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    async with await aio_pika.connect(node.url) as connection, connection.channel() as channel:
        await (await channel.get_queue(RUNG)).unbind(path.topology.exchange, RUNG)
    await node.publish("k0")
    await path.fail()
    await eventually(node.holds(RUNG, 1))
    assert path.events == []
    assert path.watch.declared_again == 1
    assert "Copies for" in caplog.text


async def test_an_exchange_that_is_gone_is_made_again(path: WatchedPath, node: Node) -> None:
    node.api("DELETE", "/api/exchanges/{vhost}/" + path.topology.exchange)
    await path.watch.look()
    await node.publish("k0")
    await path.fail()
    await eventually(node.holds(RUNG, 1))
