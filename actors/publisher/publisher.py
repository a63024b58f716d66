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
    """Sends jobs to one queue and knows what became of each.

    An async context manager: entering connects (BrokerUnreachableError), leaving waits for confirms. Every
    message is persistent, mandatory and confirmed. After a lost connection it reconnects by itself and sends
    what was not confirmed again under the same `message_id`, until that message's deadline,
    `confirm_timeout_s` after the call. For one event loop; nothing here blocks it or waits longer than the
    time-outs.
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
        """Messages sent or waiting to be, not yet confirmed."""
        return self._pipeline.outstanding

    @property
    def connected(self) -> bool:
        """True while messages go out; after a loss they wait here for the next connection."""
        return self._pipeline.connected

    async def open(self) -> None:
        """Connect and open the channels; may be called twice. Raises BrokerUnreachableError."""
        await self._pipeline.open()
        if self._meter is not None:
            self._meter.start()

    async def close(self, timeout_s: float | None = None) -> CloseReport:
        """Wait for confirms up to `timeout_s` (default: the config's) and disconnect; may be called twice.

        What is still unconfirmed then fails as uncertain for its callers and is named in the report.
        """
        ended = await self._pipeline.close(self.config.close_timeout_s if timeout_s is None else timeout_s)
        if self._meter is not None:
            self._meter.stop()
        return ended

    async def publish(self, job: Job) -> None:
        """Send one job and return when the broker has confirmed it, waiting for room if need be.

        Raises UnroutableError, RefusedError (certain: in no queue), PublishTimeoutError, UncertainError
        (ambiguous: publish again under the same id), EncodeError, PublisherClosedError. Cancelled: it may
        still be sent.
        """
        if self._tracer is None:
            await self._deliver(self._maker.job(job))
            return
        with self._maker.span(job):
            await self._deliver(self._maker.job(job))

    def submit(self, job: Job) -> asyncio.Future[None]:
        """Send one job and return at once a future that ends as `publish` would.

        Raises PublisherFullError when the bound on unconfirmed messages is met: nothing was sent then.
        """
        if self._tracer is None:
            return self._submit(self._maker.job(job))
        with self._maker.span(job):
            return self._submit(self._maker.job(job))

    async def publish_message(self, message: EncodedMessage) -> None:
        """Send a message made elsewhere, e.g. a retry copy, to its own destination; as `publish` otherwise."""
        await self._deliver(self._maker.message(message))

    def submit_message(self, message: EncodedMessage) -> asyncio.Future[None]:
        """Send a message made elsewhere and return at once; as `submit` otherwise."""
        return self._submit(self._maker.message(message))

    async def publish_many(self, jobs: Iterable[Job], packed: bool | int = False) -> PublishReport:
        """Send many jobs, pipelined, and report how each ended; a failed one stops no other.

        `packed`: True puts `max_batch` jobs into one message, a number that many; they are confirmed or fail
        together, and are worked one by one. Keeps all jobs in memory for the report: feed it in parts. Raises
        ConfigurationError, before anything is sent, for more than `max_records` jobs in one message.
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
        """Take a made message if there is room, and tell `promise` how it ended; for `SyncPublisher`."""
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
