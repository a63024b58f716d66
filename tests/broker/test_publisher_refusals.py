"""What the broker refuses ends as a typed error, and what is outstanding stays bounded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rabbitray.actors.errors import (
    EncodeError,
    PublisherFullError,
    RefusedError,
    UncertainError,
    UnroutableError,
)
from rabbitray.actors.message.job import Job
from rabbitray.actors.publisher import EncodedMessage, Publisher
from tests.kit.publishing import QUEUE, config, some_jobs
from tests.kit.queue_access import declare, depth, drained, opened

# -- what the broker refuses


async def test_headers_that_fit_into_no_frame_are_refused_before_the_broker_closes_the_connection(
    amqp_url: str,
) -> None:
    await declare(amqp_url, QUEUE)
    big = EncodedMessage(body=b"x", message_id="big", routing_key=QUEUE, headers={"a": "x" * 140_000})
    fits = EncodedMessage(body=b"x", message_id="fits", routing_key=QUEUE, headers={"a": "x" * 130_000})
    async with Publisher(config(amqp_url)) as publisher:
        with pytest.raises(EncodeError, match=r"do not fit into one frame of 131,072"):
            await publisher.publish_message(big)
        with pytest.raises(EncodeError):
            publisher.submit_message(big)
        await publisher.publish_message(fits)
    assert await depth(amqp_url, QUEUE) == 1


async def test_an_unroutable_message_raises_and_harms_no_other_under_its_id(amqp_url: str) -> None:
    await declare(amqp_url, QUEUE)
    nowhere = EncodedMessage(body=b"x", message_id="lost", routing_key="no-such-queue")
    here = EncodedMessage(body=b"x", message_id="lost", routing_key=QUEUE)
    async with Publisher(config(amqp_url, channels=1)) as publisher:
        ways = [publisher.submit_message(message) for message in [here, nowhere, here, nowhere, here]]
        ends = await asyncio.gather(*ways, return_exceptions=True)
        with pytest.raises(UnroutableError, match=r"lost.*NO_ROUTE"):
            await publisher.publish_message(nowhere)
    assert [type(end) for end in ends] == [type(None), UnroutableError, type(None), UnroutableError, type(None)]
    assert await depth(amqp_url, QUEUE) == 3


async def test_a_storm_of_returns_is_reported_for_each_job(amqp_url: str) -> None:
    jobs = some_jobs(3_000)
    async with Publisher(config(amqp_url)) as publisher:
        report = await publisher.publish_many(jobs)
        assert [failed.job for failed in report.unroutable] == jobs
        await declare(amqp_url, QUEUE)
        await publisher.publish(jobs[0])


async def test_a_full_queue_refuses(amqp_url: str) -> None:
    await declare(amqp_url, QUEUE, x_max_length=3, x_overflow="reject-publish")
    async with Publisher(config(amqp_url)) as publisher:
        report = await publisher.publish_many(some_jobs(50))
        with pytest.raises(RefusedError):
            await publisher.publish(Job())
    assert len(report.confirmed) + len(report.refused) == 50
    confirmed = {job.id for job in report.confirmed}
    assert confirmed == {message.message_id for message in await drained(amqp_url, QUEUE)}


async def test_a_missing_exchange_is_an_error_and_the_publisher_goes_on(amqp_url: str) -> None:
    await declare(amqp_url, QUEUE)
    wrong = EncodedMessage(body=b"x", message_id="m", routing_key="k", exchange="no-such-exchange")
    async with Publisher(config(amqp_url)) as publisher:
        with pytest.raises(RefusedError, match="no-such-exchange"):
            await publisher.publish_message(wrong)
        await publisher.publish(Job())
        ways = [publisher.submit_message(wrong) for _ in range(5)]
        ends = await asyncio.gather(*ways, return_exceptions=True)
        assert {type(end) for end in ends} <= {RefusedError, UncertainError}
        await publisher.publish(Job())
    assert await depth(amqp_url, QUEUE) == 2


# -- bounds


async def test_submit_beyond_the_bound_is_refused_and_publish_waits_for_room(amqp_url: str) -> None:
    await declare(amqp_url, QUEUE)
    async with Publisher(config(amqp_url, max_outstanding=10)) as publisher:
        futures = [publisher.submit(Job()) for _ in range(10)]
        with pytest.raises(PublisherFullError):
            publisher.submit(Job())
        peak = 0
        waiting = [asyncio.ensure_future(publisher.publish(Job())) for _ in range(100)]
        while not all(task.done() for task in waiting):
            peak = max(peak, publisher.outstanding)
            await asyncio.wait(waiting, timeout=0.001)
        await asyncio.gather(*waiting, *futures)
    assert peak <= 10
    assert await depth(amqp_url, QUEUE) == 110


async def test_bytes_are_bounded_too(amqp_url: str) -> None:
    await declare(amqp_url, QUEUE)
    async with Publisher(config(amqp_url, max_outstanding_bytes=10_000)) as publisher:
        report = await publisher.publish_many([Job(payload="x" * 4_000) for _ in range(50)])
        assert report.ok
        await publisher.publish(Job(payload="x" * 50_000))  # larger than the bound: goes alone


async def test_a_slow_consumer_changes_nothing_for_the_producer(amqp_url: str) -> None:
    async with opened(amqp_url, QUEUE) as queue:
        await queue.channel.set_qos(prefetch_count=1)
        seen: list[str | None] = []

        async def never_acks(message: Any) -> None:
            seen.append(message.message_id)

        await queue.consume(never_acks)
        async with Publisher(config(amqp_url)) as publisher:
            report = await publisher.publish_many(some_jobs(5_000))
        assert report.ok
        assert len(seen) == 1
