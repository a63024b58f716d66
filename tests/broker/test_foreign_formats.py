"""What real clients send, through a real broker, as a worker reads it: kombu, Celery, Dramatiq, pika, aio-pika; and
what the clients of Node sent (recorded).
"""

from __future__ import annotations

import asyncio
import bz2
import gzip
import itertools
import json
import logging
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aio_pika
import cbor2
import dramatiq
import kombu
import pika
import pytest
from celery import Celery, chain, chord, group
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from rabbitray.actors.message.message import message_of
from tests.kit import amqp10
from tests.kit.foreign_messages import QUEUE, Kept, kept, read, taken
from tests.kit.recorded import raw_channel

DUE = datetime(2030, 1, 2, 12, tzinfo=UTC)
ORDER = {"order": 7, "name": "grüße"}


@pytest.fixture
def celery_app(amqp_url: str) -> Iterator[Celery]:
    app = Celery("shop", broker=amqp_url, backend="cache+memory://", set_as_current=False)
    app.conf.update(task_default_queue=QUEUE, worker_hijack_root_logger=False)
    with raw_channel(amqp_url) as channel:
        channel.queue_declare(QUEUE, durable=True)
    yield app
    app.close()


def only_job(url: str, decoder: str) -> Any:
    [job], failures = read(taken(url), decoder)
    assert not failures, failures
    return job


# -- Celery


def test_a_task_of_celery_in_every_protocol_serializer_and_compression(amqp_url: str, celery_app: Celery) -> None:
    ways = list(itertools.product((1, 2), ("json", "msgpack"), (None, "gzip", "bzip2", "zstd")))
    ids = []
    for protocol, serializer, compression in ways:
        celery_app.conf.task_protocol = protocol
        how = {"serializer": serializer, "compression": compression}
        ids.append(celery_app.send_task("shop.bill", [7, "grüße"], {"to": "a"}, eta=DUE, expires=DUE, **how).id)
    jobs, failures = read(taken(amqp_url), "celery")
    assert not failures, failures
    assert [job.key for job in jobs] == [job.id for job in jobs] == ids
    for job in jobs:
        assert job.payload == {"args": [7, "grüße"], "kwargs": {"to": "a"}}
        assert (job.message_type, job.scheduled_at, job.retry_count) == ("shop.bill", DUE, 0)


def test_arguments_that_json_has_no_form_for(amqp_url: str, celery_app: Celery) -> None:
    celery_app.send_task("shop.bill", [DUE, b"\xff"])
    job = only_job(amqp_url, "celery")
    assert job.payload["args"] == [DUE, b"\xff"]


def test_a_countdown_is_told(amqp_url: str, celery_app: Celery) -> None:
    celery_app.send_task("shop.bill", [1], countdown=60)
    job = only_job(amqp_url, "celery")
    assert timedelta(seconds=50) < job.scheduled_at - datetime.now(UTC) < timedelta(seconds=70)


def test_a_member_of_a_group_is_a_task(amqp_url: str, celery_app: Celery) -> None:
    group(celery_app.signature("shop.bill", args=(n,)) for n in range(3)).apply_async()
    jobs, failures = read(taken(amqp_url), "celery")
    assert not failures
    assert [job.payload["args"] for job in jobs] == [[0], [1], [2]]
    assert len({job.key for job in jobs}) == 3


@pytest.mark.parametrize("protocol", [1, 2])
def test_what_celery_would_do_next_is_not_done_half(amqp_url: str, celery_app: Celery, protocol: int) -> None:
    celery_app.conf.task_protocol = protocol
    first, then = (celery_app.signature(name, args=(1,)) for name in ("shop.bill", "shop.mail"))
    first.apply_async(link=then)
    first.apply_async(link_error=then)
    chain(first, then).apply_async()
    chord([first, first.clone()], then, app=celery_app).apply_async()
    jobs, failures = read(taken(amqp_url), "celery")
    assert not jobs
    assert [failure.reason for failure in failures] == ["celery_canvas"] * 5


def test_a_pickle_is_not_opened_by_any_format(amqp_url: str, celery_app: Celery) -> None:
    celery_app.send_task("shop.bill", [1], serializer="pickle")
    parcels = taken(amqp_url)
    for decoder in ("celery", "auto"):
        jobs, [failure] = read(parcels, decoder)
        assert not jobs
        assert failure.reason == "pickle_refused"


# -- kombu


def test_what_kombu_compresses_is_read_by_its_type(amqp_url: str) -> None:
    ways = ("gzip", "bzip2", "lzma", "brotli", "zstd")
    with kombu.Connection(amqp_url) as connection:
        producer = connection.Producer()
        kombu.Queue(QUEUE, durable=True, channel=producer.channel).declare()
        for compression in ways:
            producer.publish(ORDER, routing_key=QUEUE, compression=compression)
            producer.publish("x" * 5_000, routing_key=QUEUE, compression=compression)
    jobs, failures = read(taken(amqp_url))
    assert not failures
    assert [job.payload for job in jobs] == [ORDER, "x" * 5_000] * len(ways)


# -- Dramatiq


@pytest.fixture
def actor(amqp_url: str) -> Iterator[Callable[..., dramatiq.Message[Any]]]:
    broker = RabbitmqBroker(url=amqp_url)
    logging.getLogger("pika").setLevel(logging.ERROR)

    def bill(*args: Any, **kwargs: Any) -> None: ...

    yield dramatiq.actor(bill, broker=broker, queue_name=QUEUE)
    broker.close()


def test_a_message_of_dramatiq(amqp_url: str, actor: Any) -> None:
    sent = actor.send(7, name="grüße")
    job = only_job(amqp_url, "dramatiq")
    assert (job.payload["args"], job.payload["kwargs"]) == ([7], {"name": "grüße"})
    assert (job.id, job.message_type, job.timestamp_ms) == (sent.message_id, "bill", sent.message_timestamp)


def test_dramatiq_s_delays_and_pipelines(amqp_url: str, actor: Any) -> None:
    actor.send_with_options(args=(1,), delay=60_000)
    [job], _ = read(taken(amqp_url, f"{QUEUE}.DQ"), "dramatiq")
    assert timedelta(seconds=50) < job.scheduled_at - datetime.now(UTC) < timedelta(seconds=70)
    dramatiq.pipeline([actor.message(1), actor.message()], broker=actor.broker).run()
    jobs, [failure] = read(taken(amqp_url), "dramatiq")
    assert not jobs
    assert failure.reason == "dramatiq_composition"


# -- pika and aio-pika


@pytest.fixture
def pika_channel(amqp_url: str) -> Iterator[Any]:
    with raw_channel(amqp_url) as channel:
        channel.queue_declare(QUEUE, durable=True)
        yield channel


BODY = json.dumps(ORDER, ensure_ascii=False).encode()


WAYS: list[tuple[bytes, dict[str, Any], Any]] = [
    (gzip.compress(BODY), {"content_type": "application/json", "content_encoding": "gzip, utf-8"}, ORDER),
    (gzip.compress(BODY[:9]) + gzip.compress(BODY[9:]), {"content_encoding": "X-GZIP"}, ORDER),
    (zlib.compress(BODY), {"content_type": "application/json", "content_encoding": "deflate"}, ORDER),
    (bz2.compress(BODY), {"content_type": "application/json", "content_encoding": "bzip2"}, ORDER),
    (BODY.decode().encode("latin-1"), {"content_type": "application/json; charset=latin-1"}, ORDER),
    (cbor2.dumps(ORDER), {"content_type": "application/cbor"}, ORDER),
    (b"\x08\x07", {"content_type": "application/x-protobuf"}, b"\x08\x07"),
    (b"\x08\x07", {}, b"\x08\x07"),
    (b"", {}, b""),
]


def test_other_types_and_encodings_by_pika(amqp_url: str, pika_channel: Any) -> None:
    for body, properties, _ in WAYS:
        pika_channel.basic_publish("", QUEUE, body, pika.BasicProperties(**properties))
    jobs, failures = read(taken(amqp_url))
    assert not failures
    assert [job.payload for job in jobs] == [payload for _, _, payload in WAYS]


async def test_cloudevents_by_aio_pika(amqp_url: str) -> None:
    event = {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "order.created", "subject": "7"}
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        await channel.declare_queue(QUEUE, durable=True)
        binary = {f"cloudEvents:{name}": value for name, value in event.items()}
        for body, kind, headers in (
            (json.dumps(event | {"datacontenttype": "application/json", "data": ORDER}), "cloudevents+json", {}),
            (json.dumps(ORDER), "json", binary),
        ):
            message = aio_pika.Message(body.encode(), content_type=f"application/{kind}", headers=headers)
            await channel.default_exchange.publish(message, QUEUE)
    parcels = await asyncio.to_thread(taken, amqp_url)
    jobs, failures = read(parcels, "cloudevents")
    assert not failures
    assert jobs[0].payload == jobs[1].payload == event | {"datacontenttype": "application/json", "data": ORDER}
    assert {(job.key, job.message_type) for job in jobs} == {("/shop e-1", "order.created")}
    [structured, plain], _ = read(parcels)
    assert structured.payload == jobs[0].payload, "known by its type, whatever the setting"
    assert plain.payload == ORDER


@pytest.mark.versions(since="4.0")
async def test_bodies_of_amqp_1_0_are_taken_out(amqp_url: str, pika_channel: Any) -> None:
    value = b"\x00Sw"
    encoded = amqp10.message(b"", message_id="m", properties={}).replace(b"\x00Su\xb0\x00\x00\x00\x00", value)
    bodies = [amqp10.text("hello"), amqp10.text(json.dumps(ORDER)), b"\xb0\x00\x00\x00\x02{}", amqp10.uint(7)]
    await amqp10.send(amqp_url, QUEUE, [encoded + body for body in bodies])
    jobs, failures = read(await asyncio.to_thread(taken, amqp_url))
    assert [job.payload for job in jobs] == ["hello", ORDER, {}]
    assert [(one.position, one.reason) for one in failures] == [(3, "amqp_value")]


# -- Node's clients, recorded


@pytest.mark.parametrize("message", kept(), ids=lambda one: f"{one.client} {one.name}")
def test_what_the_clients_of_node_sent(message: Kept) -> None:
    parcel = message.parcel()
    jobs, failures = read([parcel])
    if message.client == "rhea" and message.sent is None:
        assert not jobs
        assert [one.reason for one in failures] == ["amqp_value"]
        return
    assert not failures
    expected = message.sent if message.sent is not None else parcel.body
    assert jobs[0].payload == expected
    if message.name == "cloudevent":
        [event], _ = read([parcel], "cloudevents")
        assert (event.payload["data"], event.key) == (ORDER, "/node e-1")
    if message.name == "properties":
        whole = message_of(parcel.envelope, parcel.body, parcel.received_ms)
        assert (whole.type, whole.app_id, whole.priority, whole.reply_to) == ("order", "shop", 4, "answers")
        assert whole.headers["map"] == {"a": 1}
