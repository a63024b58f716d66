"""Messages of other clients: whatever pika and kombu write, with and without ids, types and headers, is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import kombu
import msgpack
import pika
import pytest
from aio_pika.abc import AbstractIncomingMessage

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.headers import JOB_JSON, JOB_MSGPACK, MSGPACK
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.wire import MessageFormat, decode
from rabbitray.actors.publisher import Publisher, PublisherConfig
from tests.kit.queue_access import declare, drained

QUEUE = "jobs"
ID = "550e8400-e29b-41d4-a716-446655440000"
VERBOSE = {
    "messageId": ID,
    "userId": "user-123",
    "messageType": "BIRTHDAY",
    "scheduledSendTime": "2026-01-02T12:00:00.000Z",
    "timestamp": 1735819200000,
    "retryCount": 2,
}
COMPACT = {"i": ID, "u": "user-123", "t": "B", "s": 1767355200, "r": 2, "m": 1735819200000}
JOB = Job(
    id=ID,
    user_id="user-123",
    message_type="BIRTHDAY",
    scheduled_at=datetime(2026, 1, 2, 12, tzinfo=UTC),
    timestamp_ms=1735819200000,
    retry_count=2,
)


def read(message: AbstractIncomingMessage, message_format: MessageFormat = "auto") -> list[Job]:
    return decode(message.body, message.content_type, message.content_encoding, message_format=message_format)


def plain(document: Any) -> list[Job]:
    """A document that is not taken for a job: the payload as it was sent."""
    return [Job(id=None, payload=document)]


@pytest.fixture
def pika_channel(amqp_url: str) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    channel = connection.channel()
    channel.queue_declare(QUEUE, durable=True)
    yield channel
    connection.close()


@pytest.mark.parametrize("document", [VERBOSE, COMPACT], ids=["verbose", "compact"])
@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"message_id": ID},
        {"content_type": "application/json"},
        {"content_type": "application/json", "content_encoding": "utf-8", "headers": {"x": [1, {"y": None}]}},
    ],
    ids=["bare", "id", "type", "type-and-headers"],
)
async def test_json_by_pika(
    amqp_url: str, pika_channel: Any, document: dict[str, Any], properties: dict[str, Any]
) -> None:
    body = json.dumps(document).encode()
    pika_channel.basic_publish("", QUEUE, body, pika.BasicProperties(**properties))
    [message] = await drained(amqp_url, QUEUE)
    assert read(message) == ([JOB] if document is VERBOSE else plain(COMPACT))
    assert read(message, "report") == [JOB]
    assert read(message, "plain") == plain(document)
    assert message.message_id == properties.get("message_id")


@pytest.mark.parametrize("content_type", [None, MSGPACK, "application/x-msgpack", JOB_MSGPACK])
async def test_msgpack_by_pika(amqp_url: str, pika_channel: Any, content_type: str | None) -> None:
    properties = pika.BasicProperties(content_type=content_type)
    pika_channel.basic_publish("", QUEUE, msgpack.packb(COMPACT), properties)
    [message] = await drained(amqp_url, QUEUE)
    assert read(message) == ([JOB] if content_type == JOB_MSGPACK else plain(COMPACT))
    assert read(message, "report") == [JOB]


@pytest.mark.parametrize("document", [VERBOSE, COMPACT], ids=["verbose", "compact"])
async def test_json_with_our_mark_by_pika(amqp_url: str, pika_channel: Any, document: dict[str, Any]) -> None:
    pika_channel.basic_publish("", QUEUE, json.dumps(document), pika.BasicProperties(content_type=JOB_JSON))
    [message] = await drained(amqp_url, QUEUE)
    assert read(message) == read(message, "plain") == [JOB]


@pytest.mark.parametrize(
    ("body", "content_type", "payload"),
    [
        (b'{"order": 7}', None, {"order": 7}),
        (b'{"order": 7}', "application/json", {"order": 7}),
        (b"hello", "text/plain", "hello"),
        (b"\xff\x00", "application/octet-stream", b"\xff\x00"),
    ],
)
async def test_a_producer_s_own_format_by_pika_is_the_payload(
    amqp_url: str, pika_channel: Any, body: bytes, content_type: str | None, payload: Any
) -> None:
    pika_channel.basic_publish("", QUEUE, body, pika.BasicProperties(content_type=content_type))
    [message] = await drained(amqp_url, QUEUE)
    assert read(message) == plain(payload)


async def test_an_empty_message_by_pika_is_empty_bytes(amqp_url: str, pika_channel: Any) -> None:
    pika_channel.basic_publish("", QUEUE, b"")
    [message] = await drained(amqp_url, QUEUE)
    assert read(message) == plain(b"")


@pytest.fixture
def kombu_producer(amqp_url: str) -> Iterator[kombu.Producer]:
    with kombu.Connection(amqp_url) as connection:
        producer = connection.Producer()
        kombu.Queue(QUEUE, durable=True, channel=producer.channel).declare()
        yield producer


@pytest.mark.parametrize("document", [VERBOSE, COMPACT], ids=["verbose", "compact"])
@pytest.mark.parametrize("serializer", ["json", "msgpack"])
@pytest.mark.parametrize("extra", [{}, {"message_id": ID, "headers": {"x": "y"}}], ids=["bare", "id-and-headers"])
async def test_documents_by_kombu(
    amqp_url: str,
    kombu_producer: kombu.Producer,
    document: dict[str, Any],
    serializer: str,
    extra: dict[str, Any],
) -> None:
    kombu_producer.publish(document, routing_key=QUEUE, serializer=serializer, **extra)
    [message] = await drained(amqp_url, QUEUE)
    signed = document is VERBOSE and serializer == "json"
    assert read(message) == ([JOB] if signed else plain(document))
    assert read(message, "report") == [JOB]
    assert message.message_id == extra.get("message_id")


@pytest.mark.parametrize(("body", "payload"), [("grüße", "grüße"), (b"\xff", b"\xff"), ([1, 2], [1, 2])])
async def test_plain_values_by_kombu_are_the_payload(
    amqp_url: str, kombu_producer: kombu.Producer, body: Any, payload: Any
) -> None:
    kombu_producer.publish(body, routing_key=QUEUE)
    [message] = await drained(amqp_url, QUEUE)
    assert read(message) == plain(payload)


async def test_pickle_by_kombu_is_never_opened(amqp_url: str, kombu_producer: kombu.Producer) -> None:
    kombu_producer.publish({"i": ID}, routing_key=QUEUE, serializer="pickle")
    [message] = await drained(amqp_url, QUEUE)
    with pytest.raises(DecodeError, match="pickle_refused"):
        read(message)


async def test_pika_reads_what_we_write(amqp_url: str, pika_channel: Any) -> None:
    await declare(amqp_url, QUEUE)
    async with Publisher(PublisherConfig(url=amqp_url, queue=QUEUE, form="compact_json")) as publisher:
        await publisher.publish(JOB)
    method, properties, body = pika_channel.basic_get(QUEUE, auto_ack=True)
    assert method is not None
    assert (properties.message_id, properties.delivery_mode) == (ID, 2)
    assert json.loads(body) == COMPACT
