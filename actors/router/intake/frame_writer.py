"""FrameWriter: puts frames on a channel at once, in order, and never waits for the broker."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from aiormq.abc import AbstractChannel, ChannelFrame
from pamqp import commands as spec

from rabbitray.actors.background import BackgroundTasks

log = logging.getLogger(__name__)

Frame = spec.Basic.Ack | spec.Basic.Nack


class FrameWriter:
    """Writes acks and nacks to one channel; they are never confirmed.

    While aiormq's queue of writes is full, frames wait here: their order matters. Frames for a closed channel are
    dropped, for RabbitMQ delivers those messages again.
    """

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel
        self._waiting: deque[ChannelFrame] = deque()
        self._tasks = BackgroundTasks(log, "Frames for RabbitMQ could not be queued")
        self._late: asyncio.Task[None] | None = None

    def write(self, frames: Sequence[Frame]) -> None:
        """Sends all frames in one write."""
        channel = self._channel
        if not frames or channel.is_closed:
            return
        marshalled = ChannelFrame.marshall(channel_number=channel.number, frames=frames)
        queue: asyncio.Queue[ChannelFrame] = channel.connection.write_queue
        idle = self._late is None or self._late.done()
        if idle and not queue.full():
            queue.put_nowait(marshalled)
            return
        self._waiting.append(marshalled)
        if idle:
            self._late = self._tasks.keep(lambda: self._write_late(queue), name="intake-late-frames")

    async def written(self, within_s: float) -> None:
        """Waits until no frame waits any more, at most `within_s` seconds."""
        if self._late is not None:
            await asyncio.wait({self._late}, timeout=within_s)

    def stop(self) -> None:
        """Drops the frames that still wait; may be called twice."""
        self._waiting.clear()
        if self._late is not None:
            self._late.cancel()

    async def _write_late(self, queue: asyncio.Queue[ChannelFrame]) -> None:
        while self._waiting:
            await queue.put(self._waiting[0])
            self._waiting.popleft()
