"""A producer's own documents, by the real way: published by a plain client, received by the intake, read as a worker
does; and once more as a retry copy, and as what an earlier version left.
"""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import aio_pika
import pytest

from rabbitray.actors.message.job import Job
from rabbitray.actors.message.parcel import records_of, whole_message
from rabbitray.actors.message.wire import MessageFormat, MessageLimits
from rabbitray.actors.publisher import Publisher, PublisherConfig
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.settlement.copies import CopyOutbox
from rabbitray.actors.worker.batch.decoding import IdentityRules, decode_parcels
from tests.kit.intake_ways import TOPOLOGY, RealWay, all_got
from tests.kit.recorded import RawProperties, raw_channel, read, recordings

ROWS: tuple[dict[str, Any], ...] = (
    {"userId": "u1", "timestamp": 1735819200000, "event": "click", "page": "/"},
    {"timestamp": "2026-01-02T12:00:00Z", "payload": {"a": 1}, "event": "order.created", "id": "evt_1"},
    {"userId": 42, "payload": {"a": 1}},
    {"t": 21.5, "p": 1013, "h": 40, "sensor": "s1"},
    {"m": 1, "s": 2},
    {"i": "sensor-7", "t": "temperature", "r": 3},
)


def as_worker(delivery: Delivery, message_format: MessageFormat = "auto") -> list[Job]:
    """The jobs that a worker makes of a delivery."""
    units, failures = decode_parcels([delivery.parcel], MessageLimits(), IdentityRules(), message_format=message_format)
    assert not failures, failures
    return [unit.job for unit in units]


async def test_every_document_arrives_as_it_was_sent_also_as_a_retry(amqp_url: str) -> None:
    """With a time and a message id, which an earlier version took over into headers of ours."""
    way = RealWay(amqp_url)
    await way.start()
    await way.intake.open()
    await way.intake.consume(100)
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        for number, row in enumerate(ROWS):
            message = aio_pika.Message(
                json.dumps(row).encode(),
                content_type="application/json",
                message_id="sensor-7" if row is ROWS[-1] else f"row-{number}",
                timestamp=int(time.time()),
                type="BIRTHDAY",
                delivery_mode=2,
            )
            await channel.default_exchange.publish(message, TOPOLOGY.queue)
    await all_got(way, len(ROWS))
    first = list(way.got)
    async with Publisher(PublisherConfig(url=amqp_url, queue=TOPOLOGY.queue)) as publisher:
        outbox = CopyOutbox(publisher, TOPOLOGY)
        for delivery in first:
            await outbox.again(delivery, whole_message(delivery.parcel))
    await all_got(way, 2 * len(ROWS))
    for delivery, row in zip(way.got, [*ROWS, *ROWS], strict=True):
        [job] = as_worker(delivery)
        assert (job.payload, job.id, job.message_type) == (row, None, "")
        assert job.key == delivery.parcel.message_id
        assert not delivery.parcel.stamped
    await way.close()


@pytest.mark.parametrize("path", recordings(), ids=lambda path: path.stem)
async def test_what_an_earlier_publisher_left_has_its_key_and_input_under_every_setting(
    amqp_url: str, path: Any
) -> None:
    """`report` reads as every version before did: what the other settings make of it is the same, key for key.

    Of what other clients sent, with no mark and less than the signature, `report` alone knows the key.
    """
    recording = read(path)
    way = RealWay(amqp_url)
    await way.start()
    await way.intake.open()
    with raw_channel(amqp_url) as channel:
        for left in recording.messages:
            properties = RawProperties(base64.b64decode(left.properties))
            channel.basic_publish("", TOPOLOGY.queue, base64.b64decode(left.body), properties, mandatory=True)
    await way.intake.consume(200)
    await all_got(way, len(recording.messages))
    unreadable, strangers, checked = set(), set(), 0
    for delivery in way.got:
        _, failures = decode_parcels([delivery.parcel], MessageLimits(), IdentityRules(), message_format="report")
        if failures:
            unreadable.add(delivery.parcel.message_id)
            continue
        before = as_worker(delivery, "report")
        for message_format in ("auto", "plain"):
            now = as_worker(delivery, message_format)
            checked += 1
            if now != before:
                strangers.add(before[0].key)
                assert not delivery.parcel.stamped
            elif delivery.parcel.stamped:
                heads = records_of(delivery.parcel, MessageLimits(), message_format=message_format)
                assert [one.key for one in heads] == [job.key for job in now]
    assert unreadable == {"bad-msgpack", "bad-json", "bad-packed"}
    assert strangers == {"foreign-gzip", "expired", "dropped-0", "dropped-1", "dropped-2"}
    assert checked > 100
    await way.close()
