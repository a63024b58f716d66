"""Queue depth: passive declares on a connection of its own, each queue on a channel of its own.

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

Connect = Callable[[], Awaitable[AbstractConnection]]


class DepthLink:
    """The connection of one probe, or of several, which ask in turn: lost and found again once for all of them.

    `about`: what is not known while there is none, for the log. A connection that is lost is replaced by one to the
    next of `urls`, which are secrets: in no log and no error of this class. After a failure the broker is asked again
    after a jittered, growing delay. `connect` makes one attempt to connect (default: to one of `urls`).
    """

    def __init__(
        self,
        urls: Secret | str,
        about: str,
        *,
        timeout_s: float = 5.0,
        clock: Callable[[], float] = monotonic,
        random: Random | None = None,
        connect: Connect | None = None,
    ) -> None:
        self._addresses = Addresses(addresses.of(urls), level=logging.DEBUG)
        self._about = about
        self.timeout_s = timeout_s
        self._clock = clock
        self._random = random or Random()
        self._connect = connect or self._connect_to_one
        self._connection: AbstractConnection | None = None
        self._backoff = ASK_AGAIN
        self._next_try = float("-inf")
        self._known = True
        self._closed = False
        self.turn = asyncio.Lock()

    @property
    def closed(self) -> bool:
        """Whether it was closed for good."""
        return self._closed

    @property
    def retry_in_s(self) -> float:
        """Seconds until a broker that failed is asked again; 0 while it answers."""
        return max(0.0, self._next_try - self._clock())

    @property
    def urls(self) -> Secret:
        """The URLs of the broker as they are known now."""
        return self._addresses.known

    def has(self, connection: AbstractConnection | None) -> bool:
        """Whether this is the connection now."""
        return connection is self._connection

    async def open(self) -> AbstractConnection:
        """The connection, a new one where there is none; raises what the attempt raises."""
        if self._connection is None or self._connection.is_closed:
            self._connection = await self._connect()
            if self._closed:
                await self.drop(self._connection)
                raise ConnectionError("closed while it connected")
        return self._connection

    def answered(self) -> None:
        """The broker answers."""
        if not self._known:
            log.info("%s is known again", self._about)
        self._known, self._backoff, self._next_try = True, self._backoff.reset(), float("-inf")

    def failed(self, error: BaseException) -> None:
        """The broker gave no answer: it is asked again later."""
        self._next_try = self._clock() + self._backoff.delay_s(self._random.random())
        self._backoff = self._backoff.failed()
        if self._known:
            why = refusal(error, self._addresses.redact) or type(error).__name__
            log.warning("%s is unknown: %s", self._about, why)
        self._known = False

    async def drop(self, connection: AbstractConnection | None) -> None:
        """Gives up this connection, unless it is another one by now."""
        if connection is None or not self.has(connection):
            return
        self._connection = None
        self._addresses.lost()
        try:
            async with asyncio.timeout(self.timeout_s):
                await connection.close()
        except BaseException as error:  # it is gone either way
            if not is_loss(error):
                raise

    async def close(self) -> None:
        """Close the connection for good; may be called twice, and before the first look."""
        self._closed = True
        await self.drop(self._connection)

    async def _connect_to_one(self) -> AbstractConnection:
        return await self._addresses.connect(partial(connect_guarded, name="rabbitray-depth"), self.timeout_s)


class DepthProbe:
    """The ready depth of one queue.

    `ready()` never raises for the broker's sake: None means unknown (unreachable, refused, silent, or no such queue).
    Every wait is bounded by `timeout_s`. A connection that is lost is replaced within the same look. `link`: it is
    shared with other probes, and closed by its owner; else `urls`, `timeout_s`, `clock`, `random` and `connect` make
    one, see DepthLink.
    """

    def __init__(
        self,
        urls: Secret | str,
        queue: str,
        *,
        timeout_s: float = 5.0,
        clock: Callable[[], float] = monotonic,
        random: Random | None = None,
        connect: Connect | None = None,
        link: DepthLink | None = None,
    ) -> None:
        own = DepthLink(
            urls, f"queue depth of {queue}", timeout_s=timeout_s, clock=clock, random=random, connect=connect
        )
        self._link, self._owns_link = link or own, link is None
        self._queue = queue
        self._clock = clock
        self.consumers: int | None = None
        """Of the queue, when it answered last. A quorum queue whose leader is away is told as empty and without any."""
        self._connection: AbstractConnection | None = None  # that `_channel` is on
        self._channel: AbstractChannel | None = None
        self._not_before = float("-inf")  # a refusal holds for a while
        self._refusals = ASK_AGAIN
        self._known = True

    @property
    def retry_in_s(self) -> float:
        """Seconds until a broker that failed or refused is asked again; 0 while it answers."""
        return max(self._link.retry_in_s, self._not_before - self._clock())

    async def ready(self) -> int | None:
        """Messages that are ready in the queue now, or None."""
        async with self._link.turn:
            if not self._link.has(self._connection):  # another probe met its loss
                self._connection = self._channel = None
            if self._link.closed or (self._channel is None and self.retry_in_s > 0):
                return None
            try:
                async with asyncio.timeout(self._link.timeout_s):
                    return await self._ask_or_again()
            except ChannelNotFoundEntity:
                self._channel = None
                self._log(f"no queue {self._queue}")
            except ChannelAccessRefused:
                self._channel = None
                self._not_before = self._clock() + self._refusals.delay_s(1.0)
                self._refusals = self._refusals.failed()
                self._log("this user may not look at it (403); grant it `read` or `write` on it")
            except BaseException as error:
                if not is_loss(error):
                    raise
                await self._drop()
                self._link.failed(error)
            return None

    async def close(self) -> None:
        """Close the connection for good, unless it is shared; may be called twice, and before the first look."""
        if self._owns_link:
            await self._link.close()
        self._connection = self._channel = None

    async def _drop(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        await self._link.drop(connection)

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
        self._link.answered()
        if not self._known:
            log.info("queue depth of %s is known again", self._queue)
        self._known, self._refusals = True, self._refusals.reset()
        self.consumers = queue.declaration_result.consumer_count
        return queue.declaration_result.message_count or 0

    async def _open(self) -> AbstractChannel:
        if self._channel is not None and not self._channel.is_closed:
            return self._channel
        self._connection = await self._link.open()
        self._channel = await self._connection.channel(publisher_confirms=False)
        return self._channel

    def _log(self, why: str) -> None:
        if self._known:
            log.warning("queue depth of %s is unknown: %s", self._queue, why)
        self._known = False
