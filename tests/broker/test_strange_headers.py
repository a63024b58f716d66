"""Headers that only a real producer could write: parked with all their bytes, no neighbour runs twice, none is lost.

Real: what RabbitMQ takes of AMQP's types, how it writes them again, and that a connection outlives them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import aio_pika
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rabbitray.actors.errors import UnroutableError
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.parcel import whole_message
from rabbitray.actors.message.properties.field_table import entries
from rabbitray.actors.message.properties.property_list import Properties, from_raw
from rabbitray.actors.publisher import EncodedMessage, Publisher, PublisherConfig
from rabbitray.actors.rabbitmq.inspect import contact
from rabbitray.actors.router.delivery import refusal
from rabbitray.actors.router.settlement.dropped import Collector
from rabbitray.actors.router.settlement.retries import RetryLimits, Rung
from rabbitray.actors.secret import Secret
from rabbitray.cluster.results.dead_letter_replay import Replay, ReplayPlan
from rabbitray.cluster.results.dead_letter_selection import Selection
from tests.kit.eventually import eventually
from tests.kit.intake_ways import TOPOLOGY, all_got
from tests.kit.raw_amqp import (
    BEYOND,
    ONE_OF_EACH,
    headers_of,
    kept_tables,
    long,
    parts_of,
    properties,
    publish,
    scalar,
    short,
    table,
    taken,
)
from tests.kit.settling_pool import SettlingPool, settling_pool

QUEUE = TOPOLOGY.queue
ODD = {b"far": scalar("T", BEYOND[1]), b"\xff": long("S", b"\xfe"), b"deep": long("A", b"")}
POISON = properties(table(ONE_OF_EACH | ODD), b"poison")
GOOD = [(properties(table({}), b"m%d" % number), b"{}") for number in range(100)]


LIMITS = RetryLimits(max_retries=3, rungs_ms=TOPOLOGY.rung_delays_ms)


async def settle(pool: SettlingPool) -> list[str]:
    """Parks what is refused and acks the rest of what came; the message ids of the rest."""
    for one in pool.way.got:
        if one.refused:
            await pool.settler.park(one, refusal(one))
    worked = [one for one in pool.way.got if not one.refused]
    pool.way.intake.finish(worked)
    return [str(one.parcel.message_id) for one in worked]


def unlike(found: dict[bytes, bytes], sent: dict[bytes, bytes]) -> dict[bytes, bytes | None]:
    """The headers of `sent` that are not the same in `found`, as they are there."""
    return {name: found.get(name) for name, value in sent.items() if found.get(name) != value}


async def test_one_with_unreadable_headers_is_parked_and_its_neighbours_run_once(amqp_url: str) -> None:
    async with settling_pool(amqp_url, LIMITS) as found:
        await publish(amqp_url, QUEUE, [*GOOD[:50], (POISON, b'{"i":"p"}'), *GOOD[50:]])
        await found.way.intake.consume(200)
        await all_got(found.way, 101)
        assert Counter(await settle(found)) == Counter(f"m{number}" for number in range(100))
        await eventually(lambda: found.way.intake.unacked == 0)
        [row] = found.rows
        assert (row["reason"], row["message_id"], row["body"]) == ("unreadable_headers", "poison", b'{"i":"p"}')
        assert row["error"].startswith("header 'far': the time stamp")
        assert parts_of(row["raw_properties"]) == parts_of(POISON)
    [(copy, body)] = await taken(amqp_url, TOPOLOGY.dead_queue)
    assert (copy.message_id, body) == ("poison", b'{"i":"p"}')
    assert unlike(headers_of(copy), ONE_OF_EACH | ODD) == {}


async def test_a_header_of_every_type_is_on_a_retry_and_on_the_dead_letter_what_it_was(amqp_url: str) -> None:
    """The broker writes the table again when the rung lets it go, and when it counts deliveries."""
    async with settling_pool(amqp_url, LIMITS) as found:
        await publish(amqp_url, QUEUE, [(properties(table(ONE_OF_EACH)), b"{}")])
        await found.way.intake.consume(10)
        await all_got(found.way, 1)
        assert found.way.got[0].refused is None
        await found.outbox.retry(
            found.way.got[0], whole_message(found.way.got[0].parcel), Rung(delay_ms=1_000, attempt=1)
        )
        found.way.intake.finish(found.way.got)
        await all_got(found.way, 2)
        back = found.way.got[1]
        assert unlike(headers_of(back.properties), ONE_OF_EACH) == {}  # type: ignore[arg-type] # ours
        await found.settler.park(back, refusal(back))
        await eventually(lambda: found.way.intake.unacked == 0)
    [(copy, _)] = await taken(amqp_url, TOPOLOGY.dead_queue)
    assert unlike(headers_of(copy), ONE_OF_EACH) == {}


@settings(max_examples=2, phases=[Phase.generate], suppress_health_check=list(HealthCheck), deadline=None)
@given(st.lists(kept_tables, min_size=20, max_size=60))
def test_any_headers_are_on_the_dead_letter_what_they_were(amqp_url: str, sent: list[bytes]) -> None:
    """RabbitMQ sorts them, and of two with one name it keeps one."""

    async def parked() -> list[tuple[Properties, bytes]]:
        async with settling_pool(amqp_url, LIMITS) as found:
            await publish(amqp_url, QUEUE, [(properties(one), b"%d" % at) for at, one in enumerate(sent)])
            await found.way.intake.consume(100)
            await all_got(found.way, len(sent))
            for one in found.way.got:
                await found.settler.park(one, refusal(one))
            await eventually(lambda: found.way.intake.unacked == 0)
        return await taken(amqp_url, TOPOLOGY.dead_queue)

    came = {int(body): copy for copy, body in asyncio.run(parked())}
    for at, one in enumerate(sent):
        original = from_raw(properties(one))
        once = Counter(entry.name for entry in entries(one, 4, len(one)))
        assert unlike(headers_of(came[at]), {n: v for n, v in headers_of(original).items() if once[n] == 1}) == {}


async def test_a_routing_key_that_is_no_text_is_delivered_once(amqp_url: str) -> None:
    async with settling_pool(amqp_url, LIMITS) as found:
        own = await aio_pika.connect(amqp_url)
        channel = await own.channel()
        exchange = await channel.declare_exchange("theirs", aio_pika.ExchangeType.FANOUT)
        queue = await channel.declare_queue(QUEUE, passive=True)
        await queue.bind(exchange)
        await publish(amqp_url, b"\xff\xfe", GOOD[:3], exchange="theirs")
        await found.way.intake.consume(10)
        await all_got(found.way, 3)
        assert await settle(found) == ["m0", "m1", "m2"]
        await eventually(lambda: found.way.intake.unacked == 0)
        await own.close()


async def test_what_the_broker_dropped_is_collected_whatever_its_headers(amqp_url: str) -> None:
    """A message that expires."""
    expires = b"\xb1\x80" + short(b"application/json") + table(ONE_OF_EACH | ODD) + b"\x02" + short(b"1") + short(b"e")
    async with settling_pool(amqp_url, LIMITS) as found:
        await publish(amqp_url, QUEUE, [(expires, b"{}")])
        collector = Collector(replace(found.way.config, queue=TOPOLOGY.dropped_queue), found.settler_for)
        await collector.start()
        await eventually(lambda: collector.collected == 1)
        await collector.close()
        [row] = found.rows
        assert row["reason"] == "unreadable_headers"
        assert row["error"].startswith("dead-lettered by the broker from jobs: expired; unreadable_headers: header")
        assert b"far" in row["raw_properties"]
    [(copy, _)] = await taken(amqp_url, TOPOLOGY.dead_queue)
    assert unlike(headers_of(copy), ONE_OF_EACH | ODD) == {}


async def test_a_copy_that_no_queue_takes_is_told_and_the_next_one_goes_through(amqp_url: str) -> None:
    odd = table(ODD)[4:]
    async with settling_pool(amqp_url, LIMITS), Publisher(PublisherConfig(url=amqp_url, queue=QUEUE)) as publisher:
        sent = [EncodedMessage(body=b"x", message_id="one", routing_key=key, entries=odd) for key in ("none", QUEUE)]
        ends = await asyncio.gather(*(publisher.publish_message(one) for one in sent), return_exceptions=True)
        assert [type(end) for end in ends] == [UnroutableError, type(None)]
    [(copy, _)] = await taken(amqp_url, QUEUE)
    assert unlike(headers_of(copy), ODD) == {}


async def test_a_replay_leaves_behind_what_cannot_be_read_and_all_others_stay_as_they_are(amqp_url: str) -> None:
    """Both get through `basic.get`: the one that is replayed, and the one that is not selected."""
    async with settling_pool(amqp_url, LIMITS):
        stays = b"\xb0\xc0" + properties(table(ONE_OF_EACH | ODD), b"stays")[2:] + (5).to_bytes(8, "big")
        await publish(amqp_url, TOPOLOGY.dead_queue, [(POISON, b"{}"), (stays, b"{}")])
        async with (
            contact(Secret(amqp_url), within_s=5) as connection,
            Publisher(PublisherConfig(url=amqp_url, queue=QUEUE)) as publisher,
        ):
            replay = Replay(connection, publisher, queue=QUEUE, dead_queue=TOPOLOGY.dead_queue)
            done = await replay.run(ReplayPlan(selection=Selection(ids=frozenset({"poison"}))))
    assert (done.replayed, done.cut, done.failed, done.returned) == (1, 1, 0, 1)
    [(copy, _)] = await taken(amqp_url, QUEUE)
    assert copy.unreadable is None
    assert copy.headers is not None
    assert copy.headers[h.HEADERS_CUT] == 2
    assert unlike(headers_of(copy), ONE_OF_EACH) == {}
    [(other, _)] = await taken(amqp_url, TOPOLOGY.dead_queue)
    assert (other.message_id, other.timestamp) == ("stays", 5)
    assert unlike(headers_of(other), ONE_OF_EACH | ODD) == {}
