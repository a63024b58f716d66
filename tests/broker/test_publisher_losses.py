"""Killed nodes, closed connections and alarms: nothing that was confirmed is lost."""

from __future__ import annotations

import asyncio

import pytest

from rabbitray.actors.errors import (
    PublishFailedError,
    PublishTimeoutError,
    UncertainError,
)
from rabbitray.actors.message.job import Job
from rabbitray.actors.publisher import Publisher
from rabbitray.cluster.broker import PrivateBroker
from tests.kit.eventually import eventually
from tests.kit.killed_task import UnexpectedError, kill_task
from tests.kit.memory_alarm import memory_alarm
from tests.kit.publishing import QUEUE, config, some_jobs
from tests.kit.queue_access import declare, drained

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


async def test_what_keeps_the_connection_goes_on_whatever_ends_it(
    amqp_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Beside the tests of tests/unit/test_kept_work.py: it needs a connection."""
    await declare(amqp_url, QUEUE)
    async with Publisher(config(amqp_url)) as publisher:
        await publisher.publish(Job())
        kill_task("publisher-connection", UnexpectedError("killed by the test"))
        await eventually(lambda: "it begins again" in caplog.text)
        assert (await publisher.publish_many(some_jobs(20))).ok


async def test_broker_killed_under_load_loses_nothing_that_was_confirmed(
    own_broker: PrivateBroker, own_url: str
) -> None:
    """A publisher that gives up before the broker is back tells of it; a patient one has nothing to tell."""
    stop = asyncio.Event()
    await asyncio.gather(declare(own_url, "hasty"), declare(own_url, "patient"))
    async with (
        Publisher(config(own_url, queue="hasty", confirm_timeout_s=1.0)) as hasty,
        Publisher(config(own_url, queue="patient", confirm_timeout_s=60.0)) as patient,
    ):
        load = asyncio.gather(publish_until(hasty, stop), publish_until(patient, stop))
        await asyncio.gather(confirmed_more(hasty, 200), confirmed_more(patient, 200))
        await asyncio.to_thread(own_broker.kill)
        await asyncio.to_thread(own_broker.start)
        await asyncio.gather(confirmed_more(hasty, 200, within_s=30), confirmed_more(patient, 200, within_s=30))
        stop.set()
        ends_of_hasty, ends_of_patient = await load
    assert await unconfirmed(own_url, "hasty", ends_of_hasty)
    assert not await unconfirmed(own_url, "patient", ends_of_patient)


async def unconfirmed(url: str, queue: str, ends: dict[str, Exception | None]) -> list[Exception]:
    """How the others ended; what was confirmed is in the queue, and nothing that was not published."""
    in_queue = {message.message_id for message in await drained(url, queue)}
    confirmed = {identity for identity, error in ends.items() if error is None}
    failed = [error for error in ends.values() if error is not None]
    assert confirmed <= in_queue
    assert in_queue <= set(ends)
    assert all(isinstance(error, PublishTimeoutError | UncertainError) for error in failed)
    return failed


async def test_connections_closed_by_the_broker_lose_nothing(amqp_url: str, broker: PrivateBroker) -> None:
    await declare(amqp_url, QUEUE)
    vhost = amqp_url.rpartition("/")[2]
    stop = asyncio.Event()
    async with Publisher(config(amqp_url, confirm_timeout_s=20)) as publisher:
        load = asyncio.ensure_future(publish_until(publisher, stop))
        for _ in range(2):
            await confirmed_more(publisher, 200)
            await asyncio.to_thread(broker.ctl, "close_all_connections", "--vhost", vhost, "test")
        await confirmed_more(publisher, 200)
        stop.set()
        ends = await load
    assert set(ends.values()) == {None}
    assert set(ends) <= {message.message_id for message in await drained(amqp_url, QUEUE)}


async def test_messages_wait_for_a_broker_that_comes_back_until_their_deadline(
    own_broker: PrivateBroker, own_url: str
) -> None:
    await declare(own_url, QUEUE)
    async with (
        Publisher(config(own_url, confirm_timeout_s=60)) as patient,
        Publisher(config(own_url, confirm_timeout_s=0.5)) as hasty,
    ):
        await asyncio.to_thread(own_broker.stop)
        await eventually(lambda: not patient.connected and not hasty.connected)
        waiting = patient.submit(Job(id="patient"))
        with pytest.raises(PublishTimeoutError, match=r"never sent.*no connection"):
            await hasty.publish(Job(id="hasty"))
        await asyncio.to_thread(own_broker.start)
        await waiting
    assert [message.message_id for message in await drained(own_url, QUEUE)] == ["patient"]


async def test_a_broker_alarm_gives_a_typed_error_after_the_timeout_and_then_it_goes_on(
    own_broker: PrivateBroker, own_url: str
) -> None:
    await declare(own_url, QUEUE)
    closing = Publisher(config(own_url, confirm_timeout_s=30))
    await closing.open()
    async with Publisher(config(own_url, confirm_timeout_s=3.0, max_outstanding=20)) as publisher:
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
