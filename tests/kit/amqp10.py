"""A minimal AMQP 1.0 client, frames by hand: messages that no 0-9-1 client could write, nor take.

SASL (PLAIN), open, begin, attach, transfer, until each transfer is settled. Values are AMQP 1.0 encodings:
`described`, `symbol`, `text` and so on return bytes.
"""

from __future__ import annotations

import asyncio
import struct
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
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


def a_binary(value: bytes) -> bytes:
    """Bytes."""
    return b"\xb0" + struct.pack(">I", len(value)) + value


def message(body: bytes, *, message_id: str | bytes, properties: Mapping[str, bytes]) -> bytes:
    """A durable message: header, properties (its id), application properties, one data section."""
    return b"".join(
        [
            described(_HEADER, [TRUE]),
            described(_PROPERTIES, [text(message_id) if isinstance(message_id, str) else a_binary(message_id)]),
            bytes([0x00, 0x53, _APPLICATION_PROPERTIES]) + table(properties) if properties else b"",
            bytes([0x00, 0x53, _DATA, 0xB0]) + struct.pack(">I", len(body)) + body,
        ]
    )


class Refused(Exception):
    """The broker did not take it, and its words."""


class _Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.next_incoming = 0

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
            if found in (_DETACH, _END, _CLOSE):  # instead of what was to come
                raise Refused(repr(body))

    async def begin(self, url: str) -> None:
        """Logs in and opens a session."""
        target = urlsplit(url)
        await self.hello(_SASL)
        login = f"\0{target.username}\0{target.password}".encode()
        self.send(_SASL_INIT, [symbol("PLAIN"), b"\xb0" + struct.pack(">I", len(login)) + login], sasl=True)
        outcome = await self.until(_SASL_OUTCOME)
        if b"\x50\x00" not in outcome:
            raise Refused(repr(outcome))
        await self.hello(_AMQP)
        self.send(_OPEN, [text("rabbitray-tests"), text(f"vhost:{unquote(target.path[1:]) or '/'}")])
        await self.until(_OPEN)
        self.send(_BEGIN, [NULL, uint(0), uint(2_048), uint(2_048)])
        self.next_incoming = _numbers(await self.until(_BEGIN), 2)[1] or 0

    async def hello(self, protocol: bytes) -> None:
        self._writer.write(protocol)
        if (answer := await self._reader.readexactly(8)) != protocol:
            raise Refused(repr(answer))


async def send(url: str, queue: str, messages: Sequence[bytes]) -> None:
    """Sends encoded messages to a queue and waits until each is accepted. Raises Refused. `url`: as for AMQP 0-9-1."""
    async with _session(url) as client:
        link = [text("producer"), uint(0), FALSE, NULL, NULL]
        ends = [described(_SOURCE, [text("here")]), described(_TARGET, [text(_address(queue)), uint(2)])]
        client.send(_ATTACH, [*link, *ends, NULL, NULL, uint(0)])
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


async def take_one(url: str, queue: str) -> bytes:
    """Takes the message at the head of a queue; its frame. Raises Refused."""
    async with _session(url) as client:
        link = [text("consumer"), uint(0), TRUE, NULL, NULL]
        ends = [described(_SOURCE, [text(_address(queue))]), described(_TARGET, [text("here")])]
        client.send(_ATTACH, [*link, *ends])
        await client.until(_ATTACH)
        session = [uint(client.next_incoming), uint(2_048), uint(0), uint(2_048)]
        client.send(_FLOW, [*session, uint(0), uint(0), uint(1)])
        taken = await client.until(_TRANSFER)
        client.send(_DISPOSITION, [TRUE, uint(0), NULL, TRUE, described(_ACCEPTED, [])])
        return taken


def _address(queue: str) -> str:
    return f"/queues/{queue}"


@asynccontextmanager
async def _session(url: str) -> AsyncIterator[_Client]:
    """An open session, closed in order at the end; all of it within 20 s."""
    target = urlsplit(url)
    reader, writer = await asyncio.open_connection(target.hostname, target.port)
    client = _Client(reader, writer)
    try:
        async with asyncio.timeout(20):
            await client.begin(url)
            yield client
            client.send(_CLOSE, [])
            await client.until(_CLOSE)
    finally:
        writer.close()


def _settled(body: bytes) -> int:
    """How many transfers a disposition is about: its second and third fields are the first and the last."""
    _, first, last = _numbers(body, 3)
    return 1 if last is None or first is None else last - first + 1


def _numbers(body: bytes, count: int) -> list[int | None]:
    """The first fields of a performative that are numbers; None for what is none."""
    at = 12 if body[3] == 0xD0 else 6
    found: list[int | None] = []
    while len(found) < count and at < len(body):
        value, at = _number(body, at)
        found.append(value)
    return found + [None] * (count - len(found))


def _number(body: bytes, at: int) -> tuple[int | None, int]:
    size = {0x52: 1, 0x60: 2, 0x70: 4}.get(body[at])
    if size is not None:
        return int.from_bytes(body[at + 1 : at + 1 + size], "big"), at + 1 + size
    if body[at] in (0x40, 0x41, 0x42, 0x43):  # null, true, false, 0
        return (0 if body[at] == 0x43 else None), at + 1
    raise Refused(repr(body))
