"""The contract of the way in, on the fake broker and on a real node: consume, hand over, ack, give back, recover."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.kit.eventually import eventually
from tests.kit.intake_ways import FakeWay, RealWay, Way, Wire, all_got


@pytest.fixture(params=["fake", "real"])
async def way(request: pytest.FixtureRequest) -> AsyncIterator[Way]:
    """An opened intake; nothing is consumed yet."""
    if request.param == "fake":
        found: Any = FakeWay()
    else:
        url = request.getfixturevalue("amqp_url")
        wire = Wire(url)
        found = RealWay(url, await wire.start())
        found.wire = wire
        await found.start()
    await found.intake.open()
    yield found
    await found.close()


async def _is(way: Way, count: int) -> bool:
    return await way.ready() == count


async def test_it_consumes_within_its_window(way: Way) -> None:
    await way.publish(5)
    assert not way.intake.consuming
    await way.intake.consume(3)
    await all_got(way, 3)
    assert way.intake.consuming
    assert [one.tag for one in way.got] == [1, 2, 3]
    assert [one.parcel.message_id for one in way.got] == ["m0", "m1", "m2"]
    assert {(one.generation, one.redelivered) for one in way.got} == {(1, False)}
    assert way.intake.unacked == 3
    way.intake.finish(way.got)
    await all_got(way, 5)


async def test_a_window_of_nothing_is_refused(way: Way) -> None:
    with pytest.raises(ValueError, match="window 0"):
        await way.intake.consume(0)


async def test_finished_messages_never_come_again(way: Way) -> None:
    await way.publish(20)
    await way.intake.consume(20)
    await all_got(way, 20)
    way.intake.finish(way.got[10:])
    way.intake.finish(way.got[9::-1])
    assert way.intake.unacked == 0
    await way.publish(1)
    await all_got(way, 21)  # the window was full: the broker has read the acks
    way.intake.finish(way.got[20:])
    await way.intake.close()
    assert await way.ready() == 0


async def test_acks_overtake_a_slow_one(way: Way) -> None:
    await way.publish(6)
    await way.intake.consume(3)
    await all_got(way, 3)
    way.intake.finish(way.got[1:3])
    await all_got(way, 5)
    way.intake.finish(way.got[3:5])
    await all_got(way, 6)
    way.intake.finish([way.got[0], way.got[5]])
    await eventually(lambda: way.intake.unacked == 0)
    assert (way.intake.generation, way.intake.stale) == (1, 0), "no ack was refused"


async def test_a_wider_window_takes_over_from_the_narrow_one(way: Way) -> None:
    await way.publish(10)
    await way.intake.consume(2)
    await all_got(way, 2)
    await way.intake.consume(4)
    await all_got(way, 6)
    way.intake.finish(way.got[:2])
    way.intake.finish(way.got[2:6])
    await all_got(way, 10)
    way.intake.finish(way.got[6:])
    await eventually(lambda: way.intake.unacked == 0)
    assert sorted(str(one.parcel.message_id) for one in way.got) == [f"m{n}" for n in range(10)]
    assert way.intake.generation == 1


async def test_many_hand_overs_lose_and_double_nothing(way: Way) -> None:
    await way.publish(60)
    finished = 0
    for window in (1, 7, 2, 9, 3, 30) * 2:
        await way.intake.consume(window)
        ready = way.got[finished:]
        finished += len(ready)
        way.intake.finish(ready)
    while len(way.got) < 60:
        ready = way.got[finished:]
        finished += len(ready)
        way.intake.finish(ready)
        await asyncio.sleep(0)
    way.intake.finish(way.got[finished:])
    assert sorted(str(one.parcel.message_id) for one in way.got) == sorted(f"m{n}" for n in range(60))
    await eventually(lambda: way.intake.unacked == 0)
    assert way.intake.generation == 1


async def test_a_pause_stops_the_flow_and_keeps_what_is_here(way: Way) -> None:
    await way.publish(5)
    await way.intake.consume(2)
    await all_got(way, 2)
    await way.intake.pause()
    assert not way.intake.consuming
    way.intake.finish(way.got)
    await eventually(lambda: way.intake.unacked == 0)
    assert await eventually(way.ready) == 3
    assert len(way.got) == 2
    await way.intake.pause()
    await way.intake.consume(5)
    await all_got(way, 5)


async def test_what_is_given_back_comes_again(way: Way) -> None:
    await way.publish(3)
    await way.intake.consume(3)
    await all_got(way, 3)
    await way.intake.pause()
    way.intake.finish(way.got[2:])
    way.intake.give_back(way.got[:2])
    way.intake.give_back(way.got[:2])
    await eventually(lambda: way.intake.unacked == 0)
    await way.intake.consume(3)
    await all_got(way, 5)
    assert {one.parcel.message_id for one in way.got[3:]} == {"m0", "m1"}
    assert all(one.redelivered for one in way.got[3:])
    assert way.intake.generation == 1, "giving back twice is no error"


async def test_a_lost_connection_is_a_new_generation_and_everything_comes_again(way: Way) -> None:
    await way.publish(3)
    await way.intake.consume(3)
    await all_got(way, 3)
    old = list(way.got)
    await way.break_connection()
    await all_got(way, 6)
    assert way.lost == [1]
    assert [one.generation for one in way.got] == [1, 1, 1, 2, 2, 2]
    assert all(one.redelivered for one in way.got[3:])
    assert way.intake.still_ours(way.got) == way.got[3:]
    way.intake.finish(old)
    way.intake.give_back(old)
    assert way.intake.stale == 6, "late settlements are counted, not raised"
    way.intake.finish(way.got[3:])
    await eventually(lambda: way.intake.unacked == 0)
    assert way.intake.generation == 2


async def test_a_refused_ack_closes_the_channel_and_is_survived(way: Way) -> None:
    await way.publish(2)
    await way.intake.consume(2)
    await all_got(way, 2)
    await way.close_channel()
    await all_got(way, 4)
    assert way.got[-1].generation == 2
    way.intake.finish(way.got[2:])
    await eventually(lambda: way.intake.unacked == 0)


async def test_closing_sends_every_ack_that_is_safe(way: Way) -> None:
    await way.publish(40)
    await way.intake.consume(40)
    await all_got(way, 40)
    for one in way.got[1:]:
        way.intake.finish([one])
    await way.intake.close()
    await way.intake.close()
    await eventually(lambda: _is(way, 1), message="only the one that was not finished comes again")


async def test_a_pause_outlives_a_reconnect(way: Way) -> None:
    await way.publish(2)
    await way.intake.consume(1)
    await all_got(way, 1)
    await way.intake.pause()
    await way.break_connection()
    await eventually(lambda: way.intake.reconnects == 1)
    assert not way.intake.consuming
    assert len(way.got) == 1
