"""Link: one connection to the broker with its channels, from open to loss; and when to try the next one."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
from functools import partial

import aiormq
from aiormq.abc import AbstractConnection
from pamqp.exceptions import PAMQPException
from yarl import URL

from rabbitray.actors.background import asked_to_end
from rabbitray.actors.backoff import Backoff
from rabbitray.actors.errors import BrokerUnreachableError, ConfigurationError
from rabbitray.actors.publisher.amqp.channel import FIRST_CHANNEL, Answered, ConfirmChannel
from rabbitray.actors.publisher.config import PublisherConfig
from rabbitray.actors.rabbitmq.addresses import checked
from rabbitray.actors.rabbitmq.errors import describe, thrown_in
from rabbitray.actors.rabbitmq.failover import Addresses
from rabbitray.actors.rabbitmq.frame_guard import GuardedTransports, transports_for
from rabbitray.actors.secret import NO_SECRETS, Redactor, Secret, without_credentials

log = logging.getLogger(__name__)

CONNECT_ERRORS = (aiormq.AMQPError, PAMQPException, OSError, RuntimeError)  # OSError: also time-outs and TLS
_CLOSE_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Why a link ended; `channel`: the broker closed only that one, e.g. 404 for a missing exchange."""

    reason: str
    channel: ConfirmChannel | None = None


class Link:
    """An open connection with its channels; `lost` is done as soon as any of them is gone."""

    def __init__(
        self,
        connection: AbstractConnection,
        transports: GuardedTransports,
        channels: list[ConfirmChannel],
        redact: Redactor = NO_SECRETS,
    ) -> None:
        self._connection = connection
        self._transports = transports
        self._redact = redact
        self.channels = channels
        self.lost: asyncio.Future[Loss] = asyncio.get_running_loop().create_future()
        for channel in channels:
            channel.closing.add_done_callback(partial(self._note, channel))
        connection.closing.add_done_callback(partial(self._note, None))

    @classmethod
    async def open(
        cls,
        config: PublisherConfig,
        answered: Answered,
        addresses: Addresses,
        kind: type[ConfirmChannel] = ConfirmChannel,
    ) -> Link:
        """Try each address once, and open all channels at the first that takes us.

        Raises BrokerUnreachableError saying where and why.
        """

        async def attempt(secret: Secret, timeout_s: float) -> Link:
            url = _with_defaults(secret, config)
            transports = transports_for(url)
            async with asyncio.timeout(timeout_s):
                with transports.opening():
                    connection = await aiormq.connect(url, transport_factory=transports)
                try:
                    channels = await _open_channels(connection, config, answered, kind)
                except BaseException:
                    await _close(connection, transports)
                    raise
                return cls(connection, transports, channels, addresses.redact)

        try:
            link = await addresses.connect(attempt, config.connect_timeout_s)
        except CONNECT_ERRORS as error:
            raise _unreachable(addresses, config, error) from error
        except asyncio.CancelledError as error:
            if not thrown_in(error):
                raise
            raise _unreachable(addresses, config, TimeoutError("no heartbeat")) from error
        if asked_to_end():  # before Python 3.12 `wait_for`, which aiormq uses, may swallow it
            await link.close()
            raise asyncio.CancelledError
        return link

    def least_busy(self) -> ConfirmChannel:
        """Return the channel with the fewest messages in flight."""
        return min(self.channels, key=lambda channel: len(channel.in_flight))

    @property
    def in_flight(self) -> int:
        """Messages on the wire, over all channels."""
        return sum(len(channel.in_flight) for channel in self.channels)

    @property
    def frame_max(self) -> int:
        """Bytes of the largest frame, as agreed with the broker; 0: any size."""
        return self._connection.connection_tune.frame_max

    async def is_blocked(self) -> bool:
        """Whether the broker said that it reads no more from this connection (an alarm)."""
        try:
            async with asyncio.timeout(0):
                await self._connection.ready()
        except TimeoutError:
            return True
        return False

    async def close(self) -> None:
        """Close the connection, within 3 s whatever the broker does."""
        try:
            await _close(self._connection, self._transports)
        except asyncio.CancelledError as error:
            if not thrown_in(error):
                raise

    def _note(self, channel: ConfirmChannel | None, ended: asyncio.Future[None]) -> None:
        error: BaseException | None = None if ended.cancelled() else ended.exception()
        if self.lost.done():
            return
        only_channel = isinstance(error, aiormq.AMQPChannelError)
        reason = self._redact(str(error) or type(error).__name__)
        self.lost.set_result(Loss(reason=reason, channel=channel if only_channel else None))


async def reopen(config: PublisherConfig, answered: Answered, addresses: Addresses, backoff: Backoff) -> Link:
    """Return a new link, after rounds over the addresses for as long as it takes; cancel it to give up."""
    while True:
        await asyncio.sleep(backoff.delay_s(random.random()))
        try:
            link = await Link.open(config, answered, addresses)
        except BrokerUnreachableError as error:
            backoff = backoff.failed()
            log.warning("Publisher is not connected, attempt %d: %s", backoff.failures, error)
        else:
            log.info("Publisher is connected again at %s", addresses.at)
            return link


async def _open_channels(
    connection: AbstractConnection, config: PublisherConfig, answered: Answered, kind: type[ConfirmChannel]
) -> list[ConfirmChannel]:
    return [
        await kind.opened(connection, number, answered, config.connect_timeout_s)
        for number in range(FIRST_CHANNEL, FIRST_CHANNEL + config.channels)
    ]


async def _close(connection: AbstractConnection, transports: GuardedTransports) -> None:
    with transports.closing_within(_CLOSE_TIMEOUT_S):
        await connection.close()


def addresses_of(config: PublisherConfig) -> Addresses:
    """Where it connects to. Raises ConfigurationError."""
    try:
        return Addresses(checked(config.secret_url))
    except ValueError as error:
        shown = without_credentials(config.secret_url)
        raise ConfigurationError(f"publisher: url: {error}" + (f": {shown}" if shown else "")) from None


def _with_defaults(secret: Secret, config: PublisherConfig) -> URL:
    url = URL(secret.reveal())
    wanted = {"heartbeat": str(config.heartbeat_s), "name": config.connection_name}
    return url.update_query({name: value for name, value in wanted.items() if name not in url.query})


def _unreachable(addresses: Addresses, config: PublisherConfig, error: BaseException) -> BrokerUnreachableError:
    silent = isinstance(error, TimeoutError)
    text = f"no answer within {config.connect_timeout_s} s" if silent else describe(error, addresses.redact)
    return BrokerUnreachableError(f"broker {addresses.where}: {text}")
