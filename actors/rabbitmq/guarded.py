"""A connection of aio-pika with the frame guard in front."""

from __future__ import annotations

from typing import Any

import aio_pika
from yarl import URL

from rabbitray.actors.rabbitmq.frame_guard import GuardedTransports, transports_for


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
