"""Five real producers into one queue, each with an exchange of its own: pika, kombu, Celery, Dramatiq, aio-pika.

Every property is another one from message to message, and sometimes missing. Dramatiq knows the default exchange and a
priority alone. The queue is made by Dramatiq, so it is a classic one with priorities, and the pool takes it as it is.
They end their connections in peace instead of waiting for each confirm: RabbitMQ has taken everything then.
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import aio_pika
import dramatiq
import kombu
import msgpack
import pika
from celery import Celery
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from tests.kit.recorded import raw_channel

PRODUCERS = ("pika", "kombu", "celery", "dramatiq", "aio-pika")
LASTS_MS = 3_600_000
AT = datetime(2026, 1, 2, 12, tzinfo=UTC)
NO_FLOATS = "pika"
"""It does not write them in headers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """Where the producers send. `urls`: of each producer's own login; `folder`: that the messages name; `kind`: of the
    queue, `classic` with ten priorities or `quorum`.
    """

    queue: str
    folder: str
    urls: dict[str, str]
    kind: str = "classic"

    @property
    def tap(self) -> str:
        """The queue that gets a copy of all that comes through the producers' exchanges."""
        return f"{self.queue}.tap"

    def login(self, producer: str) -> str:
        """The user that this producer is."""
        return self.urls[producer].partition("//")[2].partition(":")[0]


def exchange_of(producer: str) -> str:
    """The exchange of this producer."""
    return f"shop.{producer}"


def declare(url: str, shop: Shop) -> None:
    """The queue as Dramatiq makes it, the tap, and the exchanges, which lead to both."""
    with _dramatiq(url, shop) as broker:
        broker.declare_queue(shop.queue, ensure=True)
    with raw_channel(url) as channel:
        channel.queue_declare(shop.tap, durable=True)
        for producer in PRODUCERS:
            channel.exchange_declare(exchange_of(producer), "topic", durable=True)
            for queue in (shop.queue, shop.tap):
                channel.queue_bind(queue, exchange_of(producer), "#")


# -- what is sent


def name_of(producer: str, number: int) -> str:
    """The id of a message."""
    return f"{producer}-{number}"


def document_of(shop: Shop, producer: str, number: int) -> dict[str, Any]:
    """A document that has field names of the report's form, and is none."""
    return {
        "id": name_of(producer, number), "folder": shop.folder, "timestamp": "2026-01-02T12:00:00Z", "userId": number,
        "payload": {"a": [1, None, True, 2.5]}, "m": 2**60 + number, "name": "grüße",
        "text": "x" * (30_000 if number % 101 == 7 else number % 300),
    }  # fmt: skip


def text_of(shop: Shop, producer: str, number: int) -> str:
    """A text that names the same."""
    return f"{name_of(producer, number)} {shop.folder}\ngrüße {'x' * (number % 300)}"


def bytes_of(shop: Shop, producer: str, number: int) -> bytes:
    """Bytes that name the same and are no text."""
    return text_of(shop, producer, number).encode() + bytes(range(256))


def headers_of(producer: str, number: int) -> dict[str, Any]:
    """Headers of every type, some of them, with other values from message to message."""
    raw = bytearray if producer == "aio-pika" else bytes
    nested = {"a": [1, "b", None, {"c": raw(b"\x00"), "n": number}], "at": AT}
    every = {
        "tenant": f"{producer} {number}", "small": number % 100, "count": 2**40 + number, "below": -number,
        "share": number / 7, "paid": number % 2 == 0, "nothing": None, "raw": raw([0, 255, number % 256]),
        "price": Decimal(number) / 100, "since": AT + timedelta(seconds=number), "nested": nested,
        "several": [number, "b", raw(b"\xff"), [True, None]], "grüße": "aus Köln", "empty": "", "none-in-it": {},
        "traceparent": f"00-{number + 1:032x}-{number + 1:016x}-00",
    }  # fmt: skip
    sent = {name: value for place, (name, value) in enumerate(every.items()) if (number + place) % 4}
    return {name: value for name, value in sent.items() if producer != NO_FLOATS or not isinstance(value, float)}


def properties_of(shop: Shop, producer: str, number: int) -> dict[str, Any]:
    """AMQP's properties but content type and encoding, under pika's names; `expiration` in milliseconds."""
    if number % 53 == 52:
        return {}
    name = name_of(producer, number)
    found = {
        "headers": headers_of(producer, number), "type": f"order.{number % 5}", "correlation_id": f"c-{name}",
        "reply_to": f"answers.{number % 9}", "app_id": f"{producer}/{number % 3}",
        "timestamp": int(AT.timestamp()) + number, "delivery_mode": 2,
    }  # fmt: skip
    sometimes = {
        "message_id": (number % 11 > 0, name), "priority": (number % 13 > 0, number % 10),
        "user_id": (number % 7 > 0, shop.login(producer)), "expiration": (number % 3 == 1, LASTS_MS + number),
    }  # fmt: skip
    return found | {name: value for name, (there, value) in sometimes.items() if there}


def body_of(shop: Shop, producer: str, number: int) -> tuple[bytes, dict[str, Any]]:
    """The body of those that serialize themselves, with its content type and encoding."""
    document = document_of(shop, producer, number)
    if number % 53 == 52:
        return json.dumps(document).encode(), {}
    body, kind = (
        (json.dumps(document).encode(), "application/json"),
        (msgpack.packb(document | {"raw": b"\xff"}), "application/msgpack"),
        (text_of(shop, producer, number).encode("latin-1"), "text/plain; charset=latin-1"),
        (bytes_of(shop, producer, number), "application/octet-stream"),
    )[number % 4]
    if number % 9:
        return body, {"content_type": kind}
    return gzip.compress(body, mtime=0), {"content_type": kind, "content_encoding": "gzip"}


# -- the producers


def by_pika(shop: Shop, count: int) -> None:
    with closing(pika.BlockingConnection(pika.URLParameters(shop.urls["pika"]))) as connection:
        channel = connection.channel()
        for number in range(count):
            own = properties_of(shop, "pika", number)
            own |= {"expiration": str(own["expiration"])} if "expiration" in own else {}
            own |= {"timestamp": own["timestamp"] * 1_000} if number % 17 == 0 and "timestamp" in own else {}
            body, kind = body_of(shop, "pika", number)
            properties = pika.BasicProperties(**own, **kind)
            channel.basic_publish(exchange_of("pika"), f"order.{number % 7}", body, properties)


def _kombu_properties(shop: Shop, producer: str, number: int) -> dict[str, Any]:
    """kombu takes seconds, and compresses by a header of its own."""
    own = properties_of(shop, producer, number)
    own |= {"expiration": own["expiration"] / 1_000} if "expiration" in own else {}
    return own | ({} if number % 9 else {"compression": "gzip"})


def by_kombu(shop: Shop, count: int) -> None:
    with kombu.Connection(shop.urls["kombu"]) as connection:
        producer = connection.Producer()
        for number in range(count):
            document = document_of(shop, "kombu", number)
            body, serializer = (
                (document, "json"),
                (document | {"raw": b"\xff"}, "msgpack"),
                (text_of(shop, "kombu", number), None),
                (bytes_of(shop, "kombu", number), None),
            )[number % 4]
            own = _kombu_properties(shop, "kombu", number)
            way = {"exchange": exchange_of("kombu"), "routing_key": f"order.{number % 7}", "serializer": serializer}
            producer.publish(body, **way, **own)


def by_celery(shop: Shop, count: int) -> None:
    app = Celery("shop", broker=shop.urls["celery"], set_as_current=False)
    exchange = kombu.Exchange(exchange_of("celery"), "topic", no_declare=True)
    queue = kombu.Queue(shop.queue, exchange, "order", no_declare=True)
    app.conf.update(task_queues=(queue,), task_default_queue=shop.queue, worker_hijack_root_logger=False)
    for number in range(count):
        own = _kombu_properties(shop, "celery", number)
        how = {"serializer": ("json", "msgpack")[number % 2], "routing_key": f"order.{number % 7}"}
        app.send_task(f"shop.bill{number % 3}", [number], document_of(shop, "celery", number), **how, **own)
    app.close()


class _OfAKind(RabbitmqBroker):
    """Dramatiq's broker, whose queues are of a kind, as those of a vhost with a default type."""

    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__(**options)
        self._kind = kind

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        return {**super()._build_queue_arguments(queue_name), "x-queue-type": self._kind}


@contextmanager
def _dramatiq(url: str, shop: Shop) -> Iterator[RabbitmqBroker]:
    priorities = 10 if shop.kind == "classic" else None
    broker = _OfAKind(shop.kind, url=url, max_priority=priorities, middleware=[])
    try:
        yield broker
    finally:
        broker.close()


def by_dramatiq(shop: Shop, count: int) -> list[dramatiq.Message[Any]]:
    """What it has sent: nothing but Dramatiq's own word says it."""

    def bill(**document: Any) -> None: ...

    with _dramatiq(shop.urls["dramatiq"], shop) as broker:
        actor = dramatiq.actor(bill, broker=broker, queue_name=shop.queue)
        return [
            actor.send_with_options(kwargs=document_of(shop, "dramatiq", number), **_dramatiq_options(number))
            for number in range(count)
        ]


def _dramatiq_options(number: int) -> dict[str, Any]:
    return {"broker_priority": number % 10} if number % 13 else {}


async def by_aio_pika(shop: Shop, count: int) -> None:
    async with (
        await aio_pika.connect(shop.urls["aio-pika"]) as connection,
        connection.channel(publisher_confirms=False) as channel,
    ):
        exchange = await channel.get_exchange(exchange_of("aio-pika"), ensure=False)
        for number in range(count):
            own = properties_of(shop, "aio-pika", number)
            own |= {"expiration": own["expiration"] / 1_000} if "expiration" in own else {}
            body, kind = body_of(shop, "aio-pika", number)
            await exchange.publish(aio_pika.Message(body, **own, **kind), f"order.{number % 7}")


def all_names(count: int) -> set[str]:
    """The ids of all messages, so many of each producer."""
    return {name_of(producer, number) for producer, number in itertools.product(PRODUCERS, range(count))}
