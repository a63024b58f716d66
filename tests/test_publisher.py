"""What a producer gets from the Publisher, on a real node: every message ends once, truly, and in time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from rabbitray.actors.errors import (
    BrokerUnreachableError,
    ConfigurationError,
    EncodeError,
    PublisherClosedError,
    PublisherFullError,
    PublishFailedError,
    PublishTimeoutError,
    RefusedError,
    UncertainError,
    UnroutableError,
)
from rabbitray.actors.message.headers import PACKED, PUBLISHED, RECORDS, TRACEPARENT
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.wire import decode
from rabbitray.actors.publisher import EncodedMessage, Meter, PublishBatch, Publisher, PublisherConfig
from rabbitray.actors.publisher.amqp import frames as our_frames
from rabbitray.actors.publisher.amqp.connection import backoff_s
from rabbitray.actors.publisher.backpressure import Budget
from rabbitray.actors.secret import Secret, redact
from rabbitray.cluster.broker import PrivateBroker
from tests.eventually import eventually
from tests.queue_access import declare, depth, drained, opened

QUEUE = "jobs"


def config(url: str, **changes: Any) -> PublisherConfig:
    return PublisherConfig(**{"url": url, "queue": QUEUE, **changes})


def some_jobs(count: int) -> list[Job]:
    return [Job(user_id=f"user-{n}", message_type="BIRTHDAY") for n in range(count)]


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
    assert message.content_type == "application/json"
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


def test_the_format_bounds_a_packed_message_too() -> None:
    plain = config("amqp://localhost", max_records=100_000)
    assert plain.packed_size(65_534) == 65_534
    with pytest.raises(ConfigurationError):
        plain.packed_size(65_535)
    assert [plain.packed_size(packed) for packed in (False, 0, True, 1)] == [0, 0, 100, 1]


async def test_a_message_made_elsewhere_may_be_larger_than_a_job_may(amqp_url: str) -> None:
    """A dead letter that was too large for the pool: refusing its copy would bring the message back for ever."""
    await declare(amqp_url, QUEUE)
    async with Publisher(config(amqp_url, max_message_bytes=1_000)) as publisher:
        await publisher.publish_message(EncodedMessage(body=b"x" * 5_000, message_id="m", routing_key=QUEUE))
        [message] = await drained(amqp_url, QUEUE)
    assert len(message.body) == 5_000


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


async def test_an_unroutable_message_raises_and_harms_no_other(amqp_url: str) -> None:
    await declare(amqp_url, QUEUE)
    nowhere = EncodedMessage(body=b"x", message_id="lost", routing_key="no-such-queue")
    here = EncodedMessage(body=b"x", message_id="lost", routing_key=QUEUE)
    async with Publisher(config(amqp_url, channels=1)) as publisher:
        ways = [publisher.submit_message(message) for message in [nowhere, here, nowhere, here, here]]
        ends = await asyncio.gather(*ways, return_exceptions=True)
        with pytest.raises(UnroutableError, match=r"lost.*NO_ROUTE"):
            await publisher.publish_message(nowhere)
    kinds = [type(end) for end in ends]
    assert kinds.count(UnroutableError) == 2
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


async def test_budget_serves_in_order_and_forgets_who_gave_up() -> None:
    budget = Budget(1, 100)
    await budget.take(10)
    first = asyncio.ensure_future(budget.take(10))
    second = asyncio.ensure_future(budget.take(10))
    await asyncio.sleep(0)
    assert not budget.try_take(1)
    first.cancel()
    budget.give(10)
    await second
    budget.give(10)
    assert (budget.messages, budget.bytes) == (0, 0)


async def test_room_given_to_somebody_who_is_cancelled_then_is_given_back() -> None:
    budget = Budget(1, 100)
    await budget.take(10)
    late = asyncio.ensure_future(budget.take(10))
    await asyncio.sleep(0)
    budget.give(10)
    late.cancel()
    with suppress(asyncio.CancelledError):
        await late
    assert (budget.messages, budget.bytes) == (0, 0)


# -- losses


async def publish_until(publisher: Publisher, stop: asyncio.Event) -> dict[str, Exception | None]:
    """Publish with 50 producers until told to stop; how each id ended."""
    ends: dict[str, Exception | None] = {}

    async def producer() -> None:
        while not stop.is_set():
            job = Job()
            assert job.id is not None
            try:
                await publisher.publish(job)
            except PublishFailedError as error:
                ends[job.id] = error
            else:
                ends[job.id] = None

    await asyncio.gather(*(producer() for _ in range(50)))
    return ends


async def confirmed_more(publisher: Publisher, count: int, within_s: float = 20) -> None:
    """Wait for `count` more confirms."""
    before = publisher.totals.confirmed
    await eventually(lambda: publisher.totals.confirmed >= before + count, within_s=within_s)


@pytest.mark.parametrize("confirm_timeout_s", [1.0, 60.0])
async def test_broker_killed_under_load_loses_nothing_that_was_confirmed(
    own_broker: PrivateBroker, confirm_timeout_s: float
) -> None:
    await declare(own_broker.url, QUEUE)
    stop = asyncio.Event()
    async with Publisher(config(own_broker.url, confirm_timeout_s=confirm_timeout_s)) as publisher:
        load = asyncio.ensure_future(publish_until(publisher, stop))
        await confirmed_more(publisher, 500)
        await asyncio.to_thread(own_broker.kill)
        await asyncio.to_thread(own_broker.start)
        await confirmed_more(publisher, 500, within_s=30)
        stop.set()
        ends = await load
    in_queue = {message.message_id for message in await drained(own_broker.url, QUEUE)}
    confirmed = {identity for identity, error in ends.items() if error is None}
    failed = [error for error in ends.values() if error is not None]
    assert confirmed <= in_queue
    assert in_queue <= set(ends)
    assert all(isinstance(error, PublishTimeoutError | UncertainError) for error in failed)
    assert bool(failed) is (confirm_timeout_s < 10)


async def test_connections_closed_by_the_broker_lose_nothing(amqp_url: str, broker: PrivateBroker) -> None:
    await declare(amqp_url, QUEUE)
    vhost = amqp_url.rpartition("/")[2]
    stop = asyncio.Event()
    async with Publisher(config(amqp_url, confirm_timeout_s=20)) as publisher:
        load = asyncio.ensure_future(publish_until(publisher, stop))
        for _ in range(2):
            await confirmed_more(publisher, 500)
            await asyncio.to_thread(broker.ctl, "close_all_connections", "--vhost", vhost, "test")
        await confirmed_more(publisher, 500)
        stop.set()
        ends = await load
    assert set(ends.values()) == {None}
    assert set(ends) <= {message.message_id for message in await drained(amqp_url, QUEUE)}


async def test_messages_wait_for_a_broker_that_comes_back_until_their_deadline(
    own_broker: PrivateBroker,
) -> None:
    await declare(own_broker.url, QUEUE)
    async with (
        Publisher(config(own_broker.url, confirm_timeout_s=60)) as patient,
        Publisher(config(own_broker.url, confirm_timeout_s=0.5)) as hasty,
    ):
        await asyncio.to_thread(own_broker.stop)
        await eventually(lambda: not patient.connected and not hasty.connected)
        waiting = patient.submit(Job(id="patient"))
        with pytest.raises(PublishTimeoutError, match=r"never sent.*no connection"):
            await hasty.publish(Job(id="hasty"))
        await asyncio.to_thread(own_broker.start)
        await waiting
    assert [message.message_id for message in await drained(own_broker.url, QUEUE)] == ["patient"]


@contextmanager
def memory_alarm(broker: PrivateBroker) -> Iterator[None]:
    broker.ctl("set_vm_memory_high_watermark", "0.00001")
    try:
        yield
    finally:
        broker.ctl("set_vm_memory_high_watermark", "0.4")


async def test_a_broker_alarm_gives_a_typed_error_after_the_timeout_and_then_it_goes_on(
    own_broker: PrivateBroker,
) -> None:
    await declare(own_broker.url, QUEUE)
    closing = Publisher(config(own_broker.url, confirm_timeout_s=30))
    await closing.open()
    async with Publisher(config(own_broker.url, confirm_timeout_s=3.0, max_outstanding=20)) as publisher:
        await publisher.publish(Job())
        with memory_alarm(own_broker):
            async with asyncio.timeout(30):
                report = await publisher.publish_many(some_jobs(20))
                assert len(report.timed_out) == 20
                with pytest.raises(PublishTimeoutError, match="alarm"):
                    await publisher.publish(Job())  # no room: what timed out may still wait in the socket
                assert publisher.outstanding == 20
                await a_closing_publisher_reports_what_stays_open(closing)
        await eventually(lambda: publisher.outstanding == 0)
        await publisher.publish(Job())
    assert publisher.totals.failures == {"timed_out": 21}


async def a_closing_publisher_reports_what_stays_open(publisher: Publisher) -> None:
    jobs = some_jobs(5)
    futures = [publisher.submit(job) for job in jobs]
    report = await publisher.close(timeout_s=0.3)
    ends = await asyncio.gather(*futures, return_exceptions=True)
    assert set(report.open) == {job.id for job in jobs}
    assert all(isinstance(end, PublishFailedError) for end in ends)


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


async def test_an_unreachable_broker_is_one_clear_line() -> None:
    url = "amqp://user:s3cret@127.0.0.1:9/"
    with pytest.raises(BrokerUnreachableError, match=r"127\.0\.0\.1:9") as caught:
        await Publisher(config(url)).open()
    assert "s3cret" not in str(caught.value)


async def test_a_wrong_password_is_told_without_the_password(amqp_url: str) -> None:
    url = amqp_url.replace("guest:guest@", "guest:s3cret@")
    with pytest.raises(BrokerUnreachableError, match="ACCESS_REFUSED") as caught:
        await Publisher(config(url)).open()
    assert "s3cret" not in str(caught.value)


def test_settings_that_cannot_work_are_refused() -> None:
    for wrong in ({"channels": 0}, {"confirm_timeout_s": 0}, {"heartbeat_s": 0}, {"queue": ""}, {"queue": "x" * 256}):
        with pytest.raises(ConfigurationError):
            config("amqp://localhost", **wrong)


async def test_an_address_that_is_no_amqp_url_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        await Publisher(config("http://user:s3cret@localhost")).open()


def test_a_config_does_not_show_its_password() -> None:
    shown = repr(config("amqp://user:s3cret@localhost"))
    assert "s3cret" not in shown
    assert config("amqp://user:s3cret@localhost") == config("amqp://user:s3cret@localhost")


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("amqp://u:p@h:5672/v failed", "amqp://***@h:5672/v failed"),
        ("amqps://u:p/w@x@h", "amqps://***@h"),
        ("two amqp://a:b@c and http://d:e@f", "two amqp://***@c and http://***@f"),
        ("http://host:80/path", "http://host:80/path"),
        ("https://token@host", "https://***@host"),
        ('{"u":"amqp://a:b@c","m":"x@y"}', '{"u":"amqp://***@c","m":"x@y"}'),
    ],
)
def test_credentials_in_a_text_are_hidden(text: str, hidden: str) -> None:
    assert redact(text) == hidden


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret("s3cret")
    assert "s3cret" not in f"{secret} {secret!r} {secret:>10}" + str([secret])
    assert Secret(secret).reveal() == "s3cret"


def test_a_producer_s_import_pulls_in_neither_ray_nor_duckdb() -> None:
    code = (
        "import sys, actors; early = set(sys.modules);"
        "from rabbitray import Job, Publisher, SyncPublisher, Retry, Reject;"
        "heavy = {'ray', 'duckdb', 'pyarrow', 'opentelemetry'} & set(sys.modules);"
        "assert not heavy, heavy; assert 'aiormq' not in early"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -- measuring and tracing


class Sink:
    def __init__(self) -> None:
        self.batches: list[PublishBatch] = []

    def add(self, batch: PublishBatch) -> None:
        self.batches.append(batch)


async def test_publishes_are_recorded_in_batches(amqp_url: str) -> None:
    await declare(amqp_url, QUEUE)
    sink = Sink()
    async with Publisher(config(amqp_url, metrics_interval_s=60.0), sink=sink) as publisher:
        await publisher.publish_many(some_jobs(120))
    assert [len(batch.durations_s) for batch in sink.batches] == [50, 50, 20]
    assert all(0 < seconds < 60 for batch in sink.batches for seconds in batch.durations_s)


async def test_a_few_records_are_flushed_after_the_interval() -> None:
    sink = Sink()
    meter = Meter(sink, size=50, interval_s=0.02)
    meter.confirmed(0.001)
    meter.failed(UnroutableError("x"))
    await eventually(lambda: sink.batches)
    assert sink.batches == [PublishBatch(durations_s=(0.001,), failures={"unroutable": 1})]


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


# -- rules


def test_backoff_grows_is_capped_and_uses_all_of_its_jitter() -> None:
    plain = config("amqp://localhost", backoff_base_s=0.1, backoff_max_s=5.0)
    assert [backoff_s(n, plain, 1.0) for n in (0, 1, 5, 6, 1000)] == [0.1, 0.2, 3.2, 5.0, 5.0]
    assert backoff_s(3, plain, 0.0) == 0.0


def test_our_frames_are_byte_for_byte_those_of_pamqp() -> None:
    properties = commands.Basic.Properties(
        content_type="application/msgpack",
        content_encoding="gzip",
        headers={PUBLISHED: 2**40},
        delivery_mode=2,
        message_id="ä" * 20,
        timestamp=datetime.fromtimestamp(0, UTC),
    )
    header = our_frames.content_header(
        body_size=5,
        headers=our_frames.published_only(2**40),
        message_id="ä" * 20,
        timestamp_s=0,
        content_type="application/msgpack",
        content_encoding="gzip",
    )
    parts: list[bytes] = []
    our_frames.append_publish(parts, 3, our_frames.publish_method("ex", "key"), header, b"12345", 131_072)
    theirs = [
        frame.marshal(commands.Basic.Publish(exchange="ex", routing_key="key", mandatory=True), 3),
        frame.marshal(ContentHeader(body_size=5, properties=properties), 3),
        frame.marshal(ContentBody(b"12345"), 3),
    ]
    assert b"".join(parts) == b"".join(theirs)
    assert our_frames.published_only(2**40) == our_frames.table({PUBLISHED: 2**40})


def test_names_and_headers_that_amqp_cannot_carry_are_refused() -> None:
    with pytest.raises(EncodeError):
        our_frames.publish_method("x" * 256, "")
    with pytest.raises(EncodeError):
        our_frames.table({"a": object()})


def test_bytes_that_came_in_a_header_can_go_out_again() -> None:
    assert our_frames.table({"a": [{"b": b"\xff"}]}) == our_frames.table({"a": [{"b": bytearray(b"\xff")}]})
