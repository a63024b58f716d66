"""AMQP as bytes: field tables of every type and messages with them, which pamqp would not write."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from typing import Any

import aiormq
from aiormq.abc import ChannelFrame
from hypothesis import strategies as st
from yarl import URL

from rabbitray.actors.message.properties.field_table import entries
from rabbitray.actors.message.properties.property_list import Properties, from_raw
from rabbitray.actors.publisher.amqp.frames import append_publish
from rabbitray.actors.rabbitmq.frame_guard import original, transports_for

_METHOD = b"\x00\x3c\x00\x28\x00\x00"  # basic.publish
UNIX_MOST = 253_402_300_799  # the last second of the year 9999
SCALARS: dict[str, str] = {
    "t": ">?", "b": ">b", "B": ">B", "s": ">h", "u": ">H", "I": ">i", "i": ">I",
    "l": ">q", "L": ">q", "f": ">f", "d": ">d", "D": ">BI", "T": ">Q", "V": ">", "\0": ">",
}  # fmt: skip
"""Types of one size, as `struct` writes their values."""

BEYOND = (253_402_300_800_000, 1_767_312_000_000_000, 2**63, 2**64 - 62_135_596_800)
"""Time stamps that no datetime holds: the year 10000, microseconds, far, and .NET's default date (the year 1)."""


def scalar(kind: str, *value: Any) -> bytes:
    """A value of one size with its type."""
    return kind.encode() + struct.pack(SCALARS[kind], *value)


def long(kind: str, value: bytes) -> bytes:
    """A text, byte array, list or table with its type and length; `value` is what lies in it."""
    return kind.encode() + len(value).to_bytes(4, "big") + value


def entry(name: bytes, value: bytes) -> bytes:
    """One header."""
    return bytes([len(name)]) + name + value


ONE_OF_EACH: dict[bytes, bytes] = {
    b"t": scalar("t", True),
    b"b": scalar("b", -5),
    b"s": scalar("s", -300),
    b"I": scalar("I", -70_000),
    b"i": scalar("i", 4_000_000_000),
    b"l": scalar("l", 5),
    b"f": scalar("f", 0.1),
    b"d": scalar("d", 0.1),
    b"d-large": scalar("d", 1e300),
    b"D": scalar("D", 2, 12_345),
    b"S": long("S", b"text"),
    b"S-bytes": long("S", b"\xff\xfe"),
    b"x": long("x", b"\x00\xff"),
    b"T": scalar("T", 1_767_312_000),
    b"V": scalar("V"),
    b"F": long("F", entry(b"in", scalar("d", 0.1)) + entry(b"deep", long("F", entry(b"x", long("x", b"\xff"))))),
    b"A": long("A", scalar("f", 0.1) + long("S", b"\xff") + long("A", scalar("V")) + scalar("D", 0, 7)),
    b"B": scalar("B", 200),
    b"u": scalar("u", 40_000),
}
"""A header of every type that RabbitMQ keeps. It takes an `L` and writes an `l`; for a zero byte, a NaN and an infinity
it closes the connection (tried on 3.10.8)."""


def table(headers: dict[bytes, bytes] | Sequence[bytes]) -> bytes:
    """A header table with its length."""
    parts = [entry(*one) for one in headers.items()] if isinstance(headers, dict) else headers
    found = b"".join(parts)
    return len(found).to_bytes(4, "big") + found


def short(text: bytes) -> bytes:
    """A short text with its length."""
    return bytes([len(text)]) + text


def properties(headers: bytes, message_id: bytes = b"m", content_type: bytes = b"application/json") -> bytes:
    """A property list, flags first: persistent, with these headers (a whole table), type and message id."""
    return b"\xb0\x80" + short(content_type) + headers + b"\x02" + short(message_id)


def parts_of(raw: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Properties before and after the headers, and these one by one: RabbitMQ 4 sorts them."""
    found = from_raw(raw)
    start, end = found.table_at, found.table_at + found.header_bytes
    return raw[:start], sorted(raw[one.start : one.end] for one in entries(raw, start, end)), raw[end:]


def _leaves(*, kept: bool) -> st.SearchStrategy[bytes]:
    """Values that hold no others; `kept`: such as RabbitMQ keeps."""
    whole, void = ("bBsuIil", "V") if kept else ("bBsuIilL", "V\0")
    finite = {"allow_nan": False, "allow_infinity": not kept}
    return st.one_of(
        st.tuples(st.sampled_from(whole), st.integers(0, 127)).map(lambda one: scalar(*one)),
        st.integers(-(2**63), 2**63 - 1).map(lambda value: scalar("l", value)),
        st.floats(width=32, **finite).map(lambda value: scalar("f", value)),
        st.floats(**finite).map(lambda value: scalar("d", value)),
        st.tuples(st.integers(0, 255), st.integers(0, 2**32 - 1)).map(lambda value: scalar("D", *value)),
        st.one_of(
            st.integers(0, UNIX_MOST),
            st.integers(0, UNIX_MOST * 1_000),
            st.integers(0, 2**64 - 1),
            st.sampled_from(BEYOND),
        ).map(lambda value: scalar("T", value)),
        st.binary(max_size=20).flatmap(lambda value: st.sampled_from("Sx").map(lambda kind: long(kind, value))),
        st.text(max_size=10).map(lambda value: long("S", value.encode())),
        st.sampled_from([scalar("t", True), scalar("t", False), *map(scalar, void)]),
    )


def _tables(leaves: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    names = st.text(max_size=8).map(str.encode) | st.binary(max_size=6)
    values = st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4).map(lambda found: long("A", b"".join(found))),
            st.lists(st.builds(entry, names, inner), max_size=4).map(lambda found: long("F", b"".join(found))),
        ),
        max_leaves=12,
    )
    return st.lists(st.builds(entry, names, values), max_size=6).map(table)


tables = _tables(_leaves(kept=False))
"""Header tables of all types, nested, each with its length; among them what pamqp cannot read."""

kept_tables = _tables(_leaves(kept=True))
"""The same, such as RabbitMQ keeps."""


async def publish(url: str, key: str | bytes, messages: Sequence[tuple[bytes, bytes]], *, exchange: str = "") -> None:
    """Sends messages, each a property list with its flags and a body, and waits until the broker has taken them."""
    method = _METHOD + short(exchange.encode()) + short(key.encode() if isinstance(key, str) else key) + b"\0"
    async with aiormq.connect(url) as connection:
        channel = await connection.channel()
        parts: list[bytes] = []
        for raw, body in messages:
            header = b"\x00\x3c\x00\x00" + len(body).to_bytes(8, "big") + raw
            append_publish(parts, channel.number, method, header, body, 131_072)
        await channel.confirm_delivery()
        done = connection.loop.create_future()
        answered = 0

        async def on_confirm(frame: Any) -> None:
            nonlocal answered
            answered = frame.delivery_tag
            if answered == len(messages):
                done.set_result(None)

        channel._on_confirm_frame = on_confirm  # type: ignore[method-assign]
        await connection.write_queue.put(ChannelFrame(payload=b"".join(parts), should_close=False))
        await asyncio.wait([done, connection.closing], return_when=asyncio.FIRST_COMPLETED)
        assert done.done(), "the broker took them"


async def taken(url: str, queue: str) -> list[tuple[Properties, bytes]]:
    """Takes everything out of `queue`: properties as they stood there, and bodies."""
    found: list[tuple[Properties, bytes]] = []
    async with aiormq.connect(url, transport_factory=transports_for(URL(url))) as connection:
        channel = await connection.channel()
        while (message := await channel.basic_get(queue, no_ack=True)).message_count is not None:
            found.append((original(message.header.properties), message.body))
    return found


def headers_of(found: Properties) -> dict[bytes, bytes]:
    """The headers as they stand in their table: name and value, with its type."""
    end = found.table_at + found.header_bytes
    return {one.name: found.raw[one.at : one.end] for one in entries(found.raw, found.table_at, end)}
