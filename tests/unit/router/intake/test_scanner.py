"""The scanner reads exactly what pamqp wrote, and leaves everything else to aiormq, byte for byte."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import body as pbody
from pamqp import commands as spec
from pamqp import encode, header, heartbeat

from rabbitray.actors.rabbitmq.properties import UNREADABLE
from rabbitray.actors.router.intake.scanner import Scanned, ScanningReader, scan

short = st.text(max_size=20).filter(lambda text: len(text.encode()) <= 255)
values = st.integers(-(2**62), 2**62) | st.text(max_size=30) | st.booleans() | st.lists(st.text(max_size=5), max_size=2)
tables = st.dictionaries(st.text("abc-ä", min_size=1, max_size=8), values, max_size=4)


def delivery(channel: int, tag: int, body: bytes, properties: spec.Basic.Properties, *, pieces: int = 1) -> bytes:
    """The frames of one delivery as a broker sends them."""
    frames = [
        spec.Basic.Deliver("consumer-1", tag, tag % 2 == 1, "exchange", "key"),
        header.ContentHeader(body_size=len(body), properties=properties),
    ]
    step = max(1, -(-len(body) // pieces))
    frames += [pbody.ContentBody(body[at : at + step]) for at in range(0, len(body), step)]
    return b"".join(pamqp.frame.marshal(frame, channel) for frame in frames)


@given(
    body=st.binary(max_size=300),
    pieces=st.integers(1, 3),
    kind=st.none() | short,
    encoding=st.none() | short,
    table=st.none() | tables,
    message_id=st.none() | short,
    correlation=st.none() | short,
    priority=st.none() | st.integers(0, 9),
    stamp=st.none() | st.integers(0, 2**32),
)
def test_reads_what_pamqp_wrote(
    body: bytes, pieces: int, kind: str | None, encoding: str | None, table: dict[str, object] | None,
    message_id: str | None, correlation: str | None, priority: int | None, stamp: int | None,
) -> None:  # fmt: skip
    properties = spec.Basic.Properties(
        content_type=kind or None, content_encoding=encoding or None, headers=table or None, delivery_mode=2,
        priority=priority, correlation_id=correlation or None, message_id=message_id or None,
        timestamp=None if stamp is None else datetime.fromtimestamp(stamp, UTC),
    )  # fmt: skip
    data = bytearray(delivery(3, 7, body, properties, pieces=pieces))
    found = scan(data + b"rest", 0, 3)
    assert isinstance(found, Scanned)
    assert (found.consumer_tag, found.delivery_tag, found.redelivered) == ("consumer-1", 7, True)
    assert (found.body, found.end) == (body, len(data))
    read = found.properties
    assert (read.content_type, read.content_encoding) == (kind or None, encoding or None)
    assert (read.headers, read.message_id, read.timestamp) == (table or None, message_id or None, stamp)
    assert read.header_bytes == (len(encode.field_table(table)) - 4 if table else 0)
    assert all(scan(data[:cut], 0, 3) is None for cut in range(len(data)))
    assert scan(data, 0, 4) == 0


def test_a_header_table_that_goes_beyond_its_frame_is_told() -> None:
    properties = spec.Basic.Properties(headers={"a": "text"})
    frames = bytearray(delivery(1, 1, b"body", properties))
    at = frames.index(encode.field_table({"a": "text"}))
    frames[at + 3] += 6  # the table's length
    frames[at + 10] += 6  # the text's
    found = scan(frames, 0, 1)
    assert isinstance(found, Scanned)
    assert (found.properties.headers, found.properties.unreadable) == (
        None,
        "a header table that goes beyond its frame",
    )
    assert (found.body, found.end) == (b"body", len(frames))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_a_way_that_the_reader_expects(data: bytes) -> None:
    with contextlib.suppress(*UNREADABLE):
        scan(bytearray(data), 0, 1)


@given(st.data())
def test_a_damaged_delivery_is_refused_in_a_way_that_the_reader_expects(data: st.DataObject) -> None:
    properties = spec.Basic.Properties(message_id="m", content_type="c", headers={"a": 1, "b": {"c": [1, "x"]}})
    frames = bytearray(delivery(1, 1, b"body", properties))
    frames[data.draw(st.integers(0, len(frames) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(*UNREADABLE):
        scan(frames, 0, 1)


@given(
    plan=st.lists(st.sampled_from(["ours", "other", "beat", "unknown"]), max_size=12),
    chunk=st.integers(1, 400),
)
def test_every_other_byte_reaches_aiormq_in_order(plan: list[str], chunk: int) -> None:
    properties = spec.Basic.Properties(message_id="m")
    stream, left, tags = b"", b"", []
    for tag, kind in enumerate(plan, 1):
        match kind:
            case "ours":
                frames = delivery(1, tag, b"x" * tag, properties)
                tags.append(tag)
            case "other":
                frames = delivery(2, tag, b"y", properties)
            case "unknown":
                frames = delivery(1, 10_000 + tag, b"z", properties)
            case _:
                frames = pamqp.frame.marshal(heartbeat.Heartbeat(), 0)
        stream += frames
        left += b"" if kind == "ours" else frames
    assert asyncio.run(_read_through(stream, chunk)) == (left, tags)


async def _read_through(stream: bytes, chunk: int) -> tuple[bytes, list[int]]:
    """Reads frame by frame in aiormq's three steps, from a stream that comes in pieces."""
    source = asyncio.StreamReader()
    for at in range(0, len(stream), chunk):
        source.feed_data(stream[at : at + chunk])
    source.feed_eof()
    reader, tags, seen = ScanningReader(source), [], b""

    def take(found: Scanned) -> bool:
        if found.delivery_tag > 10_000:
            return False
        tags.append(found.delivery_tag)
        return True

    reader.watch(1, take)
    while True:
        try:
            head = await reader.readexactly(1)
        except asyncio.IncompleteReadError:
            return seen, tags
        head += await reader.readexactly(6)
        length = int.from_bytes(head[3:7], "big")
        seen += head + await reader.readexactly(length + 1)


async def test_the_end_of_the_connection_is_told() -> None:
    source = asyncio.StreamReader()
    source.feed_data(b"\x01\x00")
    source.feed_eof()
    reader = ScanningReader(source)
    await reader.readexactly(1)
    with pytest.raises(asyncio.IncompleteReadError):
        await reader.readexactly(6)
    assert reader.at_eof()
