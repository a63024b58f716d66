"""Frames that we write ourselves are those of pamqp, byte for byte."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pamqp import commands, decode, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from rabbitray.actors.errors import (
    EncodeError,
)
from rabbitray.actors.message.headers import PUBLISHED
from rabbitray.actors.message.properties.field_table import read_table
from rabbitray.actors.publisher.amqp import frames as our_frames
from tests.kit.raw_amqp import ONE_OF_EACH, table


@pytest.mark.parametrize("priority", [None, 0, 31])
def test_our_frames_are_byte_for_byte_those_of_pamqp(priority: int | None) -> None:
    properties = commands.Basic.Properties(
        content_type="application/msgpack",
        content_encoding="gzip",
        headers={PUBLISHED: 2**40},
        delivery_mode=2,
        priority=priority,
        message_id="ä" * 20,
        timestamp=datetime.fromtimestamp(0, UTC),
    )
    header = our_frames.content_header(
        body_size=5,
        headers=our_frames.published_only(2**40),
        message_id="ä" * 20,
        timestamp_s=0,
        content_type="application/msgpack",
        content_encoding="gzip",
        priority=priority,
    )
    parts: list[bytes] = []
    our_frames.append_publish(parts, 3, our_frames.publish_method("ex", "key"), header, b"12345", 131_072)
    theirs = [
        frame.marshal(commands.Basic.Publish(exchange="ex", routing_key="key", mandatory=True), 3),
        frame.marshal(ContentHeader(body_size=5, properties=properties), 3),
        frame.marshal(ContentBody(b"12345"), 3),
    ]
    assert b"".join(parts) == b"".join(theirs)
    assert our_frames.published_only(2**40) == our_frames.table({PUBLISHED: 2**40})


@pytest.mark.parametrize(("frame_max", "sizes"), [(0, [20]), (18, [10, 10]), (28, [20]), (15, [7, 7, 6])])
def test_a_body_is_cut_to_the_frames_of_the_connection(frame_max: int, sizes: list[int]) -> None:
    """0: the broker takes frames of any size."""
    body, parts, apart = bytes(range(20)), list[bytes](), list[bytes]()
    our_frames.append_publish(parts, 3, b"method", b"header", body, frame_max)
    our_frames.append_publish(apart, 3, b"method", b"header", b"", frame_max)
    our_frames.append_body(apart, 3, body, frame_max)
    assert b"".join(parts) == b"".join(apart)
    stream, found = b"".join(parts[6:]), list[bytes]()
    while stream:
        used, channel, part = frame.unmarshal(stream)
        assert channel == 3
        found.append(part.value)
        stream = stream[used:]
    assert ([len(part) for part in found], b"".join(found)) == (sizes, body)


def test_names_and_headers_that_amqp_cannot_carry_are_refused() -> None:
    with pytest.raises(EncodeError):
        our_frames.publish_method("x" * 256, "")
    with pytest.raises(EncodeError):
        our_frames.table({"a": object()})


@pytest.mark.parametrize(
    "headers",
    [
        {1: "a"},
        {"n" * 256: 1},
        {"a": 2**63},
        {"a": {"b": [{2: 1}]}},
        {"when": datetime(1, 1, 1, tzinfo=UTC)},
        {"a": "\udcff"},
        {"a": Decimal("NaN")},
        {"a": {"b"}},
    ],
)
def test_a_header_that_has_no_form_is_refused_as_such(headers: Any) -> None:
    with pytest.raises(EncodeError):
        our_frames.table(headers)


def test_headers_of_every_python_type_come_back_as_they_were() -> None:
    headers = {
        "float": 0.1, "large": 1e300, "int": 5, "far": 2**62, "text": "\u00e4", "none": None, "yes": True,
        "bytes": bytearray(b"\xff"), "when": datetime(2026, 1, 2, tzinfo=UTC), "exact": Decimal("1.25"),
        "inner": {"float": 0.1, "list": [0.1, "a", {"x": 1e-300}]}, "n" * 255: 1,
    }  # fmt: skip
    written = our_frames.table(headers)
    assert read_table(written, 4, len(written)) == (headers, None)
    assert decode.field_table(written)[1] == headers


def test_entries_go_behind_the_headers_as_they_are() -> None:
    entries = table(ONE_OF_EACH)[4:]
    written = our_frames.table({"a": 1}, entries)
    assert written == (len(entries) + 4).to_bytes(4, "big") + b"\x01ab\x01" + entries


def test_bytes_that_came_in_a_header_can_go_out_again() -> None:
    assert our_frames.table({"a": [{"b": b"\xff"}]}) == our_frames.table({"a": [{"b": bytearray(b"\xff")}]})
