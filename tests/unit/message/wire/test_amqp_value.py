"""What RabbitMQ hands over as an AMQP 1.0 client encoded it: texts and bytes are taken out, other values named."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.headers import JSON, MSGPACK
from rabbitray.actors.message.wire import decode
from rabbitray.actors.message.wire.amqp_value import is_section, section_body

VALUE = b"\x00Sw"
LONG_VALUE = b"\x00\x80" + (0x77).to_bytes(8, "big")


def string(text: str) -> bytes:
    raw = text.encode()
    return b"\xa1" + bytes([len(raw)]) + raw


def large(raw: bytes, kind: int) -> bytes:
    return bytes([kind]) + len(raw).to_bytes(4, "big") + raw


@pytest.mark.parametrize("start", [VALUE, LONG_VALUE])
@pytest.mark.parametrize(
    ("encoded", "content_type", "payload"),
    [
        (string("hello"), None, "hello"),
        (string("hello"), "text/plain", "hello"),
        (string('{"order": 7}'), JSON, {"order": 7}),
        (string('{"order": 7}'), None, {"order": 7}),
        (string('{"order": 7}'), "text/plain", '{"order": 7}'),
        (large(b"hello", 0xB1), None, "hello"),
        (large(b"hello", 0xB3), None, "hello"),
        (large(b"\xff\x00", 0xB0), None, b"\xff\x00"),
        (b"\xa0\x02\xff\x00", None, b"\xff\x00"),
        (large(b'{"order": 7}', 0xB0), JSON, {"order": 7}),
        (large(b"\x81\xa1a\x01", 0xB0), MSGPACK, {"a": 1}),
        (large(b"gr\xc3\xbc\xc3\x9fe", 0xB0), "text/plain", "grüße"),
    ],
)
def test_a_text_or_bytes_are_what_the_client_sent(
    start: bytes, encoded: bytes, content_type: str | None, payload: object
) -> None:
    [job] = decode(start + encoded, content_type)
    assert job.payload == payload


def test_data_sections_are_joined() -> None:
    body = b"\x00Su\xa0\x02{}" + b"\x00Su\xa0\x00"
    assert section_body(body) == b"{}"
    assert decode(body, JSON)[0].payload == {}


@pytest.mark.parametrize(
    "body",
    [
        VALUE + b"\x40",  # null
        VALUE + b"\x54\x07",  # a number
        VALUE + b"\xd1\x00\x00\x00\x04\x00\x00\x00\x00",  # a map
        VALUE + b"\xc0\x01\x00",  # a list
        VALUE + b"\x00S\x10\x45",  # described
        VALUE + string("a")[:-1],  # truncated
        VALUE + string("a") + b"x",
        VALUE + string("a") + VALUE + string("b"),
        VALUE + b"\xa1\x01\xff",
        b"\x00Sv\xc0\x01\x00",  # a sequence
    ],
)
@pytest.mark.parametrize("content_type", [None, JSON, MSGPACK, "text/plain"])
def test_other_values_have_a_reason_of_their_own(body: bytes, content_type: str | None) -> None:
    with pytest.raises(DecodeError, match="amqp_value: "):
        decode(body, content_type)


def test_where_bytes_are_meant_nothing_is_taken_out() -> None:
    body = VALUE + string("hello")
    assert decode(body, "application/octet-stream")[0].payload == body
    assert decode(body, "application/x-protobuf")[0].payload == body
    assert decode(b"\x00So\xa0\x00", None)[0].payload == b"\x00So\xa0\x00", "no section of a body"


@given(st.binary(max_size=40))
def test_any_bytes_behind_a_section_are_a_value_or_a_reason(tail: bytes) -> None:
    for start in (VALUE, LONG_VALUE, b"\x00Su", b"\x00Sv", b"\x00"):
        body = start + tail
        if is_section(body):
            with suppress(DecodeError):
                assert isinstance(section_body(body), str | bytes)
