"""StreamChannel: a channel for one message at a time, whose body is not in memory."""

from __future__ import annotations

import asyncio

from aiormq.abc import ChannelFrame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from rabbitray.actors.publisher.amqp.channel import ConfirmChannel
from rabbitray.actors.publisher.amqp.frames import append_body, append_publish
from rabbitray.actors.publisher.message import Outgoing


class StreamChannel(ConfirmChannel):
    """Sends the frames of one message one after the other; of what comes back, no body is kept."""

    async def begin(self, out: Outgoing) -> None:
        """Send all but the body; the header says how long that will be."""
        self.delivery_tag += 1
        self.in_flight[self.delivery_tag] = out
        out.on_wire = out.sent = True
        parts: list[bytes] = []
        append_publish(parts, self.number, out.method, out.header, b"", self.connection.connection_tune.frame_max)
        await self._written(parts)

    async def add(self, piece: bytes) -> None:
        """Send more of the body; returns when the socket has taken it."""
        parts: list[bytes] = []
        append_body(parts, self.number, piece, self.connection.connection_tune.frame_max)
        await self._written(parts)

    async def _written(self, parts: list[bytes]) -> None:
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self.write_queue.put(ChannelFrame(b"".join(parts), should_close=False, drain_future=written))
        await written

    async def _on_return_frame(self, frame: Basic.Return) -> None:
        header = await self._get_frame()
        left = header.body_size if isinstance(header, ContentHeader) else 0
        while left > 0 and isinstance(content := await self._get_frame(), ContentBody):
            left -= len(content.value)
        for out in self.in_flight.values():
            out.returned = f"{frame.reply_code} {frame.reply_text}"
