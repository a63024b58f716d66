"""aiormq reads every byte that is not a delivery's, in order, and heartbeats while a delivery takes long to come."""

from __future__ import annotations

import asyncio

import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands as spec
from pamqp import heartbeat

from rabbitray.actors.router.intake.scanner import Scanner
from rabbitray.actors.router.intake.scanning_reader import ScanningReader
from rabbitray.actors.router.spool import Spool
from tests.kit.amqp_frames import CHANNEL, LIMITS, frames, read_through
from tests.kit.eventually import eventually

BEAT = pamqp.frame.marshal(heartbeat.Heartbeat(), 0)


@given(
    plan=st.lists(st.sampled_from(["ours", "large", "other", "beat"]), max_size=12),
    chunk=st.integers(1, 400),
)
def test_every_other_byte_reaches_aiormq_in_order(plan: list[str], chunk: int) -> None:
    properties = spec.Basic.Properties(message_id="m")
    stream, left, tags = b"", b"", []
    for tag, kind in enumerate(plan, 1):
        match kind:
            case "ours" | "large":
                given = b"".join(frames(tag, b"x" * (tag if kind == "ours" else 500), properties))
                tags.append(tag)
            case "other":
                given = b"".join(frames(tag, b"y", properties, channel=2))
            case _:
                given = BEAT
        stream += given
        left += given if kind in ("other", "beat") else b""
    read = asyncio.run(read_through([stream[at : at + chunk] for at in range(0, len(stream), chunk)]))
    assert (read.left, [one.delivery_tag for one in read.taken]) == (left, tags)


@pytest.mark.parametrize("size", [150, 5_000], ids=["in memory", "in a file"])
async def test_bytes_that_arrive_are_a_sign_of_life(size: int) -> None:
    stream = b"".join(frames(1, b"x" * size, step=50))
    source = asyncio.StreamReader()
    beats = asyncio.create_task(_beats(source))
    for at in range(0, len(stream), 100):
        source.feed_data(stream[at : at + 100])
        await asyncio.sleep(0.001)
    source.feed_eof()
    assert await beats > 1


async def _beats(source: asyncio.StreamReader) -> int:
    """How many heartbeats aiormq reads of this stream, in which there are none and nothing else is for it."""
    reader = ScanningReader(source, sign_of_life_s=0.0)
    reader.watch(Scanner(CHANNEL, lambda _: None, limits=LIMITS, spool=Spool()))
    count = 0
    while True:
        try:
            frame = await reader.readexactly(1) + await reader.readexactly(6) + await reader.readexactly(1)
        except asyncio.IncompleteReadError:
            return count
        assert frame == BEAT
        count += 1


async def test_the_end_of_the_connection_is_told() -> None:
    source = asyncio.StreamReader()
    source.feed_data(b"\x01\x00")
    source.feed_eof()
    reader = ScanningReader(source)
    await reader.readexactly(1)
    with pytest.raises(asyncio.IncompleteReadError):
        await reader.readexactly(6)
    assert reader.at_eof()


@pytest.mark.parametrize("end", ["of the stream", "of its reader", "by an error"])
async def test_of_a_delivery_that_is_cut_short_nothing_is_kept(end: str) -> None:
    spool, source = Spool(), asyncio.StreamReader()
    reader = ScanningReader(source)
    reader.watch(Scanner(CHANNEL, lambda _: None, limits=LIMITS, spool=spool))
    reading = asyncio.create_task(reader.readexactly(1))
    source.feed_data(b"".join(frames(1, b"x" * 5_000, step=50))[:2_000])
    await eventually(lambda: spool.size == 5_000)
    match end:
        case "of the stream":
            source.feed_eof()
        case "of its reader":
            reading.cancel()
        case _:
            source.set_exception(ConnectionResetError())
    await asyncio.wait({reading})
    assert spool.size == 0
