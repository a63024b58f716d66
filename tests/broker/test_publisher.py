"""What a producer gets from the Publisher, on a real node: every message ends once, truly, and in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rabbitray.actors.errors import (
    BrokerUnreachableError,
    ConfigurationError,
    EncodeError,
    PublisherClosedError,
)
from rabbitray.actors.message.headers import JSON, PACKED, PUBLISHED, RECORDS, TRACEPARENT, content_kind, is_marked
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.wire import decode
from rabbitray.actors.publisher import EncodedMessage, Publisher
from tests.kit.publishing import QUEUE, Sink, config, some_jobs
from tests.kit.queue_access import declare, depth, drained

# -- one message


async def test_a_published_job_is_in_the_queue_with_everything_a_reader_needs(amqp_url: str) -> None:
    await declare(amqp_url, QUEUE)
    job = Job(user_id="user-123", message_type="BIRTHDAY", payload={"n": 2**63})
    async with Publisher(config(amqp_url)) as publisher:
        await publisher.publish(job)
        [message] = await drained(amqp_url, QUEUE)
    assert decode(message.body, message.content_type, message.content_encoding) == [job]
    assert message.message_id == job.id
    assert message.delivery_mode == 2
    assert message.timestamp is not None
    published_ms = message.headers[PUBLISHED]
    assert isinstance(published_ms, int)
    assert abs(published_ms / 1000 - time.time()) < 60
    assert abs(message.timestamp.timestamp() - published_ms / 1000) <= 1


@pytest.mark.parametrize("form", ["compact_json", "verbose_json"])
async def test_json_forms_can_be_written_for_old_readers(amqp_url: str, form: Any) -> None:
    await declare(amqp_url, QUEUE)
    job = Job(user_id="user-123", message_type="BIRTHDAY")
    async with Publisher(config(amqp_url, form=form)) as publisher:
        await publisher.publish(job)
        [message] = await drained(amqp_url, QUEUE)
    assert (content_kind(message.content_type), is_marked(message.content_type)) == (JSON, True)
    assert decode(message.body, message.content_type) == [job]


async def test_a_job_without_an_id_gets_one(amqp_url: str) -> None:
    await declare(amqp_url, QUEUE)
    async with Publisher(config(amqp_url)) as publisher:
        await publisher.publish(Job(id=None, payload=1))
        [message] = await drained(amqp_url, QUEUE)
    assert decode(message.body, message.content_type)[0].id == message.message_id


@pytest.mark.parametrize("size", [0, 1, 131_063, 131_064, 131_065, 1_000_000])
async def test_bodies_of_any_size_arrive_whole(amqp_url: str, size: int) -> None:
    await declare(amqp_url, QUEUE)
    body = bytes(n % 251 for n in range(size))
    async with Publisher(config(amqp_url)) as publisher:
        await publisher.publish_message(EncodedMessage(body=body, message_id="m", routing_key=QUEUE))
        [message] = await drained(amqp_url, QUEUE)
    assert message.body == body


async def test_a_message_made_elsewhere_keeps_its_headers_and_destination(amqp_url: str) -> None:
    await declare(amqp_url, "other")
    message = EncodedMessage(
        body=b"x",
        message_id="copy-1",
        routing_key="other",
        content_type="text/plain",
        content_encoding="utf-8",
        headers={"x-rabbitray-key": "k", "x-rabbitray-attempt": 3},
        timestamp_s=1735819200,
    )
    async with Publisher(config(amqp_url)) as publisher:
        await publisher.publish_message(message)
        await publisher.submit_message(message)
        one, two = await drained(amqp_url, "other")
    assert one.headers == two.headers == message.headers
    assert (one.message_id, one.content_type, one.content_encoding) == ("copy-1", "text/plain", "utf-8")
    assert one.timestamp is not None
    assert one.timestamp.timestamp() == 1735819200


async def test_submit_returns_at_once_and_its_future_ends_as_publish_would(amqp_url: str) -> None:
    await declare(amqp_url, QUEUE)
    jobs = some_jobs(300)
    async with Publisher(config(amqp_url)) as publisher:
        futures = [publisher.submit(job) for job in jobs]
        assert publisher.outstanding == 300
        await asyncio.gather(*futures)
        assert publisher.outstanding == 0
    assert {m.message_id for m in await drained(amqp_url, QUEUE)} == {job.id for job in jobs}


# -- many


async def test_many_jobs_are_reported_each(amqp_url: str) -> None:
    await declare(amqp_url, QUEUE)
    jobs = some_jobs(2_500)
    async with Publisher(config(amqp_url)) as publisher:
        report = await publisher.publish_many(jobs)
    assert report.ok
    assert report.confirmed == tuple(jobs)
    assert await depth(amqp_url, QUEUE) == 2_500


async def test_packed_jobs_travel_together_and_keep_their_ids(amqp_url: str) -> None:
    await declare(amqp_url, QUEUE)
    jobs = some_jobs(250)
    async with Publisher(config(amqp_url)) as publisher:
        report = await publisher.publish_many(jobs, packed=True)
        messages = await drained(amqp_url, QUEUE)
    assert report.confirmed == tuple(jobs)
    assert [message.headers[RECORDS] for message in messages] == [100, 100, 50]
    assert [job for m in messages for job in decode(m.body, PACKED)] == jobs
    assert {message.content_type for message in messages} == {PACKED}


async def test_packed_messages_stay_within_the_size_bound(amqp_url: str) -> None:
    await declare(amqp_url, QUEUE)
    jobs = [Job(payload="x" * 400) for _ in range(10)]
    async with Publisher(config(amqp_url, max_message_bytes=1_500)) as publisher:
        report = await publisher.publish_many(jobs, packed=True)
        messages = await drained(amqp_url, QUEUE)
    assert report.ok
    assert len(messages) == 4
    assert all(len(message.body) <= 1_500 for message in messages)


async def test_a_job_that_cannot_be_written_stops_no_other(amqp_url: str) -> None:
    await declare(amqp_url, QUEUE)
    good, bad, big = Job(), Job(payload=object()), Job(payload="x" * 2_000)
    async with Publisher(config(amqp_url, max_message_bytes=1_000)) as publisher:
        for packed in (False, True):
            report = await publisher.publish_many([good, bad, big, good], packed=packed)
            assert report.confirmed == (good, good)
            assert [failed.job for failed in report.unwritable] == [bad, big]
        with pytest.raises(EncodeError):
            await publisher.publish(bad)
        with pytest.raises(EncodeError):
            publisher.submit(big)


async def test_no_more_jobs_go_into_one_message_than_its_readers_take(amqp_url: str) -> None:
    await declare(amqp_url, QUEUE)
    async with Publisher(config(amqp_url, max_records=40)) as publisher:
        for packed in (41, 70_000, -1):
            with pytest.raises(ConfigurationError, match=f"{packed} jobs in one message.*max_records = 40"):
                await publisher.publish_many(some_jobs(3), packed=packed)
        assert (await publisher.publish_many(some_jobs(100), packed=True)).ok
        messages = await drained(amqp_url, QUEUE)
    assert [message.headers[RECORDS] for message in messages] == [40, 40, 20]


async def test_a_message_made_elsewhere_may_be_larger_than_a_job_may(amqp_url: str) -> None:
    """A dead letter that was too large for the pool: refusing its copy would bring the message back for ever."""
    await declare(amqp_url, QUEUE)
    async with Publisher(config(amqp_url, max_message_bytes=1_000)) as publisher:
        await publisher.publish_message(EncodedMessage(body=b"x" * 5_000, message_id="m", routing_key=QUEUE))
        [message] = await drained(amqp_url, QUEUE)
    assert len(message.body) == 5_000


# -- life


async def test_close_waits_for_confirms_and_may_be_called_twice(amqp_url: str) -> None:
    await declare(amqp_url, QUEUE)
    publisher = Publisher(config(amqp_url))
    assert (await publisher.close()).open == ()
    await publisher.open()
    await publisher.open()
    futures = [publisher.submit(job) for job in some_jobs(1_000)]
    assert (await publisher.close()).open == ()
    assert (await publisher.close()).open == ()
    assert all(future.done() and future.exception() is None for future in futures)
    assert await depth(amqp_url, QUEUE) == 1_000


async def test_a_closed_publisher_takes_nothing(amqp_url: str) -> None:
    publisher = Publisher(config(amqp_url))
    with pytest.raises(PublisherClosedError):
        publisher.submit(Job())
    with pytest.raises(PublisherClosedError):
        await publisher.publish_many([Job()])
    await publisher.open()
    await publisher.close()
    with pytest.raises(PublisherClosedError):
        await publisher.publish(Job())


async def test_a_wrong_password_is_told_without_the_password(amqp_url: str) -> None:
    url = amqp_url.replace("guest:guest@", "guest:s3cret@")
    with pytest.raises(BrokerUnreachableError, match="ACCESS_REFUSED") as caught:
        await Publisher(config(url)).open()
    assert "s3cret" not in str(caught.value)


async def test_publishes_are_recorded_in_batches(amqp_url: str) -> None:
    await declare(amqp_url, QUEUE)
    sink = Sink()
    async with Publisher(config(amqp_url, metrics_interval_s=60.0), sink=sink) as publisher:
        await publisher.publish_many(some_jobs(120))
    assert [len(batch.durations_s) for batch in sink.batches] == [50, 50, 20]
    assert all(0 < seconds < 60 for batch in sink.batches for seconds in batch.durations_s)


async def test_metrics_can_be_switched_off(amqp_url: str) -> None:
    await declare(amqp_url, QUEUE)
    async with Publisher(config(amqp_url, metrics_enabled=False)) as publisher:
        await publisher.publish(Job())
        assert publisher.totals.confirmed == 0


class Tracer:
    def __init__(self) -> None:
        self.spans: list[tuple[str, str]] = []
        self.open = 0

    @contextmanager
    def publish_span(self, destination: str, message_id: str, *, routing_key: str) -> Iterator[None]:
        self.spans.append((destination, message_id))
        self.open += 1
        yield
        self.open -= 1

    def inject(self, headers: dict[str, Any]) -> None:
        headers[TRACEPARENT] = f"00-{self.open}"


async def test_trace_context_travels_in_the_headers(amqp_url: str) -> None:
    await declare(amqp_url, QUEUE)
    tracer = Tracer()
    async with Publisher(config(amqp_url), tracer=tracer) as publisher:
        await publisher.publish(Job(id="a"))
        await publisher.submit(Job(id="b"))
        await publisher.publish_many([Job(id="c")])
        await publisher.publish_many([Job(id="d")], packed=True)
        messages = await drained(amqp_url, QUEUE)
    assert [m.headers[TRACEPARENT] for m in messages] == ["00-1", "00-1", "00-0", "00-0"]
    assert all(PUBLISHED in m.headers for m in messages)
    assert tracer.spans == [(QUEUE, "a"), (QUEUE, "b")]
