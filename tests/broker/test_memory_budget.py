"""Large messages on a real node: what the router holds stays within the bytes of its window, from the first one on."""

from __future__ import annotations

import tracemalloc

from rabbitray.actors.publisher import EncodedMessage, Publisher, PublisherConfig
from rabbitray.autoscale.policy.signals import Memory
from rabbitray.autoscale.policy.window import window
from rabbitray.cluster.driver import compose
from rabbitray.cluster.settings import Settings
from tests.kit.eventually import eventually
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
    assert path.router.buffer.size == 0
    assert most < 1.25 * budget
