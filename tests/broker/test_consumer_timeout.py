"""RabbitMQ takes back what is held longer than its `consumer_timeout`: before 4.3 with the channel, then alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import pytest

from rabbitray.actors.errors import TopologyError
from rabbitray.actors.message.job import Job
from rabbitray.actors.rabbitmq.consumer_timeout import ARGUMENT, ConsumerTimeout
from rabbitray.actors.rabbitmq.versions import Behaviour, behaviour, parse_version
from rabbitray.actors.router.delivery import Delivery
from rabbitray.cluster.broker import PrivateBroker
from tests.kit.eventually import eventually
from tests.kit.intake_ways import TOPOLOGY, RealWay
from tests.kit.real_path import RealPath

pytestmark = pytest.mark.versions

TIMEOUT_S = 1.5
SHORT = {"consumer_timeout": int(TIMEOUT_S * 1000), "channel_tick_interval": 200}
USUAL = {"consumer_timeout": 1_800_000, "channel_tick_interval": 60_000}
TOLD = ConsumerTimeout(told_s=TIMEOUT_S)


def configure(broker: PrivateBroker, settings: dict[str, int]) -> None:
    pairs = ",".join(f"{{{name},{value}}}" for name, value in settings.items())
    broker.ctl("eval", f"[application:set_env(rabbit, K, V) || {{K,V}} <- [{pairs}]].")


@pytest.fixture(scope="module")
def does(broker: PrivateBroker) -> Iterator[Behaviour]:
    """What the node of this run does; a message may be held on it for a second and a half."""
    configure(broker, SHORT)
    yield behaviour(parse_version(broker.version))
    configure(broker, USUAL)


async def opened(url: str) -> RealWay:
    way = RealWay(url, steady_s=0.1, timeout=TOLD)
    await way.start()
    await way.intake.open()
    return way


def ids(deliveries: list[Delivery]) -> list[str | None]:
    return [one.parcel.message_id for one in deliveries]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for one in caplog.records if "consumer_timeout is 1.5 s" in (text := one.getMessage())]


def on_one_connection(way: RealWay) -> bool:
    return len({id(one.channel.connection) for one in way.opener.opened}) == 1


async def test_what_is_late_comes_again_on_the_same_connection(
    does: Behaviour, amqp_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    way = await opened(amqp_url)
    await way.intake.consume(10)
    await way.publish(3)
    await eventually(lambda: len(way.got) == 3)
    way.intake.finish(way.got[2:])
    await eventually(lambda: len(way.got) == 5, within_s=20)
    late, again = way.got[:2], way.got[3:]
    assert ids(again) == ids(late) == ["m0", "m1"]
    assert way.intake.still_ours(late) == []
    assert way.intake.finish(late) == 0, "their time was over: nobody settles them"
    assert way.intake.finish(again) == 2
    await eventually(lambda: not way.intake.unacked)
    assert await way.ready() == 0
    assert on_one_connection(way)
    alone = does.timeout_ends == "consumer"
    assert way.lost == ([] if alone else [1])
    assert way.late == (late if alone else [])
    assert way.intake.late == 2
    assert len(lines := told(caplog)) == 1
    assert lines[0].startswith("message m0 of queue jobs was not settled for ")
    assert "and 1 more" in lines[0]
    await way.close()


async def test_what_an_old_consumer_holds_is_late_too(does: Behaviour, amqp_url: str) -> None:
    """A change of the window cancels a consumer whose messages are still worked: 4.3 has nobody to tell for it."""
    way = await opened(amqp_url)
    await way.intake.consume(10)
    await way.publish(1)
    await eventually(lambda: len(way.got) == 1)
    await way.intake.consume(5)
    await eventually(lambda: way.lost and way.intake.still_ours(way.got), within_s=20)
    assert set(ids(way.got)) == {"m0"}
    assert way.intake.late == 1
    assert on_one_connection(way)
    assert way.intake.finish(way.got) == 1
    await eventually(lambda: not way.intake.unacked)
    assert await way.ready() == 0
    await way.close()


async def test_what_a_consumer_asks_for_holds_after_a_hand_over(does: Behaviour, amqp_url: str) -> None:
    """A job of an hour is held by a consumer that is long gone: on 4.3 its own time must count for it still."""
    way = RealWay(amqp_url, steady_s=0.1, timeout=ConsumerTimeout(told_s=60.0))
    await way.start()
    await way.intake.open()
    await way.intake.consume(1)
    await way.publish(2)
    await eventually(lambda: len(way.got) == 1)
    await way.intake.consume(1)
    await eventually(lambda: len(way.got) == 2)
    await asyncio.sleep(3 * TIMEOUT_S)
    assert (way.intake.late == 0) is does.timeout_of_consumer
    if does.timeout_of_consumer:
        assert way.intake.finish(way.got) == 2
        await eventually(lambda: not way.intake.unacked)
        assert await way.ready() == 0
    await way.close()


async def test_a_run_that_the_broker_does_not_allow_is_refused_before_anything_is_consumed(
    does: Behaviour, amqp_url: str
) -> None:
    way = RealWay(amqp_url, timeout=ConsumerTimeout(hold_s=300, run_s=3_605))
    await way.start()
    if does.timeout_of_consumer:
        await way.intake.open()
    else:
        with pytest.raises(TopologyError, match=r"`consumer_timeout = 4920000` in rabbitmq\.conf allows it") as refused:
            await way.intake.open()
        assert ("set_policy" in str(refused.value)) is does.timeout_of_queue
    await way.close()


async def test_a_job_that_is_late_is_worked_twice_and_has_one_row(does: Behaviour, amqp_url: str) -> None:
    """Its copy comes while the first one runs, as after a lost connection: see docs/delivery-guarantees.md."""
    path = RealPath(amqp_url, timeout=TOLD, max_in_flight=1)
    await path.start(workers=2)
    await path.sender.publish(Job(id="job-1", user_id="u", message_type="REPORT", payload={}))
    await eventually(lambda: len(path.running) == 2, within_s=20)
    for worker, batch in path.running:
        worker.done(batch)
    await eventually(lambda: not path.running and not path.intake.unacked)
    assert path.rows() == {"job-1": 1}
    assert (path.intake.late, path.intake.stale) == (1, 1)
    await path.stop()


async def test_the_pool_asks_for_its_own_time_on_a_quorum_queue(
    does: Behaviour, broker: PrivateBroker, amqp_url: str
) -> None:
    way = RealWay(amqp_url, timeout=ConsumerTimeout(hold_s=800))
    await way.start()
    await way.intake.open()
    await way.intake.consume(5)

    async def arguments() -> Any:
        found: Any = broker.api("GET", f"/api/consumers{urlsplit(amqp_url).path}")
        return [one["arguments"] for one in found]

    asked = await eventually(arguments)
    assert asked == [{ARGUMENT: 2_000_000} if does.timeout_of_consumer else {}]
    await way.close()


async def existing(url: str, **arguments: Any) -> None:
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        place = {"x-dead-letter-exchange": TOPOLOGY.exchange, "x-dead-letter-routing-key": TOPOLOGY.dropped_queue}
        await channel.declare_queue(TOPOLOGY.queue, durable=True, arguments=place | arguments)


async def test_a_single_active_consumer_that_is_late_does_not_keep_the_queue(does: Behaviour, amqp_url: str) -> None:
    """4.3.6 keeps such a consumer as the active one until it is cancelled (rabbitmq-server#17317)."""
    await existing(amqp_url, **{"x-queue-type": "quorum", "x-single-active-consumer": True})
    pools = [await opened(amqp_url), await opened(amqp_url)]
    for pool in pools:
        await pool.intake.consume(10)
    await pools[0].publish(1)
    await eventually(lambda: pools[0].got)

    def work() -> bool:
        """All but the first delivery of all is finished."""
        for pool in pools:
            pool.intake.finish([one for one in pool.got if one.redelivered and pool.intake.still_ours([one])])
        return any(one.redelivered for pool in pools for one in pool.got)

    await eventually(work, within_s=20)
    await pools[0].publish(3)
    await eventually(lambda: {"m1", "m2", "m3"} <= {*ids(pools[0].got), *ids(pools[1].got)})
    assert all(on_one_connection(pool) for pool in pools)
    for pool in pools:
        await pool.close()


async def test_a_classic_queue_is_consumed_without(does: Behaviour, amqp_url: str) -> None:
    """RabbitMQ 4.3 refuses the argument for it."""
    await existing(amqp_url, **{"x-queue-type": "classic"})
    way = await opened(amqp_url)
    await way.intake.consume(5)
    await way.publish(1)
    await eventually(lambda: len(way.got) == 1)
    assert way.lost == []
    await way.close()
