"""aiormq reads every byte that is not a delivery's, in order, and heartbeats while a delivery takes long to come."""

from __future__ import annotations

import asyncio
import random

import pamqp.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands as spec
from pamqp import heartbeat

from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.router.intake.scanner import Scanner
from rabbitray.actors.router.spool import Spool
from tests.kit.amqp_frames import CHANNEL, LIMITS, Source, frames, read_through
from tests.kit.eventually import eventually

BEAT = pamqp.frame.marshal(heartbeat.Heartbeat(), 0)


def scanner(spool: Spool | None = None) -> Scanner:
    return Scanner(CHANNEL, lambda _: None, limits=LIMITS, spool=spool or Spool())


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


@given(
    sizes=st.lists(st.sampled_from([0, 70_000, 131_064, 131_065, 300_000, 700_000]), min_size=1, max_size=4),
    step=st.sampled_from([20_000, 131_064, 300_000, 1_000_000]),
    chunk=st.sampled_from([1_000, 65_537, 131_072, 400_000]),
    beats=st.booleans(),
    limits=st.sampled_from([MessageLimits(), LIMITS]),
)
@settings(max_examples=60)
def test_large_bodies_come_in_any_pieces(
    sizes: list[int], step: int, chunk: int, beats: bool, limits: MessageLimits
) -> None:
    stream, left, bodies = b"", b"", []
    for tag, size in enumerate(sizes, 1):
        body = random.Random(tag).randbytes(size)
        bodies.append((tag, body))
        for frame in frames(tag, body, step=step):
            stream += frame
            if beats:
                stream, left = stream + BEAT, left + BEAT
    chunks = [stream[at : at + chunk] for at in range(0, len(stream), chunk)]
    read = asyncio.run(read_through(chunks, limits=limits))
    assert (read.left, read.bodies) == (left, bodies)


@pytest.mark.parametrize("size", [150, 5_000], ids=["in memory", "in a file"])
async def test_bytes_that_arrive_are_a_sign_of_life(size: int) -> None:
    stream = b"".join(frames(1, b"x" * size, step=50))
    source = Source(scanner(), sign_of_life_s=0.0)
    for at in range(0, len(stream), 100):
        source.feed(stream[at : at + 100])
        await source.read()
    source.protocol.eof_received()
    beats = await source.reader.read()
    assert source.reads.is_set()
    assert beats == BEAT * (len(beats) // len(BEAT))
    assert len(beats) > len(BEAT)


async def test_bytes_that_are_no_frames_are_aiormqs_as_they_come() -> None:
    """A broker that speaks another protocol says so in eight bytes; TLS in a byte that no frame begins with."""
    source = Source()
    source.feed(b"AMQP\0\0")
    source.feed(b"\x09\x01")
    assert await source.reader.read(100) == b"AMQP\0\0\x09\x01"


async def test_the_end_of_the_connection_is_told() -> None:
    source = Source()
    source.feed(b"\x01\x00")
    source.protocol.eof_received()
    await source.reader.readexactly(1)
    with pytest.raises(asyncio.IncompleteReadError):
        await source.reader.readexactly(6)
    assert source.reader.at_eof()


async def test_damaged_frames_end_the_connection() -> None:
    source = Source(scanner())
    source.feed(frames(1, b"body")[0][:-1] + b"!")
    with pytest.raises(ConnectionError, match="has no end"):
        await source.reader.readexactly(1)
    assert source.aborted


@pytest.mark.parametrize("end", ["of the stream", "of the connection", "by an error"])
async def test_of_a_delivery_that_is_cut_short_nothing_is_kept(end: str) -> None:
    spool = Spool()
    source = Source(scanner(spool))
    source.feed(b"".join(frames(1, b"x" * 5_000, step=50))[:2_000])
    assert spool.size == 5_000
    match end:
        case "of the stream":
            source.protocol.eof_received()
        case "of the connection":
            source.protocol.connection_lost(None)
        case _:
            source.protocol.connection_lost(ConnectionResetError())
    await eventually(lambda: spool.size == 0)  # what is being written now is let go of after that
