"""Large messages on a real node: what the router holds stays within the bytes of its window, from the first one on."""

from __future__ import annotations

import asyncio
import tracemalloc

from rabbitray.actors.publisher import EncodedMessage, Publisher, PublisherConfig
from rabbitray.autoscale.policy.signals import Memory
from rabbitray.autoscale.policy.window import window
from rabbitray.cluster.broker import PrivateBroker
from rabbitray.cluster.driver import compose
from rabbitray.cluster.settings import Settings
from tests.kit.eventually import eventually
from tests.kit.memory_alarm import memory_alarm
from tests.kit.pool_status import seen
from tests.kit.queue_access import declare, depth
from tests.kit.real_path import RealPath

MIB = 1024 * 1024
MESSAGES = 300


async def test_a_start_and_the_first_window_behind_it(amqp_url: str) -> None:
    """Nobody works, so all that may come comes."""
    settings = Settings.model_validate({})
    budget, first = settings.window_max_bytes, compose.start_window(settings)
    await declare(amqp_url, "jobs", x_queue_type="quorum")
    async with Publisher(PublisherConfig(url=amqp_url, queue="jobs")) as publisher:
        for number in range(MESSAGES):
            body = number.to_bytes(4, "big") * (MIB // 4)
            await publisher.publish_message(EncodedMessage(body=body, message_id=f"m{number}", routing_key="jobs"))
    path = RealPath(amqp_url)
    tracemalloc.start()
    await path.start(workers=0, window=first)
    await eventually(lambda: path.intake.unacked == first)
    looked = seen(
        ready=await depth(amqp_url, "jobs"),
        workers=2,
        window=first,
        mean_message_bytes=path.router.arrivals.mean_message_bytes,
    )
    decided = window(looked, Memory(), compose.window_limits(settings))
    await path.router.set_window(decided.messages, decided.batch_size)
    await eventually(lambda: path.intake.unacked == first + decided.messages)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    await path.stop()
    assert decided.messages * MIB == budget, "as many as it holds"
    assert most < 1.25 * budget


async def test_what_a_broker_in_alarm_does_not_take_is_in_memory_once(own_broker: PrivateBroker, own_url: str) -> None:
    """Their bodies are here already; aiormq keeps ten frames beside them, each with one body."""
    await declare(own_url, "jobs")
    messages = [EncodedMessage(body=bytes(MIB), message_id=f"m{number}", routing_key="jobs") for number in range(60)]
    publisher = Publisher(PublisherConfig(url=own_url, queue="jobs", confirm_timeout_s=30.0))
    await publisher.open()
    with memory_alarm(own_broker):
        tracemalloc.start()
        answers = [publisher.submit_message(message) for message in messages]
        await asyncio.sleep(1)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    ends = await asyncio.gather(*answers)
    await publisher.close()
    assert ends == [None] * 60, "it takes them when the alarm is over"
    assert most < 20 * MIB
