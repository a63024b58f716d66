"""A minimal AMQP 1.0 producer, frames by hand: messages that no 0-9-1 client could write.

SASL (PLAIN), open, begin, attach, transfer, until the broker has settled each transfer. Values are AMQP 1.0 encodings:
`described`, `symbol`, `text` and so on return bytes.
"""

from __future__ import annotations

import asyncio
import struct
import uuid
from collections.abc import Mapping, Sequence
from urllib.parse import unquote, urlsplit

_SASL, _AMQP = b"AMQP\x03\x01\x00\x00", b"AMQP\x00\x01\x00\x00"
_OPEN, _BEGIN, _ATTACH, _FLOW, _TRANSFER, _DISPOSITION, _DETACH, _END, _CLOSE = range(0x10, 0x19)
_SASL_INIT, _SASL_OUTCOME = 0x41, 0x44
_SOURCE, _TARGET = 0x28, 0x29
_HEADER, _PROPERTIES, _APPLICATION_PROPERTIES, _DATA = 0x70, 0x73, 0x74, 0x75
_ACCEPTED = 0x24
NULL = b"\x40"
TRUE, FALSE = b"\x41", b"\x42"


def text(value: str, kind: int = 0xB1) -> bytes:
    """A string."""
    raw = value.encode()
    return bytes([kind]) + struct.pack(">I", len(raw)) + raw


def symbol(value: str) -> bytes:
    """A symbol."""
    return text(value, 0xB3)


def uint(value: int) -> bytes:
    """A 32-bit number."""
    return b"\x70" + struct.pack(">I", value)


def a_uuid() -> bytes:
    """A UUID, which a 0-9-1 table has no type for."""
    return b"\x98" + uuid.uuid4().bytes


def a_char(value: str = "x") -> bytes:
    """A character, which a 0-9-1 table has no type for."""
    return b"\x73" + struct.pack(">I", ord(value))


def described(code: int, fields: Sequence[bytes]) -> bytes:
    """A list with a descriptor: a performative, or a section of a message."""
    inner = struct.pack(">I", len(fields)) + b"".join(fields)
    return bytes([0x00, 0x53, code, 0xD0]) + struct.pack(">I", len(inner)) + inner


def table(values: Mapping[str, bytes]) -> bytes:
    """A map with texts as names."""
    inner = struct.pack(">I", 2 * len(values)) + b"".join(text(name) + value for name, value in values.items())
    return b"\xd1" + struct.pack(">I", len(inner)) + inner


def message(body: bytes, *, message_id: str, properties: Mapping[str, bytes]) -> bytes:
    """A durable message: header, properties (its id), application properties, one data section."""
    return b"".join(
        [
            described(_HEADER, [TRUE]),
            described(_PROPERTIES, [text(message_id)]),
            bytes([0x00, 0x53, _APPLICATION_PROPERTIES]) + table(properties) if properties else b"",
            bytes([0x00, 0x53, _DATA, 0xB0]) + struct.pack(">I", len(body)) + body,
        ]
    )


class Refused(Exception):
    """The broker did not take it, and its words."""


class _Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, code: int, fields: Sequence[bytes], *, sasl: bool = False, payload: bytes = b"") -> None:
        body = described(code, fields) + payload
        self._writer.write(struct.pack(">IBBH", len(body) + 8, 2, int(sasl), 0) + body)

    async def until(self, code: int) -> bytes:
        """The body of the next frame of this kind; raises Refused where the broker ends instead."""
        while True:
            size, offset = struct.unpack(">IB", await self._reader.readexactly(5))
            body = (await self._reader.readexactly(size - 5))[offset * 4 - 5 :]
            if not body:
                continue
            found = body[2] if body[1] == 0x53 else int.from_bytes(body[2:10], "big")
            if found == code:
                return body
            if found in (_DETACH, _END, _CLOSE):
                raise Refused(repr(body))

    async def hello(self, protocol: bytes) -> None:
        self._writer.write(protocol)
        if (answer := await self._reader.readexactly(8)) != protocol:
            raise Refused(repr(answer))


async def send(url: str, queue: str, messages: Sequence[bytes], *, old_address: bool = False) -> None:
    """Sends encoded messages to a queue and waits until each is accepted. Raises Refused.

    `url`: as for AMQP 0-9-1. `old_address`: as RabbitMQ 3 writes it.
    """
    target = urlsplit(url)
    reader, writer = await asyncio.open_connection(target.hostname, target.port)
    client = _Client(reader, writer)
    try:
        await asyncio.wait_for(_send(client, url, queue, messages, old_address=old_address), 20)
    finally:
        writer.close()


async def _send(client: _Client, url: str, queue: str, messages: Sequence[bytes], *, old_address: bool) -> None:
    target = urlsplit(url)
    vhost = unquote(target.path[1:]) or "/"
    await client.hello(_SASL)
    login = f"\0{target.username}\0{target.password}".encode()
    client.send(_SASL_INIT, [symbol("PLAIN"), b"\xb0" + struct.pack(">I", len(login)) + login], sasl=True)
    outcome = await client.until(_SASL_OUTCOME)
    if b"\x50\x00" not in outcome:
        raise Refused(repr(outcome))
    await client.hello(_AMQP)
    client.send(_OPEN, [text("rabbitray-tests"), text(f"vhost:{vhost}")])
    await client.until(_OPEN)
    client.send(_BEGIN, [NULL, uint(0), uint(2_048), uint(2_048)])
    await client.until(_BEGIN)
    address = f"/amq/queue/{queue}" if old_address else f"/queues/{queue}"
    link = [text("producer"), uint(0), FALSE, NULL, NULL]
    ends = [described(_SOURCE, [text("here")]), described(_TARGET, [text(address), uint(2)]), NULL, NULL, uint(0)]
    client.send(_ATTACH, link + ends)
    await client.until(_ATTACH)
    await client.until(_FLOW)
    for number, encoded in enumerate(messages):
        tag = b"\xa0\x04" + struct.pack(">I", number)
        client.send(_TRANSFER, [uint(0), uint(number), tag, uint(0), FALSE, FALSE], payload=encoded)
    settled = 0
    while settled < len(messages):
        body = await client.until(_DISPOSITION)
        if bytes([0x53, _ACCEPTED]) not in body:
            raise Refused(repr(body))
        settled += _settled(body)
    client.send(_CLOSE, [])


def _settled(body: bytes) -> int:
    """How many transfers a disposition is about: its second and third fields are the first and the last."""
    start = 8 if body[3] == 0xD0 else 6
    numbers: list[int | None] = []
    at = start + 4 if body[3] == 0xD0 else start
    while len(numbers) < 3 and at < len(body):
        value, at = _number(body, at)
        numbers.append(value)
    first, last = numbers[1], numbers[2]
    return 1 if last is None or first is None else last - first + 1


def _number(body: bytes, at: int) -> tuple[int | None, int]:
    kind = body[at]
    if kind in (0x43, 0x41, 0x42, 0x40):
        return (0 if kind == 0x43 else None), at + 1
    if kind == 0x52:
        return body[at + 1], at + 2
    if kind == 0x70:
        return int.from_bytes(body[at + 1 : at + 5], "big"), at + 5
    raise Refused(repr(body))
