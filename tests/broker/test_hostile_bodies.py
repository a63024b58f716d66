"""Bodies that only a stranger would write, on a real node: nobody stands still over them, no neighbour runs twice.

The way in, a worker's reading and the way to the dead letters are the real ones; no Ray.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import aio_pika

from rabbitray.actors.message.job import Job
from rabbitray.actors.message.reply import Part
from rabbitray.actors.message.wire import MessageLimits, encode
from rabbitray.actors.router.delivery import Batch, message_failure
from rabbitray.actors.router.settlement.dropped import Collector
from rabbitray.actors.store.answers import Answer
from rabbitray.actors.worker.batch.decoding import IdentityRules, decode_parcels
from tests.kit.eventually import eventually
from tests.kit.hostile_bodies import HOSTILE
from tests.kit.intake_ways import TOPOLOGY, all_got
from tests.kit.settling_pool import SettlingPool, settling_pool

SIZE = 1_000_000
UNREADABLE = {
    "an unterminated text": "bad_json",
    "empty maps": "too_many_elements",
    "lists that lie": "bad_msgpack",
    "a gzip bomb that lies": "bad_gzip",
    "a million empty records": "too_many_records",
}


async def work(pool: SettlingPool) -> list[str]:
    """Reads what came as a worker does and settles it; the keys of the jobs."""
    batch = Batch(list(pool.way.got))
    units, failures = decode_parcels([one.parcel for one in batch.deliveries], MessageLimits(), IdentityRules())
    part = Part(rows=len(units), failures=failures, finished=list(range(len(batch.deliveries))))
    await pool.settler.settle(batch, part, Answer(committed=len(units)))
    return [str(unit.key) for unit in units]


def strange(name: str, **more: Any) -> aio_pika.Message:
    body, kind, encoding = HOSTILE[name](SIZE)
    return aio_pika.Message(body, content_type=kind, content_encoding=encoding or None, message_id=name, **more)


def own(key: str, **more: Any) -> aio_pika.Message:
    body, kind = encode(Job(id=key))
    return aio_pika.Message(body, content_type=kind, message_id="another", **more)


async def publish(url: str, messages: list[aio_pika.Message]) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        for message in messages:
            await channel.default_exchange.publish(message, TOPOLOGY.queue)


async def test_what_cannot_be_read_is_parked_and_its_neighbours_run_once(amqp_url: str) -> None:
    async with settling_pool(amqp_url) as found:
        good = [own(f"k{number}") for number in range(20)]
        await publish(amqp_url, [*good[:10], *map(strange, UNREADABLE), *good[10:]])
        await found.way.intake.consume(100)
        await all_got(found.way, 20 + len(UNREADABLE))
        assert Counter(await work(found)) == Counter(f"k{number}" for number in range(20))
        await eventually(lambda: found.way.intake.unacked == 0)
        assert {row["message_id"]: row["reason"] for row in found.rows} == UNREADABLE
        assert all(row["body"] == HOSTILE[row["message_id"]](SIZE)[0] for row in found.rows)


async def test_what_ended_its_worker_is_parked_by_the_router_unread(amqp_url: str) -> None:
    """Where the body is in none of our own forms its key is not known: what a stranger wrote is for workers to read."""
    async with settling_pool(amqp_url) as found:
        await publish(amqp_url, [strange("an unterminated text"), own("mine")])
        await found.way.intake.consume(10)
        await all_got(found.way, 2)
        for one in found.way.got:
            await found.settler.park(one, message_failure(one, "handler_timeout", "it hung", "WorkerLost"))
        await eventually(lambda: found.way.intake.unacked == 0)
        keys = [(row["key"], row["message_id"], row["reason"]) for row in found.rows]
        assert keys == [
            (None, "an unterminated text", "handler_timeout"),
            ("mine", "another", "handler_timeout"),
        ]


async def test_what_the_broker_dropped_is_collected_unread(amqp_url: str) -> None:
    async with settling_pool(amqp_url) as found:
        names = [*UNREADABLE, "empty lists", "brackets"]
        await publish(amqp_url, [*(strange(name, expiration=0.001) for name in names), own("mine", expiration=0.001)])
        collector = Collector(replace(found.way.config, queue=TOPOLOGY.dropped_queue), found.settler_for)
        await collector.start()
        await eventually(lambda: collector.collected == len(names) + 1)
        await asyncio.wait_for(collector.close(), 10)
        keys = {row["message_id"]: row["key"] for row in found.rows}
        assert keys == {**dict.fromkeys(names), "another": "mine"}
        assert {row["reason"] for row in found.rows} == {"broker_expired"}
