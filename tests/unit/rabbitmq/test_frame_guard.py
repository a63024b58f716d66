"""aiormq reads every frame through the guard, whatever a stranger wrote, and ours are as they were."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiormq.connection import FrameReceiver
from aiormq.exceptions import InvalidFrameError
from hypothesis import given
from hypothesis import strategies as st
from pamqp import body, frame, heartbeat
from pamqp import commands as spec
from pamqp.header import ContentHeader

from rabbitray.actors.rabbitmq.frame_guard import GuardedReader, original
from tests.kit.raw_amqp import BEYOND, properties, scalar, short, table, tables

POISON = properties(table({b"when": scalar("T", BEYOND[0]), b"\xff": scalar("V")}))


def framed(kind: int, payload: bytes, channel: int = 7) -> bytes:
    return bytes([kind]) + channel.to_bytes(2, "big") + len(payload).to_bytes(4, "big") + payload + b"\xce"


def content(raw: bytes, size: int = 5) -> bytes:
    return framed(2, b"\x00\x3c\x00\x00" + size.to_bytes(8, "big") + raw)


def deliver(key: bytes, exchange: bytes = b"ex") -> bytes:
    return framed(1, b"\x00\x3c\x00\x3c" + short(b"tag") + bytes(7) + b"\x09\x01" + short(exchange) + short(key))


def get_ok(key: bytes) -> bytes:
    return framed(1, b"\x00\x3c\x00\x47" + bytes(7) + b"\x09\x01" + short(b"ex") + short(key) + b"\0\0\0\xff")


def received(*frames: bytes, guarded: bool = True) -> list[Any]:
    """What aiormq makes of these frames."""

    async def read() -> list[Any]:
        source = asyncio.StreamReader()
        source.feed_data(b"".join(frames))
        source.feed_eof()
        reader: Any = GuardedReader(source) if guarded else source
        receiver = FrameReceiver(reader)
        return [await receiver.get_frame() for _ in frames]

    return asyncio.run(read())


def test_without_the_guard_aiormq_gives_the_connection_up() -> None:
    with pytest.raises(InvalidFrameError):
        received(content(POISON), guarded=False)
    with pytest.raises(InvalidFrameError):
        received(deliver(b"\xff"), guarded=False)


@given(tables, st.integers(0, 2**40))
def test_the_properties_of_every_message_come_through_as_they_stood(written: bytes, size: int) -> None:
    raw = properties(written)
    [(_, channel, found)] = received(content(raw, size))
    assert (channel, found.body_size, found.class_id) == (7, size, 60)
    assert original(found.properties).raw == raw


@given(st.binary(max_size=60))
def test_any_bytes_of_properties_come_through(raw: bytes) -> None:
    [(_, _, found)] = received(content(raw))
    assert original(found.properties).raw == raw


def test_nobody_but_the_guard_says_what_the_properties_were() -> None:
    forged = properties(table({b"properties": b"x\0\0\0\x02\0\0"}))
    [(_, _, found)] = received(content(forged))
    assert original(found.properties).raw == forged


@pytest.mark.parametrize("make", [deliver, get_ok])
@pytest.mark.parametrize(
    ("key", "read"),
    [(b"jobs", "jobs"), (b"", ""), ("\u00e4".encode(), "\u00e4"), (b"a\xff\xfeb", "a??b"), (b"\xff" * 255, "?" * 255)],
)
def test_a_routing_key_that_is_no_text_ends_no_connection(make: Any, key: bytes, read: str) -> None:
    [(_, _, found)] = received(make(key))
    assert (found.routing_key, found.exchange, found.delivery_tag, found.redelivered) == (read, "ex", 9, True)
    assert getattr(found, "message_count", 255) == 255


def test_an_exchange_that_is_no_text_ends_no_connection() -> None:
    [(_, _, found)] = received(deliver(b"\xff", b"\xfe"))
    assert (found.exchange, found.routing_key) == ("?", "?")


@given(st.lists(st.sampled_from(range(5)), max_size=12))
def test_frames_that_are_not_a_strangers_come_through_byte_for_byte(plan: list[int]) -> None:
    kinds: list[Any] = [
        spec.Basic.Ack(delivery_tag=3, multiple=True),
        body.ContentBody(b"\xffbody"),
        heartbeat.Heartbeat(),
        spec.Queue.DeclareOk("q", 1, 2),
        ContentHeader(body_size=1, properties=spec.Basic.Properties(message_id="m")),
    ]
    frames = [frame.marshal(kinds[one], 0 if one == 2 else 7) for one in plan]
    found = received(*frames)
    assert [type(one) for _, _, one in found] == [type(kinds[one]) for one in plan]
    again = [frame.marshal(one, channel) for _, channel, one in found if not isinstance(one, ContentHeader)]
    assert again == [written for one, written in zip(plan, frames, strict=True) if one != 4]


@given(st.binary(max_size=40))
def test_any_method_frame_raises_nothing_but_what_aiormq_expects(payload: bytes) -> None:
    for method in (b"\x00\x3c\x00\x3c", b"\x00\x3c\x00\x47"):
        try:
            received(framed(1, method + payload))
        except InvalidFrameError:
            continue


async def test_the_end_of_the_connection_is_told() -> None:
    source = asyncio.StreamReader()
    source.feed_data(content(POISON)[:9])
    source.feed_eof()
    reader = GuardedReader(source)
    assert await reader.readexactly(1) == b"\x02"
    with pytest.raises(asyncio.IncompleteReadError):
        await reader.readexactly(6)
    assert reader.at_eof()
