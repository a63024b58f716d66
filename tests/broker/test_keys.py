"""Keys from headers and properties by the real way: from a plain client, as a copy in a rung, from the dead letters.

And the ids of AMQP 1.0 clients that fit no property of AMQP 0-9-1.
"""

from __future__ import annotations

import aio_pika
import pytest

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.keys import parse_key_rule
from rabbitray.actors.rabbitmq.inspect import contact
from rabbitray.actors.router.delivery import Delivery, message_failure
from rabbitray.actors.router.settlement.retries import RetryLimits
from rabbitray.actors.secret import Secret
from rabbitray.cluster.results.dead_letter_replay import Replay, ReplayPlan
from rabbitray.cluster.results.dead_letter_selection import Selection
from tests.kit import amqp10
from tests.kit.intake_ways import TOPOLOGY, RealWay, all_got
from tests.kit.queue_access import drained
from tests.kit.settling_pool import settling_pool

LIMITS = RetryLimits(rungs_ms=TOPOLOGY.rung_delays_ms)


def keys(got: list[Delivery]) -> list[str | None]:
    return [one.parcel.key for one in got]


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ("header:number", "7"),
        ("property:correlation_id", "c-7"),
        ("property:message_id", "m-7"),
        ("property:user_id", "guest"),
    ],
)
async def test_a_key_stays_from_copy_to_copy_and_finds_the_dead_letter(amqp_url: str, rule: str, key: str) -> None:
    """Also where the producer wrote a key header of ours, and where a copy has lost what the rule names."""
    async with settling_pool(amqp_url, LIMITS, parse_key_rule(rule)) as pool:
        await pool.way.intake.consume(10)
        async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
            message = aio_pika.Message(
                b"{}",
                headers={"number": 7, h.KEY: "forged"},
                message_id="m-7",
                correlation_id="c-7",
                user_id="guest",
                delivery_mode=2,
            )
            await channel.default_exchange.publish(message, TOPOLOGY.queue)
        await all_got(pool.way, 1)
        [first] = pool.way.got
        await pool.outbox.again(first, first.whole())
        await all_got(pool.way, 2)
        await pool.settler.park(pool.way.got[1], message_failure(pool.way.got[1], "worker_crashed", "", "WorkerLost"))
        assert [row["key"] for row in pool.rows] == [key]
        async with contact(Secret(amqp_url), within_s=5) as connection:
            replay = Replay(connection, pool.publisher, queue=TOPOLOGY.queue, dead_queue=TOPOLOGY.dead_queue)
            found = await replay.run(ReplayPlan(selection=Selection(ids=frozenset([key]))))
        assert (found.replayed, found.failed) == (1, 0)
        await all_got(pool.way, 3)
        assert keys(pool.way.got) == [key] * 3


@pytest.mark.versions(since="4.0")
async def test_an_id_of_an_amqp_10_client_that_fits_no_property_is_a_message_id(amqp_url: str) -> None:
    way = RealWay(amqp_url, key=parse_key_rule("property:message_id"))
    await way.start()
    await way.intake.open()
    sent = ["text-id", bytes(range(0xF0, 0x100)), b"printable", "x" * 256]
    await amqp10.send(amqp_url, TOPOLOGY.queue, [amqp10.message(b"{}", message_id=one, properties={}) for one in sent])
    await way.intake.consume(10)
    await all_got(way, len(sent))
    ids = ["text-id", "0xf0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", "printable", None]
    assert [one.parcel.message_id for one in way.got] == keys(way.got) == ids
    await way.close()


async def test_a_message_without_the_key_that_a_rule_names_has_none_on_its_copies(amqp_url: str) -> None:
    """Neither the message id nor a producer's own key header stands in for it."""
    async with settling_pool(amqp_url, LIMITS, parse_key_rule("header:order-id")) as pool:
        await pool.way.intake.consume(10)
        async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
            message = aio_pika.Message(b"{}", headers={h.KEY: "forged"}, message_id="m-7", delivery_mode=2)
            await channel.default_exchange.publish(message, TOPOLOGY.queue)
        await all_got(pool.way, 1)
        [one] = pool.way.got
        await pool.settler.park(one, message_failure(one, "worker_crashed", "", "WorkerLost"))
        assert [(row["key"], row["message_id"]) for row in pool.rows] == [(None, "m-7")]
        [parked] = await drained(amqp_url, TOPOLOGY.dead_queue)
        assert h.KEY not in parked.headers
