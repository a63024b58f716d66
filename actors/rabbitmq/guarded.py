"""A connection of aio-pika with the frame guard in front."""

from __future__ import annotations

from typing import Any

import aio_pika
from yarl import URL

from rabbitray.actors.rabbitmq.frame_guard import GuardedTransports, transports_for
from rabbitray.actors.secret import Secret


async def connect_guarded(url: Secret, timeout_s: float, *, name: str) -> GuardedConnection:
    """One attempt to connect; raises one of CONNECTION_ERRORS."""
    return await aio_pika.connect(
        url.reveal(),
        timeout=timeout_s,
        client_properties={"connection_name": name},
        connection_class=GuardedConnection,
    )


class GuardedConnection(aio_pika.Connection):
    """A connection whose messages have their properties from `frame_guard.original`."""

    def __init__(self, url: URL, *arguments: Any, **options: Any) -> None:  # Any: handed through to aio-pika
        super().__init__(url, *arguments, **options)
        self.kwargs["transport_factory"] = transports_for(URL(url))

    async def connect(self, timeout: float | None = None) -> None:
        """Opens it; raises one of CONNECTION_ERRORS with what the broker said."""
        transports: GuardedTransports = self.kwargs["transport_factory"]
        with transports.opening():
            await super().connect(timeout)
