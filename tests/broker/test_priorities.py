"""Copies keep the priority of their message, through a rung, the dead letters and a replay; who has none gains none."""

from __future__ import annotations

from typing import cast

import aiormq
import pytest
from pamqp import commands as spec

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.properties.property_list import Properties, from_raw, priority_of
from rabbitray.actors.publisher import Publisher, PublisherConfig
from rabbitray.actors.rabbitmq.inspect import contact
from rabbitray.actors.secret import Secret
from rabbitray.cluster.results.dead_letter_replay import Replay, ReplayPlan
from rabbitray.cluster.results.dead_letter_selection import Selection
from tests.kit import raw_amqp
from tests.kit.eventually import eventually
from tests.kit.intake_ways import RealWay
from tests.kit.plain_path import mixed
from tests.kit.raw_amqp import short, table, taken
from tests.kit.real_path import RealPath

pytestmark = pytest.mark.versions

GIVEN = {"high": 20, "low": 0, "none": None}
"""RabbitMQ 4.3 has 32 levels in a quorum queue; before, the figure travels all the same."""


BEHIND = {
    "none before 0": ([None] * 150, 0, [None] * 10),
    "high before none": ([9] * 150, 9, [None] * 30),
}
"""Dead letters of an earlier version, and of people, in the order in which they were put there; the one in the middle
is looked for. RabbitMQ 4.3 gives all of a priority first, 4.0 all above 4."""


async def publish(url: str, key: str, priority: int | None) -> None:
    """By aiormq: aio-pika writes a 0 for none."""
    connection = await aiormq.connect(url)
    channel = await connection.channel()
    properties = spec.Basic.Properties(message_id=key, delivery_mode=2, priority=priority)
    await channel.basic_publish(b"{}", routing_key="jobs", properties=properties)
    await connection.close()


async def fail(path: RealPath, key: str, verdict: str, attempt: int) -> None:
    """The message comes, and its run ends in this verdict."""
    worker, batch = await path.batch()
    assert path.keys(batch) == [key]
    worker.answer(batch, *mixed([key], {0: verdict}, [attempt]))
    await eventually(lambda: batch not in [name for _, name in path.running])


async def test_a_priority_survives_a_rung_a_dead_letter_and_a_replay(amqp_url: str) -> None:
    path = RealPath(amqp_url)
    await path.start()
    for key, priority in GIVEN.items():
        await publish(amqp_url, key, priority)
        await fail(path, key, "retry", 0)
        await fail(path, key, "dead", 1)
    await eventually(lambda: path.settler.tally.dead == 3)
    await path.stop()

    config = PublisherConfig(url=amqp_url, queue="jobs")
    async with contact(Secret(amqp_url), within_s=5) as found, Publisher(config) as publisher:
        replay = Replay(found, publisher, queue="jobs", dead_queue="jobs.dead")
        assert (await replay.run(ReplayPlan(selection=Selection()))).replayed == 3

    way = RealWay(amqp_url)
    await way.start()
    await way.intake.open()
    await way.intake.consume(5)
    await eventually(lambda: len(way.got) == 3)
    properties = {one.parcel.message_id: one.properties for one in way.got}
    assert {key: priority_of(one) for key, one in properties.items() if isinstance(one, Properties)} == GIVEN
    await way.close()


def letter(name: str, priority: int | None) -> tuple[bytes, bytes]:
    """A dead letter with this priority, as earlier versions wrote it."""
    raw = b"\xb0\x80" + short(b"application/json") + table({}) + b"\x02" + short(name.encode())
    if priority is not None:
        raw = b"\xb8\x80" + raw[2:].replace(b"\x02" + short(name.encode()), bytes((2, priority)) + short(name.encode()))
    return raw, b"{}"


@pytest.mark.parametrize("case", BEHIND)
async def test_a_replay_finds_what_it_looks_for_whatever_priorities_the_others_have(amqp_url: str, case: str) -> None:
    first, sought, after = BEHIND[case]
    letters = [letter(f"m{number}", priority) for number, priority in enumerate(first)]
    letters += [letter("sought", sought)] + [letter(f"n{number}", priority) for number, priority in enumerate(after)]
    way = RealWay(amqp_url)
    await way.start()
    await way.intake.open()
    await raw_amqp.publish(amqp_url, "jobs.dead", letters)
    async with (
        contact(Secret(amqp_url), within_s=5) as connection,
        Publisher(PublisherConfig(url=amqp_url, queue="jobs")) as publisher,
    ):
        replay = Replay(connection, publisher, queue="jobs", dead_queue="jobs.dead")
        found = await replay.run(ReplayPlan(selection=Selection(ids=frozenset({"sought"}))))
    assert (found.replayed, found.looked_at, found.returned) == (1, len(letters), len(letters) - 1)
    await way.intake.consume(5)
    await eventually(lambda: way.got)
    assert (way.got[0].parcel.message_id, priority_of(cast(Properties, way.got[0].properties))) == ("sought", sought)
    await way.close()
    left = [one.message_id for one, _ in await taken(amqp_url, "jobs.dead")]
    assert sorted(map(str, left)) == sorted(
        from_raw(raw).message_id or "" for raw, _ in letters if raw != letters[len(first)][0]
    )


async def test_dead_letters_lie_in_the_order_in_which_they_died(amqp_url: str) -> None:
    """Else new ones would go before those that a replay has put back, and it would never come to these."""
    path = RealPath(amqp_url)
    await path.start()
    for key, priority in {"low": 1, "high": 20, "none": None}.items():
        await publish(amqp_url, key, priority)
        await fail(path, key, "dead", 0)
    await eventually(lambda: path.settler.tally.dead == 3)
    await path.stop()
    left = await taken(amqp_url, "jobs.dead")
    assert [one.message_id for one, _ in left] == ["low", "high", "none"]
    assert [(one.headers or {})[h.PRIORITY] for one, _ in left] == [1, 20, -1]
