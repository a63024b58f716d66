"""The baselines of the throughput bench drain a queue of a real node."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import msgspec
import pytest

from bench import ordinary, raw
from bench.by_hand_batched import by_hand_batched
from rabbitray.actors.message.job import Job
from rabbitray.actors.publisher import EncodedMessage, Publisher, PublisherConfig
from rabbitray.actors.secret import Secret


@pytest.mark.parametrize("drain", [raw.aio_pika_drain, raw.aiormq_drain])
async def test_the_baselines_drain_everything(drain: raw.Drain, amqp_url: str) -> None:
    await raw.declare(amqp_url, "raw")
    async with Publisher(PublisherConfig(url=Secret(amqp_url), queue="raw")) as publisher:
        assert (await publisher.publish_many(Job() for _ in range(120))).ok
    assert await raw.drained(drain, amqp_url, "raw", 120) > 0
    assert await _left(amqp_url, "raw") == 0


async def test_by_hand_each_ordinary_message_has_its_row_when_it_is_acked(amqp_url: str, tmp_path: Path) -> None:
    await raw.declare(amqp_url, "orders")
    sent = dict(ordinary.documents(230))  # two commits of 100, and one after 50 ms
    async with Publisher(PublisherConfig(url=Secret(amqp_url), queue="orders")) as publisher:
        for order_id, body in sent.items():
            await publisher.publish_message(
                EncodedMessage(body=body, message_id=order_id, routing_key="orders", content_type=ordinary.CONTENT_TYPE)
            )
    file = tmp_path / "by-hand.duckdb"
    async with by_hand_batched(amqp_url, "orders", file) as hand:
        assert await hand.drain(len(sent)) > 0
    assert await _left(amqp_url, "orders") == 0
    with duckdb.connect(str(file), read_only=True) as results:
        rows = dict(results.execute("SELECT message_id, result FROM results").fetchall())
        assert results.execute("SELECT count(*) FROM results").fetchall() == [(230,)]
    assert {key: json.loads(result) for key, result in rows.items()} == {
        key: ordinary.handle(msgspec.json.decode(body, type=ordinary.Order)) for key, body in sent.items()
    }


async def _left(url: str, name: str) -> int:
    """Messages in a queue, those that were given back included."""
    connection = await raw.aio_pika.connect(url)
    async with connection:
        queue = await (await connection.channel()).declare_queue(name, passive=True)
        return queue.declaration_result.message_count or 0
