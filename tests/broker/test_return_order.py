"""In which order messages come back, by what gave them back: the table of docs/rabbitmq.md, tried on this broker."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pika
import pytest

from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.rabbitmq.versions import parse_version
from rabbitray.cluster.broker import PrivateBroker
from tests.kit.eventually import eventually_sync
from tests.kit.root import ROOT

MESSAGES = 8
HELD = 4
"""The first HELD of MESSAGES are delivered and come back; how they lie among the others then is the order."""

Channel = Any  # pika's BlockingChannel, which has no types
GiveBack = Callable[[str, str], None]


def in_words(order: list[int]) -> str:
    """Where 1 to HELD, which came back, lie among the rest."""
    back, rest = list(range(1, HELD + 1)), list(range(HELD + 1, MESSAGES + 1))
    known = {
        tuple(back + rest): "first, in order",
        tuple(back[::-1] + rest): "first, last one first",
        tuple(rest + back): "last, in order",
        tuple(rest + back[::-1]): "last, last one first",
    }
    return known.get(tuple(order), str(order))


def hold(channel: Channel, queue: str) -> list[int]:
    """Consumes until HELD messages are there; their tags."""
    tags: list[int] = []
    channel.basic_qos(prefetch_count=HELD)
    channel.basic_consume(queue, lambda _channel, method, _properties, _body: tags.append(method.delivery_tag))
    while len(tags) < HELD:
        channel.connection.process_data_events(time_limit=1)
    return tags


def nack_each(channel: Channel, tags: list[int]) -> None:
    for tag in tags:
        channel.basic_nack(tag, requeue=True)


def by(settle: Callable[[Channel, list[int]], None]) -> GiveBack:
    """As a pause, a hold and a drain do it: the consumer is cancelled, and what it holds is given back by `settle`."""

    def give_back(url: str, queue: str) -> None:
        with pika.BlockingConnection(pika.URLParameters(url)) as connection:
            channel = connection.channel()
            tags = hold(channel, queue)
            for consumer in list(channel.consumer_tags):
                channel.basic_cancel(consumer)
            settle(channel, tags)

    return give_back


def lost_channel(url: str, queue: str) -> None:
    """The broker closes it: an ack of an unknown tag."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        hold(channel, queue)
        channel.basic_ack(10**6)
        with pytest.raises(pika.exceptions.ChannelClosedByBroker):
            channel.queue_declare(queue, passive=True)


HOLDER = """
import sys, pika
from tests.broker.test_return_order import hold
hold(pika.BlockingConnection(pika.URLParameters(sys.argv[1])).channel(), sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


def killed_router(url: str, queue: str) -> None:
    """SIGKILL to the process that holds them."""
    command = [sys.executable, "-c", HOLDER, url, queue]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.kill()


def documented(way: str, kind: str, version: str) -> str:
    """What docs/rabbitmq.md says about this series."""
    lines = [line for line in (ROOT / "docs/rabbitmq.md").read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    head = next(one for one in cells if one[:2] == ["given back by", "queue"])
    column = head.index(".".join(version.split(".")[:2]))
    return next(one for one in cells if one[:2] == [way, kind])[column]


WAYS: dict[str, GiveBack] = {
    "nack, one by one": by(nack_each),
    "nack, last one first": by(lambda channel, tags: nack_each(channel, tags[::-1])),
    "nack, `multiple`": by(lambda channel, tags: channel.basic_nack(tags[-1], multiple=True, requeue=True)),
    "channel lost": lost_channel,
    "router killed": killed_router,
}


def arguments(kind: str, version: str) -> dict[str, Any]:
    """Of a queue as we make it, or with the limit that RabbitMQ 4 gives to others."""
    if kind == "quorum, limit 20":
        return {"x-queue-type": "quorum", "x-delivery-limit": 20}
    made = Topology(queue="order", queue_type=kind).on(parse_version(version)).queues()["order"]
    return {name: value for name, value in made.items() if name in ("x-queue-type", "x-delivery-limit")}


@pytest.fixture
def filled(amqp_url: str, broker: PrivateBroker, kind: str) -> tuple[str, str]:
    """Address, and a queue of this kind with MESSAGES messages."""
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("order", durable=True, arguments=arguments(kind, broker.version))
        for number in range(1, MESSAGES + 1):
            channel.basic_publish("", "order", str(number).encode(), pika.BasicProperties(delivery_mode=2))
    return amqp_url, "order"


def drain(url: str, queue: str) -> list[int]:
    """All messages, one after another; they stay unacked meanwhile."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()

        def all_back() -> bool:
            return channel.queue_declare(queue, passive=True).method.message_count == MESSAGES

        eventually_sync(all_back, within_s=30)
        return [int(channel.basic_get(queue)[2]) for _ in range(MESSAGES)]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["classic", "quorum", "quorum, limit 20"])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_given_back_lies_where_the_documents_say(
    filled: tuple[str, str], broker: PrivateBroker, kind: str, way: str
) -> None:
    WAYS[way](*filled)
    assert in_words(drain(*filled)) == documented(way, kind, broker.version)
