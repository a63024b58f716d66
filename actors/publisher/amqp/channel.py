"""ConfirmChannel: an aiormq channel that matches publisher confirms to messages itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Final

from aiormq.abc import AbstractConnection, ChannelFrame, ConfirmationFrameType
from aiormq.channel import Channel
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from rabbitray.actors.publisher.amqp.frames import append_publish
from rabbitray.actors.publisher.amqp.returned import Returned
from rabbitray.actors.publisher.message import Outgoing

DRAIN_FROM_BYTES: Final = 256 * 1024
"""After a write of so many bytes the next one waits until the socket has taken it: what a broker in alarm does not read
would all be in memory a second time."""

Answered = Callable[[Sequence[Outgoing], bool], None]
"""Called with messages that the broker answered, in the order of sending, and whether it took them."""


class ConfirmChannel(Channel):
    """Writes many publishes at once and hears their confirms.

    aiormq's `basic_publish` takes a task, two futures, a lock and a write for each message. This class puts
    the frames of a whole batch into the connection's write queue as one `ChannelFrame` and overrides the two
    callbacks that the channel's reader calls for `basic.ack`/`nack` and `basic.return`. Nothing else of
    aiormq is touched; whoever updates aiormq looks at `Channel._reader`, `_on_confirm_frame`,
    `_on_return_frame`, `_get_frame`, `_read_content` and `Connection.channel`. tests/broker/test_publisher.py covers
    each of them on a real node.
    """

    def __init__(self, connection: AbstractConnection, number: int, answered: Answered) -> None:
        super().__init__(connection, number, publisher_confirms=True, frame_buffer=None)
        self.in_flight: dict[int, Outgoing] = {}
        self._answered = answered
        self._lowest = 1  # no tag below is in flight
        self._after_return = 1  # the tag after the last one that was returned

    @classmethod
    async def opened(
        cls, connection: AbstractConnection, number: int, answered: Answered, timeout_s: float
    ) -> ConfirmChannel:
        """Return a new channel, opened, with confirms on; as `aiormq.Connection.channel` does it."""
        channel = cls(connection, number, answered)
        connection.channels[number] = channel
        await channel.open(timeout=timeout_s)
        return channel

    def try_send(self, batch: Sequence[Outgoing]) -> bool:
        """Send now if the write queue has room; never waits."""
        if self.write_queue.full():
            return False
        self.write_queue.put_nowait(self._frame(batch))
        return True

    async def send(self, batch: Sequence[Outgoing]) -> None:
        """Send, waiting for room in the write queue. Cancelled: the batch is in flight all the same."""
        await self.write_queue.put(self._frame(batch))

    def _frame(self, batch: Sequence[Outgoing]) -> ChannelFrame:
        parts: list[bytes] = []
        tag = self.delivery_tag
        frame_max = self.connection.connection_tune.frame_max
        for out in batch:
            tag += 1
            self.in_flight[tag] = out
            out.on_wire = out.sent = True
            append_publish(parts, self.number, out.method, out.header, out.body, frame_max)
        self.delivery_tag = tag
        payload = b"".join(parts)
        written = asyncio.get_running_loop().create_future() if len(payload) >= DRAIN_FROM_BYTES else None
        return ChannelFrame(payload=payload, should_close=False, drain_future=written)

    async def _on_confirm_frame(self, frame: ConfirmationFrameType) -> None:
        tag = frame.delivery_tag or 0
        pop = self.in_flight.pop
        if getattr(frame, "multiple", False):
            last = tag or self.delivery_tag  # 0 means all
            done = [out for n in range(self._lowest, last + 1) if (out := pop(n, None)) is not None]
            self._lowest = max(self._lowest, last + 1)
        else:
            only = pop(tag, None)
            done = [] if only is None else [only]
            if tag == self._lowest:
                self._lowest += 1
        self._answered(done, isinstance(frame, Basic.Ack))

    async def _on_return_frame(self, frame: Basic.Return) -> None:
        header = await self._get_frame()
        if not isinstance(header, ContentHeader):
            raise ValueError(f"a content header must follow basic.return, not {header!r}")
        self._mark(Returned.read(frame, await self._read_content(frame, header)))

    def _mark(self, returned: Returned) -> None:
        """Marks what came back. Returns come in the order of sending, each before its confirm: it looks there first."""
        last = self.delivery_tag + 1
        tags = chain(range(max(self._after_return, self._lowest), last), range(self._lowest, last))
        for tag in returned.among(self.in_flight, tags):
            self.in_flight[tag].returned = returned.reason
            self._after_return = tag + 1


FIRST_CHANNEL: Final = 1
