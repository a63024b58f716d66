"""Publisher: the queue writer for asynchronous code."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from rabbitray.actors.errors import (
    EncodeError,
    PublisherClosedError,
    PublisherFullError,
    PublishFailedError,
    RabbitrayError,
)
from rabbitray.actors.message.job import Job
from rabbitray.actors.publisher.config import PublisherConfig
from rabbitray.actors.publisher.message import EncodedMessage, Outgoing, Promise, Tracer
from rabbitray.actors.publisher.message_maker import PACKED_OVERHEAD, Maker
from rabbitray.actors.publisher.pipeline import Pipeline
from rabbitray.actors.publisher.report import CloseReport, Meter, MeterSink, PublishReport, PublishTotals, report

Group = tuple[list[Job], Outgoing | EncodeError]
"""Jobs that travel in one message, and the message; or why there is none."""


class Publisher:
    """Sends jobs to one queue, and says of each whether the broker has it.

    An async context manager: entering connects (raises BrokerUnreachableError), leaving waits for confirms. Every
    message is persistent, mandatory and confirmed. After a lost connection it reconnects by itself and sends what was
    not confirmed again under the same `message_id`, until that message's deadline, `confirm_timeout_s` after the call.
    A job that was confirmed is in a queue; one that was not may be there all the same, see PublishReport.

    For one event loop, which nothing here blocks. `tracer` makes a span for each publish, `sink` gets what became of
    them (default: `totals`, which adds up).
    """

    def __init__(self, config: PublisherConfig, *, tracer: Tracer | None = None, sink: MeterSink | None = None) -> None:
        self.config = config
        self.totals = PublishTotals()
        self._tracer = tracer
        self._meter: Meter | None = None
        if config.metrics_enabled:
            self._meter = Meter(sink or self.totals, size=config.metrics_batch, interval_s=config.metrics_interval_s)
        self._maker = Maker(config, tracer)
        self._packed_room = config.max_message_bytes - PACKED_OVERHEAD
        self._pipeline = Pipeline(config, self._meter)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def outstanding(self) -> int:
        """How many messages were sent, or wait to be, and are not confirmed."""
        return self._pipeline.outstanding

    @property
    def connected(self) -> bool:
        """Whether there is a connection; while there is none, messages wait for the next one."""
        return self._pipeline.connected

    async def open(self) -> None:
        """Connect and open the channels; may be called twice.

        Raises BrokerUnreachableError after one attempt of `connect_timeout_s`.
        """
        await self._pipeline.open()
        if self._meter is not None:
            self._meter.start()

    async def close(self, timeout_s: float | None = None) -> CloseReport:
        """Wait for confirms, at most `timeout_s` seconds, and disconnect; may be called twice.

        `timeout_s`: the config's `close_timeout_s` unless given. Whoever awaits a message that is still unconfirmed
        then gets UncertainError, and the report names it.
        """
        ended = await self._pipeline.close(self.config.close_within_s(timeout_s))
        if self._meter is not None:
            self._meter.stop()
        return ended

    async def publish(self, job: Job) -> None:
        """Send one job and return when the broker has confirmed it; waits for room where the bounds are met.

        Raises UnroutableError or RefusedError where it is certainly in no queue, PublishTimeoutError or UncertainError
        where it may be in one (publish it again under the same id), EncodeError or PublisherClosedError where nothing
        was sent. When the call is cancelled the job may still be sent.
        """
        if self._tracer is None:
            await self._deliver(self._maker.job(job))
            return
        with self._maker.span(job):
            await self._deliver(self._maker.job(job))

    def submit(self, job: Job) -> asyncio.Future[None]:
        """Send one job and return a future at once, which ends as `publish` would.

        Raises EncodeError, PublisherClosedError, and PublisherFullError when a bound on what is unconfirmed is met;
        nothing was sent then.
        """
        if self._tracer is None:
            return self._submit(self._maker.job(job))
        with self._maker.span(job):
            return self._submit(self._maker.job(job))

    async def publish_message(self, message: EncodedMessage) -> None:
        """Send a message that is encoded already to the destination that it names; raises as `publish`."""
        await self._deliver(self._maker.message(message))

    def submit_message(self, message: EncodedMessage) -> asyncio.Future[None]:
        """Send a message that is encoded already and return a future at once; raises as `submit`."""
        return self._submit(self._maker.message(message))

    async def publish_many(self, jobs: Iterable[Job], packed: bool | int = False) -> PublishReport:
        """Send many jobs, pipelined, and report how each ended; a failed one stops no other and raises nothing.

        `packed`: False, each job in a message of its own; True, `max_batch` jobs in one; a number, that many. Packed
        jobs are confirmed or fail together, and are worked one by one. All jobs stay in memory for the report: feed a
        large input in parts. Raises ConfigurationError for more than `max_records` jobs in one message, and
        PublisherClosedError; nothing was sent then.
        """
        self._pipeline.require_open()
        size = self.config.packed_size(packed)
        groups = self._packed(jobs, size) if size else self._singles(jobs)
        sent: list[tuple[list[Job], asyncio.Future[None] | RabbitrayError]] = []
        for number, (members, out) in enumerate(groups, start=1):
            sent.append((members, out if isinstance(out, EncodeError) else await self._admitted(out)))
            if number % self.config.max_batch == 0:
                await asyncio.sleep(0)  # let the sender and the confirms through
        return report([(job, end) for members, way in sent for end in [await _end(way)] for job in members])

    def try_send(self, out: Outgoing, promise: Promise) -> bool:
        """Take a made message if there is room; `promise` gets how it ended. For `SyncPublisher`."""
        return self._pipeline.try_admit(out, promise)

    def _submit(self, out: Outgoing) -> asyncio.Future[None]:
        promise: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._pipeline.try_admit(out, promise):
            raise PublisherFullError(f"{self.outstanding} messages are unconfirmed; await publish() instead")
        return promise

    async def _deliver(self, out: Outgoing) -> None:
        promise: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._pipeline.try_admit(out, promise):
            await self._pipeline.admit(out, promise)
        await promise

    async def _admitted(self, out: Outgoing) -> asyncio.Future[None] | RabbitrayError:
        promise: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            if not self._pipeline.try_admit(out, promise):
                await self._pipeline.admit(out, promise)
        except (PublishFailedError, PublisherClosedError, EncodeError) as error:
            return error
        return promise

    def _singles(self, jobs: Iterable[Job]) -> Iterator[Group]:
        make = self._maker.job
        for job in jobs:
            try:
                yield [job], make(job)
            except EncodeError as error:
                yield [job], error

    def _packed(self, jobs: Iterable[Job], size: int) -> Iterator[Group]:
        members: list[Job] = []
        records: list[bytes] = []
        used = 0
        for job in jobs:
            try:
                record = self._maker.record(job)
            except EncodeError as error:
                yield [job], error
                continue
            if members and (len(members) == size or used + len(record) > self._packed_room):
                yield members, self._maker.packed(records)
                members, records, used = [], [], 0
            members.append(job)
            records.append(record)
            used += len(record)
        if members:
            yield members, self._maker.packed(records)


async def _end(way: asyncio.Future[None] | RabbitrayError) -> RabbitrayError | None:
    if isinstance(way, RabbitrayError):
        return way
    try:
        await way
    except RabbitrayError as error:
        return error
    return None
