"""Pipeline: takes messages, batches them onto channels, and ends the future of each when the broker has answered.

Each message that was admitted ends exactly once: confirmed, unroutable, refused, timed out, or uncertain.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from rabbitray.actors.background import BackgroundTasks
from rabbitray.actors.backoff import Backoff
from rabbitray.actors.errors import (
    EncodeError,
    PublisherClosedError,
    PublishFailedError,
    PublishTimeoutError,
    RefusedError,
    UncertainError,
)
from rabbitray.actors.publisher.amqp import frames
from rabbitray.actors.publisher.amqp.connection import Link, Loss, addresses_of, reopen
from rabbitray.actors.publisher.backpressure import Budget
from rabbitray.actors.publisher.config import PublisherConfig
from rabbitray.actors.publisher.message import Outgoing, Promise
from rabbitray.actors.publisher.report import CloseReport, Meter
from rabbitray.actors.rabbitmq.failover import Addresses

log = logging.getLogger(__name__)

_MAX_WRITE_BYTES = 256 * 1024
_MAX_CHANNEL_LOSSES = 2


class Pipeline:
    """The messages of one publisher on one event loop."""

    def __init__(self, config: PublisherConfig, meter: Meter | None) -> None:
        self._config = config
        self._meter = meter
        self._budget = Budget(config.max_outstanding, config.max_outstanding_bytes)
        self._pending: deque[Outgoing] = deque()
        self._live: dict[Outgoing, None] = {}  # admitted and not settled, oldest first
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._link: Link | None = None
        self._addresses: Addresses | None = None
        self._tasks = BackgroundTasks(log, "The publisher's connection has failed")
        self._running: asyncio.Task[None] | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._tick_s = min(0.25, config.confirm_timeout_s / 20)
        self._accepting = False
        self._frame_max = 0  # of the last connection; 0: any size

    @property
    def outstanding(self) -> int:
        """Messages that count against the bound."""
        return self._budget.messages

    @property
    def connected(self) -> bool:
        """True while messages go out; after a loss they wait in the pipeline."""
        return self._link is not None

    # -- life

    async def open(self) -> None:
        """Connect; raises BrokerUnreachableError. From then on the pipeline reconnects by itself."""
        if self._running is None:
            self._addresses = addresses_of(self._config)
            self._link = await Link.open(self._config, self._answered, self._addresses)
            self._frame_max = self._link.frame_max
            self._running = self._tasks.keep(self._run, name="publisher-connection")
            self._accepting = True

    async def close(self, timeout_s: float) -> CloseReport:
        """Take nothing more, wait for confirms up to `timeout_s`, and report what stayed open."""
        self._accepting = False
        if self._running is None:
            return CloseReport()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("Publisher closes with %d messages unconfirmed", len(self._live))
        left = list(self._live)
        for out in left:
            self._settle(out, self._unfinished(out, "the publisher was closed before the confirm"))
        await self._end()
        return CloseReport(open=tuple(out.message_id for out in left))

    async def _end(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.wait({running})
        link, self._link = self._link, None
        if link is not None:
            await link.close()
        if self._sweeping is not None:
            self._sweeping.cancel()

    async def _run(self) -> None:
        """Serve a link until it is lost, take back what it carried, get the next one; until cancelled."""
        loop = asyncio.get_running_loop()
        backoff = self._config.backoff
        while True:
            link = self._link or await self._reopen(backoff)
            began = loop.time()
            loss = await self._serve(link)
            self._link = None
            self._take_back(link, loss)
            log.warning("Publisher lost its connection: %s", loss.reason)
            await link.close()
            backoff = backoff.reset() if loop.time() - began > backoff.most_s else backoff.failed()

    async def _reopen(self, backoff: Backoff) -> Link:
        assert self._addresses is not None
        self._addresses.lost()
        link = await reopen(self._config, self._answered, self._addresses, backoff)
        self._link, self._frame_max = link, link.frame_max
        return link

    async def _serve(self, link: Link) -> Loss:
        sender = asyncio.get_running_loop().create_task(self._send(link))
        try:
            ends: set[asyncio.Future[None] | asyncio.Future[Loss]] = {sender, link.lost}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sender.cancel()
            await asyncio.wait({sender})
        if not link.lost.done():
            return Loss(reason="no sign of life" if sender.cancelled() else repr(sender.exception()))
        return link.lost.result()

    # -- the way out

    def require_open(self) -> None:
        """Raise PublisherClosedError unless messages are taken."""
        if not self._accepting:
            raise PublisherClosedError("the publisher is not open")

    def try_admit(self, out: Outgoing, promise: Promise) -> bool:
        """Take a message if there is room; never waits. Raises EncodeError for one that no frame could hold."""
        self.require_open()
        if not frames.header_fits(out.header, self._frame_max):
            raise EncodeError(
                f"message {out.message_id}: headers of {len(out.header):,} bytes do not fit into one frame of "
                f"{self._frame_max:,}; send fewer"
            )
        if not self._budget.try_take(out.size):
            return False
        self._admit(out, promise, asyncio.get_running_loop().time())
        return True

    async def admit(self, out: Outgoing, promise: Promise) -> None:
        """Take a message, waiting for room; the wait counts into its time-out. Raises PublishTimeoutError."""
        self.require_open()
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._config.confirm_timeout_s):
                await self._budget.take(out.size)
        except TimeoutError:
            error = PublishTimeoutError(f"message {out.message_id}: not sent, {await self._why_waiting()}")
            if self._meter is not None:
                self._meter.failed(error)
            raise error from None
        if not self._accepting:
            self._budget.give(out.size)
            self.require_open()
        self._admit(out, promise, began)

    def _admit(self, out: Outgoing, promise: Promise, began: float) -> None:
        out.promise = promise
        out.started = began
        out.deadline = began + self._config.confirm_timeout_s
        if not self._live:
            self._idle.clear()
        self._live[out] = None
        if self._sweeping is None:
            self._sweep_later()
        link = self._link
        if link is not None and not self._pending and link.in_flight == 0 and link.channels[0].try_send((out,)):
            return  # nothing to batch with: spare the sender's turn
        self._pending.append(out)
        self._work.set()

    async def _send(self, link: Link) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while batch := self._next_batch(self._config.window - link.in_flight):
                await link.least_busy().send(batch)

    def _next_batch(self, room: int) -> list[Outgoing]:
        batch: list[Outgoing] = []
        pending = self._pending
        size = 0
        most = min(room, self._config.max_batch)
        while pending and len(batch) < most and size < _MAX_WRITE_BYTES:
            out = pending.popleft()
            if out.promise is not None:  # it may have timed out here
                batch.append(out)
                size += out.size
        return batch

    # -- how they end

    def _answered(self, outs: Sequence[Outgoing], taken: bool) -> None:
        now = asyncio.get_running_loop().time()
        for out in outs:
            out.on_wire = False
            self._budget.give(out.size)
            if out.promise is None:
                continue  # it timed out before
            if out.returned is not None:
                self._settle(out, out.unroutable())
            elif taken:
                self._confirm(out, now)
            else:
                self._settle(out, RefusedError(f"message {out.message_id}: nacked, e.g. by a full queue"))
        if self._pending:
            self._work.set()

    def _confirm(self, out: Outgoing, now: float) -> None:
        promise, out.promise = out.promise, None
        del self._live[out]
        if not self._live:
            self._idle.set()
        if self._meter is not None:
            self._meter.confirmed(now - out.started)
        if promise is not None and not promise.done():
            promise.set_result(None)

    def _settle(self, out: Outgoing, error: Exception) -> None:
        promise, out.promise = out.promise, None
        del self._live[out]
        if not self._live:
            self._idle.set()
        if self._meter is not None:
            self._meter.failed(error)
        if promise is not None and not promise.done():
            promise.set_exception(error)

    def _take_back(self, link: Link, loss: Loss) -> None:
        """Put what a lost link carried back in front, to be sent again under the same ids."""
        again: list[Outgoing] = []
        for channel in link.channels:
            outs = list(channel.in_flight.values())
            channel.in_flight.clear()
            for out in outs:
                out.on_wire = False
                out.returned = None
                if out.promise is None:
                    self._budget.give(out.size)
                elif channel is loss.channel and (error := self._blame(out, alone=len(outs) == 1, loss=loss)):
                    self._budget.give(out.size)
                    self._settle(out, error)
                else:
                    again.append(out)
        again.sort(key=lambda out: out.started)
        self._pending.extendleft(reversed(again))
        if self._pending:
            self._work.set()

    def _blame(self, out: Outgoing, *, alone: bool, loss: Loss) -> PublishFailedError | None:
        """Return how a message ends whose channel the broker closed; None: it may not be the cause, try again."""
        out.losses += 1
        if alone:
            return RefusedError(f"message {out.message_id}: the broker closed the channel: {loss.reason}")
        if out.losses >= _MAX_CHANNEL_LOSSES:
            return UncertainError(f"message {out.message_id}: the broker closed the channel again: {loss.reason}")
        return None

    # -- deadlines

    def _sweep_later(self) -> None:
        self._sweeping = asyncio.get_running_loop().call_later(self._tick_s, self._sweep)

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        for out in [out for out in self._live if out.deadline <= now]:
            if not out.on_wire:
                self._budget.give(out.size)
            self._settle(out, self._unfinished(out, f"no confirm within {self._config.confirm_timeout_s} s"))
        while self._pending and self._pending[0].promise is None:
            self._pending.popleft()  # timed out while waiting: without a link nobody else takes them away
        self._sweeping = None
        if self._live:
            self._sweep_later()

    def _unfinished(self, out: Outgoing, why: str) -> PublishFailedError:
        name = f"message {out.message_id}"
        if not out.sent:
            where = "no connection to the broker" if self._link is None else "the broker takes no more now"
            return PublishTimeoutError(f"{name}: never sent, {why}: {where}")
        if not out.on_wire:
            return UncertainError(f"{name}: {why}: the connection was lost after it was sent")
        return PublishTimeoutError(f"{name}: {why}: it may still arrive, e.g. after a broker alarm")

    async def _why_waiting(self) -> str:
        if self._link is None:
            return "no connection to the broker"
        if await self._link.is_blocked():
            return "the broker blocks this connection (memory or disk alarm)"
        return f"no room: {self._budget.messages} messages, {self._budget.bytes} bytes are unconfirmed"
