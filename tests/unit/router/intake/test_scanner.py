"""The scanner reads exactly what pamqp wrote, however its bytes come, and leaves every other frame to aiormq."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands as spec
from pamqp import encode, heartbeat

from rabbitray.actors.message.wire import MessageLimits
from tests.kit.amqp_frames import (
    CHANNEL,
    LIMITS,
    Read,
    agree,
    cut,
    frames,
    read_fully,
    scanned,
    split,
    spooled_bytes,
    told,
)

short = st.text(max_size=20).filter(lambda text: len(text.encode()) <= 255)
values = st.integers(-(2**62), 2**62) | st.text(max_size=30) | st.booleans() | st.lists(st.text(max_size=5), max_size=2)
tables = st.dictionaries(st.text("abc-ä", min_size=1, max_size=8), values, max_size=4)
BEAT = pamqp.frame.marshal(heartbeat.Heartbeat(), 0)


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
    stream = b"".join(frames(7, body, properties, step=max(1, -(-len(body) // pieces))))
    assert not scanned([stream[:-1]], limits=MessageLimits()).taken
    [found] = scanned([stream], limits=MessageLimits()).taken
    assert (found.consumer_tag, found.delivery_tag, found.redelivered) == ("consumer-1", 7, True)
    assert (found.body, found.route) == (body, b"\x08exchange\x03key")
    read = found.properties
    assert (read.content_type, read.content_encoding) == (kind or None, encoding or None)
    assert (read.headers, read.message_id, read.timestamp) == (table or None, message_id or None, stamp)
    assert read.header_bytes == (len(encode.field_table(table)) - 4 if table else 0)


def test_a_header_table_that_goes_beyond_its_frame_is_told() -> None:
    properties = spec.Basic.Properties(headers={"a": "text"})
    stream = bytearray(b"".join(frames(1, b"body", properties)))
    at = stream.index(encode.field_table({"a": "text"}))
    stream[at + 3] += 6  # the table's length
    stream[at + 10] += 6  # the text's
    [found] = scanned([stream]).taken
    assert (found.properties.headers, found.properties.unreadable) == (
        None,
        "a header table that goes beyond its frame",
    )
    assert found.body == b"body"


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Frames in an order that AMQP allows: of deliveries, small and beyond the limits, with others' between them."""
    found: list[bytes] = []
    for tag in range(1, draw(st.integers(1, 5)) + 1):
        size = draw(st.sampled_from([0, 1, 199, 200, 201, 1_000]))
        table = draw(st.sampled_from([None, {"a": 1}, {"a": "x" * 80}, {"a": "x" * 5_000}]))
        properties = spec.Basic.Properties(message_id=f"m{tag}", headers=table)
        ours = frames(tag, bytes([tag]) * size, properties, step=draw(st.integers(50, 400)))
        others = draw(st.lists(st.sampled_from([BEAT, *frames(tag, b"other", channel=2)]), max_size=3))
        for other in others:
            ours.insert(draw(st.integers(0, len(ours))), other)
        found += ours
        found += [pamqp.frame.marshal(spec.Basic.QosOk(), CHANNEL)] * draw(st.integers(0, 1))
    return found


@given(streams(), st.lists(st.integers(1, 700), max_size=40))
def test_it_takes_what_aiormq_would_and_leaves_it_the_rest(plan: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(plan)
    read, expected = scanned(cut(stream, sizes)), read_fully(stream)
    assert read.error is None
    assert read.bodies == expected.bodies
    assert [told(one) for one in read.taken] == [told(one) for one in expected.taken]
    assert [one.properties.message_id for one in read.taken] == [one.properties.message_id for one in expected.taken]
    assert sorted(split(read.left)) == sorted(split(expected.left)), "order holds within a channel alone"
    for one, full in zip(read.taken, expected.taken, strict=True):
        assert (one.spooled is not None) == (len(full.body) > LIMITS.max_message_bytes)
        fits = len(encode.field_table(full.properties.headers or {})) - 4 <= LIMITS.max_header_bytes
        assert one.properties.headers == (full.properties.headers if fits else None)


@given(streams(), st.lists(st.integers(1, 700), max_size=10), st.data())
def test_damaged_bytes_are_read_alike_or_refused(plan: list[bytes], sizes: list[int], data: st.DataObject) -> None:
    stream = bytearray(b"".join(plan))
    for _ in range(data.draw(st.integers(1, 3))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    agree(scanned(cut(bytes(stream), sizes)), read_fully(bytes(stream)))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_alike_or_refused(stream: bytes) -> None:
    agree(scanned([stream]), read_fully(stream))


# -- work and memory


def calls(work: Callable[[], object]) -> int:
    """How many calls of functions, Python's own among them, the work makes."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def reads(stream: bytes) -> list[bytes]:
    """A stream in the pieces in which a connection reads it."""
    return [stream[at : at + 10_000] for at in range(0, len(stream), 10_000)]


@pytest.mark.parametrize("most", [10**9, 1_000], ids=["in memory", "in a file"])
def test_the_work_grows_with_the_size_of_a_body(most: int) -> None:
    limits = MessageLimits(max_message_bytes=most)
    table = {f"h{number}": None for number in range(500)}

    def work(size: int) -> int:
        pieces = reads(b"".join(frames(1, b"x" * size, spec.Basic.Properties(headers=table), step=4_000)))
        read = Read()
        count = calls(lambda: setattr(read, "taken", scanned(pieces, limits=limits).taken))
        assert [spooled_bytes(one) for one in read.taken] == [b"x" * size]
        return count

    assert work(5_000_000) < 12 * work(500_000)


def test_a_table_above_the_limit_is_not_read() -> None:
    """Void values: a name of one byte and a type, which take two hundred times as much once they are objects."""
    entries = b"\x01aV" * 43_000
    properties = frames(1, b"small", spec.Basic.Properties(content_type="t", message_id="m", headers={"a": "x" * 9}))
    head = properties[1].replace(encode.field_table({"a": "x" * 9}), len(entries).to_bytes(4, "big") + entries)
    head = head[:3] + (len(head) - 8).to_bytes(4, "big") + head[7:]
    stream = properties[0] + head + properties[2]
    read = Read()
    assert calls(lambda: setattr(read, "taken", scanned(reads(stream), limits=MessageLimits()).taken)) < 1_000
    [found] = read.taken
    assert (found.body, found.properties.content_type, found.properties.message_id) == (b"small", "t", "m")
    assert (found.properties.headers, found.properties.header_bytes) == (None, len(entries))


def test_what_cannot_be_kept_is_said_and_its_bytes_are_passed_over(tmp_path: Path) -> None:
    stream = b"".join([*frames(1, b"x" * 1_000), *frames(2, b"good")])
    [large, good] = scanned(cut(stream, [300, 300]), folder=tmp_path / "missing").taken
    assert large.spooled is not None
    assert "No such file" in str(large.spooled.error)
    assert good.body == b"good"
