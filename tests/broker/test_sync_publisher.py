"""What synchronous code gets: the same publisher from a thread of its own, across threads and forks."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rabbitray.actors.errors import (
    BrokerUnreachableError,
    EncodeError,
    PublisherClosedError,
    PublisherFullError,
    UnroutableError,
)
from rabbitray.actors.message.headers import TRACEPARENT
from rabbitray.actors.message.job import Job
from rabbitray.actors.publisher import PublisherConfig, SyncPublisher
from tests.kit.eventually import eventually_sync
from tests.kit.queue_access import declare, depth, drained

QUEUE = "jobs"


@pytest.fixture
def queue_url(amqp_url: str) -> str:
    asyncio.run(declare(amqp_url, QUEUE))
    return amqp_url


def config(url: str, **changes: Any) -> PublisherConfig:
    return PublisherConfig(**{"url": url, "queue": QUEUE, **changes})


def queued_ids(url: str) -> set[str | None]:
    return {message.message_id for message in asyncio.run(drained(url, QUEUE))}


def test_it_publishes_submits_and_reports(queue_url: str) -> None:
    with SyncPublisher(config(queue_url)) as publisher:
        publisher.publish(Job(id="one"))
        publisher.submit(Job(id="two")).result(10)
        report = publisher.publish_many([Job(id="three"), Job(id="four")], packed=True)
    assert [job.id for job in report.confirmed] == ["three", "four"]
    assert asyncio.run(depth(queue_url, QUEUE)) == 3


def test_errors_are_those_of_the_publisher(amqp_url: str) -> None:
    with SyncPublisher(config(amqp_url)) as publisher:
        with pytest.raises(UnroutableError):
            publisher.publish(Job())
        with pytest.raises(UnroutableError):
            publisher.submit(Job()).result(10)
        with pytest.raises(EncodeError):
            publisher.submit(Job(payload=object()))


def test_an_unreachable_broker_is_told_and_may_be_tried_again() -> None:
    publisher = SyncPublisher(config("amqp://guest:guest@127.0.0.1:9/"))
    for _ in range(2):
        with pytest.raises(BrokerUnreachableError):
            publisher.publish(Job())
    publisher.close()


def test_many_threads_share_one(queue_url: str) -> None:
    jobs = [[Job() for _ in range(200)] for _ in range(8)]
    with SyncPublisher(config(queue_url)) as publisher, concurrent.futures.ThreadPoolExecutor(8) as threads:

        def produce(mine: list[Job]) -> None:
            for future in [publisher.submit(job) for job in mine]:
                future.result(30)
            publisher.publish(Job())

        list(threads.map(produce, jobs))
    assert asyncio.run(depth(queue_url, QUEUE)) == 8 * 201


def submit_many(publisher: SyncPublisher, count: int) -> None:
    for _ in range(count):
        publisher.submit(Job())


def test_submit_is_bounded(queue_url: str) -> None:
    with SyncPublisher(config(queue_url, max_outstanding=5)) as publisher:
        with pytest.raises(PublisherFullError):
            submit_many(publisher, 10_000)
        eventually_sync(lambda: publisher.outstanding == 0)
        publisher.submit(Job()).result(10)


def test_close_waits_for_confirms_and_ends_it(queue_url: str) -> None:
    publisher = SyncPublisher(config(queue_url))
    futures = [publisher.submit(Job()) for _ in range(1_000)]
    assert publisher.close().open == ()
    assert publisher.close().open == ()
    assert all(future.done() and future.exception() is None for future in futures)
    with pytest.raises(PublisherClosedError):
        publisher.publish(Job())


def in_child(work: Any) -> int:
    """Run `work` in a forked child and return its exit code; it ends without the test run's clean-up."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 # whatever it is, the child must end here
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_parent_and_forked_children_publish_on(queue_url: str) -> None:
    with SyncPublisher(config(queue_url)) as publisher:
        publisher.publish(Job(id="before"))

        def child() -> None:
            publisher.publish(Job(id=f"child-{os.getpid() % 2}-{id(child)}"))
            assert publisher.publish_many([Job(), Job()]).ok
            assert publisher.close().open == ()

        for _ in range(2):
            assert in_child(child) == 0
            publisher.publish(Job())  # its own connection and thread are as they were
        publisher.submit(Job(id="after")).result(10)
    ids = queued_ids(queue_url)
    assert {"before", "after"} <= ids
    assert len(ids) >= 1 + 2 + 4 + 1


def test_what_was_submitted_is_waited_for_at_exit(queue_url: str) -> None:
    code = (
        "import sys\n"
        "from rabbitray import Job, PublisherConfig, SyncPublisher\n"
        f"publisher = SyncPublisher(PublisherConfig(url=sys.argv[1], queue={QUEUE!r}))\n"
        "for n in range(500): publisher.submit(Job(id=str(n)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, queue_url], timeout=60, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert queued_ids(queue_url) == {str(n) for n in range(500)}


class Tracer:
    @contextmanager
    def publish_span(self, destination: str, message_id: str, *, routing_key: str) -> Iterator[None]:
        yield

    def inject(self, headers: dict[str, Any]) -> None:
        headers[TRACEPARENT] = "00-1"


def test_trace_context_travels_from_either_way_of_sending(queue_url: str) -> None:
    with SyncPublisher(config(queue_url), tracer=Tracer()) as publisher:
        publisher.publish(Job())
        publisher.submit(Job()).result(10)
    messages = asyncio.run(drained(queue_url, QUEUE))
    assert [message.headers[TRACEPARENT] for message in messages] == ["00-1", "00-1"]
