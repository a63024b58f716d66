"""LargePublisher: sends messages whose bodies are not in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from rabbitray.actors.errors import (
    EncodeError,
    PublishFailedError,
    PublishTimeoutError,
    RefusedError,
    UncertainError,
)
from rabbitray.actors.publisher.amqp import frames
from rabbitray.actors.publisher.amqp.connection import Link, addresses_of
from rabbitray.actors.publisher.amqp.stream import StreamChannel
from rabbitray.actors.publisher.config import PublisherConfig
from rabbitray.actors.publisher.message import EncodedMessage, Outgoing
from rabbitray.actors.publisher.message_maker import Maker

T = TypeVar("T")

PIECE_BYTES = 1024 * 1024
PATIENCE_S = 60.0


class Body(Protocol):
    """A body that lies elsewhere. `size`: its bytes. `read` blocks, and raises OSError for what is not there."""

    size: int

    def read(self, at: int, count: int) -> bytes: ...


class LargePublisher:
    """Sends one message at a time, on a connection of its own, which is open no longer than that takes.

    Nobody else's messages wait behind it, and of its body 1 MiB is in memory. `patience_s`: how long the broker may
    take for a piece, and for its confirm.
    """

    def __init__(self, config: PublisherConfig, *, patience_s: float = PATIENCE_S) -> None:
        self._config = replace(config, channels=1)
        self._addresses = addresses_of(config)
        self._maker = Maker(config)
        self._patience_s = patience_s
        self._turn = asyncio.Lock()

    async def publish(self, message: EncodedMessage, body: Body) -> None:
        """Send a message with this body instead of its own, and return when the broker has confirmed it.

        Raises as `Publisher.publish_message`, and PublishFailedError where the body cannot be read.
        """
        out = self._maker.message(message, body_size=body.size)
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def answered(outs: Sequence[Outgoing], taken: bool) -> None:
            if outs and not answer.done():
                answer.set_result(taken)

        async with self._turn:
            link = await Link.open(self._config, answered, self._addresses, StreamChannel)
            try:
                await self._stream(link, out, body)
                taken = await self._step(link, out, answer)
            finally:
                await link.close()
        if out.returned is not None:
            raise out.unroutable()
        if not taken:
            raise RefusedError(f"message {out.message_id}: nacked, e.g. by a full queue")

    async def _stream(self, link: Link, out: Outgoing, body: Body) -> None:
        [channel] = link.channels
        assert isinstance(channel, StreamChannel)
        if not frames.header_fits(out.header, link.frame_max):
            raise EncodeError(f"message {out.message_id}: headers of {len(out.header):,} bytes do not fit into a frame")
        await self._step(link, out, channel.begin(out))
        for at in range(0, body.size, PIECE_BYTES):
            try:
                piece = await asyncio.to_thread(body.read, at, PIECE_BYTES)
            except OSError as error:
                raise PublishFailedError(f"message {out.message_id}: {error}") from error
            await self._step(link, out, channel.add(piece))

    async def _step(self, link: Link, out: Outgoing, step: Awaitable[T]) -> T:
        """The result of one step, while the link holds and the broker does not take too long."""
        task = asyncio.ensure_future(step)
        try:
            ends: set[asyncio.Future[Any]] = {task, link.lost}  # Any: they have no result in common
            await asyncio.wait(ends, timeout=self._patience_s, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        finally:
            task.cancel()
        self._addresses.lost()
        if link.lost.done():
            raise UncertainError(f"message {out.message_id}: the connection was lost: {link.lost.result().reason}")
        raise PublishTimeoutError(f"message {out.message_id}: the broker took nothing for {self._patience_s:g} s")
