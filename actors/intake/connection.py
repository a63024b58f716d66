"""The connection that the queue is consumed on: made once at the start, and after each loss."""

from __future__ import annotations

import asyncio
from typing import Any

import aio_pika
import aiormq
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from aiormq.exceptions import AMQPError
from yarl import URL

from actors.cancellation import thrown_in
from actors.intake.scanner import ScanningReader
from actors.secret import Secret, redact

CONNECTION_ERRORS = (AMQPError, ConnectionError, OSError, RuntimeError, asyncio.TimeoutError)
"""What aio-pika and aiormq raise when a connection or channel is gone or cannot be made."""

STREAM_BYTES = 1024 * 1024


def is_loss(error: BaseException) -> bool:
    """Whether an error means that a connection or channel is gone, and not that our own task shall end."""
    return thrown_in(error) or isinstance(error, CONNECTION_ERRORS)


def told(error: BaseException) -> str:
    """An error in words, without credentials."""
    if isinstance(error, asyncio.CancelledError):
        return "the connection gave no sign of life any more"
    return redact(str(error)) or type(error).__name__


class ScanningConnection(aio_pika.Connection):
    """A connection of aio-pika whose deliveries can be taken out of its bytes, see `scanner`."""

    def __init__(self, url: URL, *arguments: Any, **options: Any) -> None:  # Any: handed through to aio-pika
        super().__init__(url, *arguments, **options)
        self._transports = ScanningTransports(secure=URL(url).scheme == "amqps")
        self.kwargs["transport_factory"] = self._transports

    @property
    def scanner(self) -> ScanningReader | None:
        """What reads the bytes of this connection."""
        return self._transports.reader


class ScanningTransports(TransportFactory):
    """aiormq's own transports with a ScanningReader in front."""

    def __init__(self, *, secure: bool) -> None:
        self._plain = TLSTransportFactory() if secure else TCPTransportFactory()
        self.reader: ScanningReader | None = None

    async def create(self, url: URL, **options: Any) -> tuple[Any, asyncio.StreamWriter]:  # Any: duck-typed reader
        reader, writer = await self._plain.create(url, limit=STREAM_BYTES, **options)
        self.reader = ScanningReader(reader)
        return self.reader, writer


async def connect(url: Secret, *, timeout_s: float, heartbeat_s: int, name: str) -> ScanningConnection:
    """One attempt to connect; raises one of CONNECTION_ERRORS."""
    connection = await aio_pika.connect(
        url.reveal(),
        timeout=timeout_s,
        heartbeat=heartbeat_s,
        client_properties={"connection_name": name},
        connection_class=ScanningConnection,
    )
    assert isinstance(connection, ScanningConnection)
    return connection


def frame_warnings(connection: aio_pika.abc.AbstractConnection, wanted: int) -> list[str]:
    """A warning where the broker's frames are not of `wanted` bytes (0: any): it decides, a client only follows."""
    transport = connection.transport
    agreed = transport.connection.connection_tune.frame_max if transport is not None else wanted
    if wanted in (0, agreed):
        return []
    return [
        f"RabbitMQ agreed on frames of {agreed} bytes, RABBITMQ_FRAME_MAX is {wanted}; "
        "set frame_max in rabbitmq.conf, or RABBITMQ_FRAME_MAX to what the broker has"
    ]


def address(url: Secret) -> str:
    """host:port/vhost of a broker URL, without user and password."""
    return url.reveal().rpartition("@")[2].rpartition("://")[2]


def refusal(error: BaseException) -> str | None:
    """A plain sentence for errors that no retry mends: wrong credentials, missing vhost; else None."""
    text = redact(str(error))
    if isinstance(error, aiormq.exceptions.ProbableAuthenticationError) or "ACCESS_REFUSED" in text:
        return "login refused; check user and password in RABBITMQ_URL"
    if "NOT_ALLOWED" in text or "vhost" in text:
        return f"vhost refused ({text}); check the path of RABBITMQ_URL and the user's permissions"
    return None
