"""A connection of aio-pika with the frame guard in front."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Final

import aio_pika
from aiormq.abc import ExceptionType
from aiormq.exceptions import ConnectionClosed
from yarl import URL

from rabbitray.actors.rabbitmq.frame_guard import GuardedTransports, transports_for
from rabbitray.actors.secret import Secret

CLOSE_WITHIN_S: Final = 5.0


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
        self._guarded = self.transports(URL(url))
        self.kwargs["transport_factory"] = self._guarded

    def transports(self, url: URL) -> GuardedTransports:
        """What its bytes come through."""
        return transports_for(url)

    async def connect(self, timeout: float | None = None) -> None:
        """Opens it; raises one of CONNECTION_ERRORS with what the broker said."""
        with self._guarded.opening():
            await super().connect(timeout)

    def closing_within(self, within_s: float) -> AbstractContextManager[None]:
        """For a block that closes it, see `GuardedTransports.closing_within`."""
        return self._guarded.closing_within(within_s)

    async def close(self, exc: ExceptionType | None = ConnectionClosed) -> None:
        """Closes it within CLOSE_WITHIN_S, whatever the broker does."""
        with self.closing_within(CLOSE_WITHIN_S):
            await super().close(exc)
