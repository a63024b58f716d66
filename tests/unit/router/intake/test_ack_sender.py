"""When acks go out, and that their order survives a full queue of writes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from pamqp import commands as spec
from pamqp.frame import unmarshal

from rabbitray.actors.router.intake.ack_sender import AckSender
from rabbitray.actors.router.intake.frame_writer import Frame, FrameWriter
from rabbitray.actors.telemetry.tracing import Tracing
from tests.kit.eventually import eventually
from tests.kit.virtual_time import in_virtual_time


class Written:
    """An AckSender with tags 1 to `count` delivered, and the frames of each of its writes."""

    def __init__(self, count: int) -> None:
        self.writes: list[list[tuple[Any, ...]]] = []
        clock = asyncio.get_running_loop().time
        self.acks = AckSender(self._write, single_after_s=0.2, tracing=Tracing(queue="jobs"), clock=clock)
        for tag in range(1, count + 1):
            self.acks.delivered(tag)

    def _write(self, frames: Sequence[Frame]) -> None:
        self.writes.append([(type(frame).__name__, frame.delivery_tag, frame.multiple) for frame in frames])


@in_virtual_time
async def test_a_run_of_finished_tags_is_one_frame_at_once_and_what_is_behind_waits() -> None:
    written = Written(5)
    written.acks.finish([1, 2, 4])
    assert written.writes == [[("Ack", 2, True)]]
    await asyncio.sleep(0.3)
    assert written.writes[1:] == [[("Ack", 4, False)]]
    assert written.acks.unacked == 2


@in_virtual_time
async def test_what_goes_back_is_nacked_once_and_never_acked() -> None:
    written = Written(3)
    for _ in range(2):
        written.acks.give_back([1, 2], [])
    written.acks.finish([1, 2, 3])
    assert written.writes == [[("Nack", 1, False), ("Nack", 2, False)], [("Ack", 3, True)]]
    assert written.acks.unacked == 0


@in_virtual_time
async def test_settling_all_gives_back_first_so_that_one_frame_acks_the_rest() -> None:
    written = Written(4)
    written.acks.finish([2, 4])
    written.acks.settle_all()
    assert written.writes == [[("Nack", 1, False), ("Nack", 3, False), ("Ack", 4, True)]]
    await asyncio.sleep(1)
    assert len(written.writes) == 1, "no timer is left"


class NarrowChannel:
    """An aiormq channel whose connection has room for one write."""

    def __init__(self) -> None:
        self.number = 1
        self.is_closed = False
        self.connection = self
        self.write_queue: asyncio.Queue[Any] = asyncio.Queue(maxsize=1)

    async def sent(self) -> int | None:
        """The tag of the next frame."""
        _, _, frame = unmarshal((await self.write_queue.get()).payload)
        assert isinstance(frame, spec.Basic.Ack)
        return frame.delivery_tag


async def test_frames_that_find_no_room_keep_their_order() -> None:
    channel: Any = NarrowChannel()
    writer = FrameWriter(channel)
    for tag in (1, 2, 3):
        writer.write([spec.Basic.Ack(tag)])
    assert [await channel.sent() for _ in range(3)] == [1, 2, 3]
    await writer.written(5)
    writer.write([spec.Basic.Ack(4)])
    assert await channel.sent() == 4


async def test_a_closed_channel_and_a_stopped_writer_drop_frames() -> None:
    channel: Any = NarrowChannel()
    writer = FrameWriter(channel)
    for tag in (1, 2, 3):
        writer.write([spec.Basic.Ack(tag)])
    writer.stop()
    channel.is_closed = True
    writer.write([spec.Basic.Ack(4)])
    assert await channel.sent() == 1
    await eventually(channel.write_queue.empty)
