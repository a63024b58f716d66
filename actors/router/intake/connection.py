"""The connection that the queue is consumed on: made once at the start, and after each loss."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import aio_pika
from yarl import URL

from rabbitray.actors.rabbitmq.errors import is_loss
from rabbitray.actors.rabbitmq.frame_guard import STREAM_BYTES, GuardedTransports
from rabbitray.actors.rabbitmq.guarded import GuardedConnection
from rabbitray.actors.router.intake.scanning_protocol import ScanningProtocol
from rabbitray.actors.secret import Secret


class ScanningConnection(GuardedConnection):
    """A connection of aio-pika whose deliveries can be taken out of its bytes, see `scanning_protocol`."""

    def transports(self, url: URL) -> ScanningTransports:
        """What its bytes come through."""
        self._scanning = ScanningTransports(secure=url.scheme == "amqps")
        return self._scanning

    @property
    def protocol(self) -> ScanningProtocol | None:
        """What the bytes of this connection arrive in."""
        return self._scanning.protocol


class ScanningTransports(GuardedTransports):
    """Guarded transports whose bytes arrive in a ScanningProtocol."""

    protocol: ScanningProtocol | None = None

    async def streams(
        self, url: URL, context: ssl.SSLContext | None, **options: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The two ends for aiormq."""
        reader = asyncio.StreamReader(limit=STREAM_BYTES)
        made = self.protocol = ScanningProtocol(reader)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(
            lambda: made, url.host or "localhost", url.port or 5672, ssl=context, **options
        )
        return reader, asyncio.StreamWriter(transport, made, reader, loop)


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


async def drop_connection(connection: aio_pika.abc.AbstractConnection) -> None:
    """Closes a connection in whatever state it is; may be called twice."""
    try:
        await connection.close()
    except BaseException as error:
        if not is_loss(error):
            raise


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
