"""An AMQP 1.0 sender as bytes: what RabbitMQ cannot hand to a 0-9-1 consumer comes from such clients."""

from __future__ import annotations

import asyncio
import uuid
from urllib.parse import unquote, urlsplit

SASL, PLAIN = 1, 0
INIT, OUTCOME = 0x41, 0x44
OPEN, BEGIN, ATTACH, FLOW, TRANSFER, DISPOSITION, CLOSE = 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x18
SOURCE, TARGET, PROPERTIES, DATA = 0x28, 0x29, 0x74, 0x75

NULL, FALSE, TRUE = b"\x40", b"\x42", b"\x41"


def text(value: str) -> bytes:
    return b"\xb1" + len(value.encode()).to_bytes(4, "big") + value.encode()


def symbol(value: str) -> bytes:
    return b"\xb3" + len(value).to_bytes(4, "big") + value.encode()


def binary(value: bytes) -> bytes:
    return b"\xb0" + len(value).to_bytes(4, "big") + value


def number(value: int) -> bytes:
    return b"\x70" + value.to_bytes(4, "big")


def a_uuid(value: uuid.UUID) -> bytes:
    return b"\x98" + value.bytes


def described(code: int, kind: bytes, *values: bytes) -> bytes:
    """A list (`\\xd0`) or map (`\\xd1`) with what it means."""
    inside = len(values).to_bytes(4, "big") + b"".join(values)
    return b"\x00\x53" + bytes([code]) + kind + len(inside).to_bytes(4, "big") + inside


def performative(code: int, *values: bytes) -> bytes:
    return described(code, b"\xd0", *values)


async def send(url: str, queue: str, body: bytes, properties: dict[str, bytes]) -> None:
    """One message to a queue of RabbitMQ 4, until it is accepted. `properties`: encoded values, as of `a_uuid`."""
    where = urlsplit(url)
    assert where.hostname is not None
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    client = _Client(reader, writer)
    try:
        async with asyncio.timeout(30):
            await client.log_in(f"{where.username}", f"{where.password}")
            await client.open_link(unquote(where.path.lstrip("/")) or "/", queue)
            await client.transfer(body, properties)
    finally:
        writer.close()


class _Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def log_in(self, user: str, password: str) -> None:
        await self._greet(3)
        await self._until(0x40)  # the mechanisms that there are
        secret = binary(f"\0{user}\0{password}".encode())
        self._send(performative(INIT, symbol("PLAIN"), secret, NULL), kind=SASL)
        await self._until(OUTCOME)
        await self._greet(0)

    async def open_link(self, vhost: str, queue: str) -> None:
        self._send(performative(OPEN, text("tests"), text(f"vhost:{vhost}")))
        self._send(performative(BEGIN, NULL, number(0), number(100), number(100)))
        source, target = performative(SOURCE, text("tests")), performative(TARGET, text(f"/queues/{queue}"))
        first = number(0)  # of the delivery count
        self._send(performative(ATTACH, text("link"), first, FALSE, NULL, NULL, source, target, NULL, NULL, first))
        await self._until(FLOW)

    async def transfer(self, body: bytes, properties: dict[str, bytes]) -> None:
        header = performative(TRANSFER, number(0), number(0), binary(b"tag"), number(0), FALSE)
        pairs = [part for name, value in properties.items() for part in (text(name), value)]
        data = b"\x00\x53" + bytes([DATA]) + binary(body)
        self._send(header + described(PROPERTIES, b"\xd1", *pairs) + data)
        await self._until(DISPOSITION)
        self._send(performative(CLOSE))

    async def _greet(self, protocol: int) -> None:
        ours = b"AMQP" + bytes([protocol, 1, 0, 0])
        self._writer.write(ours)
        assert await self._reader.readexactly(8) == ours

    def _send(self, frame: bytes, *, kind: int = PLAIN) -> None:
        self._writer.write((len(frame) + 8).to_bytes(4, "big") + bytes([2, kind, 0, 0]) + frame)

    async def _until(self, code: int) -> None:
        """Reads frames up to one of this kind."""
        while True:
            size = int.from_bytes(await self._reader.readexactly(4), "big")
            frame = (await self._reader.readexactly(size - 4))[4:]
            found = frame[2] if frame else None
            assert found not in (CLOSE, 0x17, 0x16), frame  # close, end and detach say why
            if found == code:
                return
