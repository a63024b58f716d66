"""Queue depth: passive declare on a connection and a channel of its own.

A missing queue closes the channel (404) and a timed-out call does too: that is why nothing else lives here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from time import monotonic
from typing import Final

from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity

from rabbitray.actors.backoff import Backoff
from rabbitray.actors.rabbitmq import addresses
from rabbitray.actors.rabbitmq.errors import is_loss, refusal
from rabbitray.actors.rabbitmq.failover import Addresses
from rabbitray.actors.rabbitmq.guarded import connect_guarded
from rabbitray.actors.secret import Secret

log = logging.getLogger(__name__)

ASK_AGAIN: Final = Backoff(first_s=0.5, most_s=30.0, jitter=(0.5, 1.0))


class DepthProbe:
    """The ready depth of one queue.

    `ready()` never raises for the broker's sake: None means unknown (unreachable, refused, silent, or no such
    queue). After a failure the broker is asked again after a jittered, growing delay. Every wait is bounded by
    `timeout_s`. A connection that is lost is replaced within the same look, by one to the next of `urls`. They are
    secrets: in no log and no error of this class. `connect` makes one attempt to connect (default: to one of them).
    """

    def __init__(
        self,
        urls: Secret | str,
        queue: str,
        *,
        timeout_s: float = 5.0,
        clock: Callable[[], float] = monotonic,
        random: Random | None = None,
        connect: Callable[[], Awaitable[AbstractConnection]] | None = None,
    ) -> None:
        self._addresses = Addresses(addresses.of(urls), level=logging.DEBUG)
        self._queue = queue
        self._timeout_s = timeout_s
        self._clock = clock
        self._random = random or Random()
        self._connect = connect or self._connect_to_one
        self.consumers: int | None = None
        """Of the queue, when it answered last. A quorum queue whose leader is away is told as empty and without any."""
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._backoff = ASK_AGAIN
        self._next_try = float("-inf")
        self._known = True
        self._closed = False
        self._lock = asyncio.Lock()

    @property
    def retry_in_s(self) -> float:
        """Seconds until a broker that failed is asked again; 0 while it answers."""
        return max(0.0, self._next_try - self._clock())

    async def ready(self) -> int | None:
        """Messages that are ready in the queue now, or None."""
        async with self._lock:
            if self._closed or (self._channel is None and self._clock() < self._next_try):
                return None
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._ask_or_again()
            except ChannelNotFoundEntity:
                self._channel = None
                self._log(f"no queue {self._queue}")
            except ChannelAccessRefused:
                self._channel = None
                self._ask_later()
                self._log("this user may not look at it (403); grant it `read` or `write` on it")
            except BaseException as error:
                if not is_loss(error):
                    raise
                await self._drop()
                self._ask_later()
                self._log(refusal(error, self._addresses.redact) or type(error).__name__)
            return None

    async def close(self) -> None:
        """Close the connection for good; may be called twice, and before the first look."""
        self._closed = True
        await self._drop()

    async def _drop(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is None:
            return
        self._addresses.lost()
        try:
            async with asyncio.timeout(self._timeout_s):
                await connection.close()
        except BaseException as error:  # it is gone either way
            if not is_loss(error):
                raise

    async def _ask_or_again(self) -> int:
        """A connection that was open before may have been lost since: then on a new one."""
        if self._connection is None:
            return await self._ask()
        try:
            return await self._ask()
        except (ChannelNotFoundEntity, ChannelAccessRefused, TimeoutError):
            raise
        except BaseException as error:
            if not is_loss(error):
                raise
        await self._drop()
        return await self._ask()

    async def _ask(self) -> int:
        channel = await self._open()
        queue = await channel.declare_queue(self._queue, passive=True)
        if not self._known:
            log.info("queue depth of %s is known again", self._queue)
        self._known, self._backoff = True, self._backoff.reset()
        self.consumers = queue.declaration_result.consumer_count
        return queue.declaration_result.message_count or 0

    async def _open(self) -> AbstractChannel:
        if self._channel is not None and not self._channel.is_closed:
            return self._channel
        if self._connection is None or self._connection.is_closed:
            self._connection = await self._connect()
            if self._closed:
                await self._drop()
                raise ConnectionError("closed while it connected")
        self._channel = await self._connection.channel(publisher_confirms=False)
        return self._channel

    async def _connect_to_one(self) -> AbstractConnection:
        return await self._addresses.connect(partial(connect_guarded, name="rabbitray-depth"), self._timeout_s)

    def _ask_later(self) -> None:
        self._next_try = self._clock() + self._backoff.delay_s(self._random.random())
        self._backoff = self._backoff.failed()

    def _log(self, why: str) -> None:
        if self._known:
            log.warning("queue depth of %s is unknown: %s", self._queue, why)
        self._known = False
