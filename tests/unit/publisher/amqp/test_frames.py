"""Frames that we write ourselves are those of pamqp, byte for byte."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from rabbitray.actors.errors import (
    EncodeError,
)
from rabbitray.actors.message.headers import PUBLISHED
from rabbitray.actors.publisher.amqp import frames as our_frames


def test_our_frames_are_byte_for_byte_those_of_pamqp() -> None:
    properties = commands.Basic.Properties(
        content_type="application/msgpack",
        content_encoding="gzip",
        headers={PUBLISHED: 2**40},
        delivery_mode=2,
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


def test_names_and_headers_that_amqp_cannot_carry_are_refused() -> None:
    with pytest.raises(EncodeError):
        our_frames.publish_method("x" * 256, "")
    with pytest.raises(EncodeError):
        our_frames.table({"a": object()})


def test_bytes_that_came_in_a_header_can_go_out_again() -> None:
    assert our_frames.table({"a": [{"b": b"\xff"}]}) == our_frames.table({"a": [{"b": bytearray(b"\xff")}]})
