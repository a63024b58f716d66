"""Takes deliveries out of the bytes of a connection before aiormq makes objects and tasks of their frames.

aiormq reads each frame with three awaits and puts it through two queues: about 35 us for the three frames of a
message, more than all that we do with it. The scanner stands where the bytes come in (aiormq's public
`TransportFactory`), takes whole deliveries of one channel, and leaves every other byte to aiormq, in order. What it
cannot take whole (frames of other channels between, an unknown consumer) it leaves too; the channel's reader takes
those as before. About once a second one delivery goes that way on purpose: aiormq counts received frames as a
sign of life of the connection.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import time
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import aiormq
from aiormq.abc import DeliveredMessage
from pamqp import commands as spec

from rabbitray.actors.rabbitmq.frame_guard import original
from rabbitray.actors.rabbitmq.properties import UNREADABLE, Properties, read_properties
from rabbitray.actors.router.intake.reading import PropertiesLike

FRAME_METHOD, FRAME_HEADER, FRAME_BODY = 1, 2, 3
FRAME_END = 0xCE
DELIVER = b"\x00\x3c\x00\x3c"  # class 60, method 60
READ_BYTES = 256 * 1024
SIGN_OF_LIFE_S = 1.0

_FRAME = struct.Struct(">BHI")
_HEADER = struct.Struct(">HHQH")
_LONG = struct.Struct(">Q")
log = logging.getLogger(__name__)
Taker = Callable[[int, bool, PropertiesLike, bytes], None]
"""Gets tag, redelivered, properties and body of a message."""


class Scanned(NamedTuple):
    """One delivery as it stood in the bytes, and where it ended."""

    consumer_tag: str
    delivery_tag: int
    redelivered: bool
    properties: Properties
    body: bytes
    end: int


def scan(data: bytearray, start: int, channel: int) -> Scanned | int | None:
    """The delivery of `channel` that begins at `start`.

    0: there is no delivery of this channel there; None: it is not complete yet. Raises ValueError or struct.error
    for bytes that are no AMQP; aiormq then says what is wrong with them.
    """
    size = _frame(data, start, FRAME_METHOD, channel)
    if not size:
        return size
    at = start + 7
    if data[at : at + 4] != DELIVER:
        return 0
    length = data[at + 4]
    consumer = data[at + 5 : at + 5 + length].decode()
    at += 5 + length
    (tag,) = _LONG.unpack_from(data, at)
    redelivered = bool(data[at + 8] & 1)
    head = start + size + 8
    size = _frame(data, head, FRAME_HEADER, channel)
    if not size:
        return size
    _, _, body_size, flags = _HEADER.unpack_from(data, head + 7)
    properties = read_properties(data, head + 7 + _HEADER.size, head + 7 + size, flags)
    found = _body(data, head + size + 8, body_size, channel)
    if not isinstance(found, tuple):
        return found
    return Scanned(consumer, tag, redelivered, properties, found[0], found[1])


def _frame(data: bytearray, start: int, kind: int, channel: int) -> int | None:
    """Payload bytes of the frame at `start`; 0: another kind or channel (or empty); None: not complete yet."""
    if len(data) < start + 7:
        return None
    found, number, size = _FRAME.unpack_from(data, start)
    if found != kind or number != channel:
        return 0
    if len(data) < start + 8 + size:
        return None
    if data[start + 7 + size] != FRAME_END:
        raise ValueError("no frame end")
    return int(size)


def _body(data: bytearray, start: int, body_size: int, channel: int) -> tuple[bytes, int] | int | None:
    pieces: list[bytes] = []
    missing = body_size
    while missing > 0:
        size = _frame(data, start, FRAME_BODY, channel)
        if not size:
            return size
        pieces.append(bytes(memoryview(data)[start + 7 : start + 7 + size]))
        missing -= size
        start += size + 8
    return (pieces[0] if len(pieces) == 1 else b"".join(pieces)), start


Take = Callable[[Scanned], bool]
"""Gets a delivery; False when its consumer is not known, and aiormq shall have it."""


class ScanningReader:
    """What aiormq reads from: a StreamReader whose deliveries of one channel go to `take` instead."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._data = bytearray()
        self._at = 0  # what lies before was used
        self._step = 0  # aiormq reads a frame in three steps; only before the first one may be scanned
        self._eof = False
        self._channel = 0
        self._take: Take | None = None
        self._passed_at = time.monotonic()

    def watch(self, channel: int, take: Take) -> None:
        """Begins to take the deliveries of this channel."""
        self._channel, self._take = channel, take

    def at_eof(self) -> bool:
        """Whether nothing more can come."""
        return self._eof and self._at >= len(self._data)

    async def read(self, count: int = -1) -> bytes:
        """Whatever is here, up to `count` bytes (-1: all)."""
        if self._at >= len(self._data):
            await self._more()
        end = len(self._data) if count < 0 else min(len(self._data), self._at + count)
        return self._cut(end)

    async def readexactly(self, count: int) -> bytes:
        """As StreamReader does it; before the first byte of a frame, deliveries are taken out."""
        if self._step == 0 and self._take is not None:
            await self._take_deliveries()
        self._step = (self._step + 1) % 3
        while len(self._data) - self._at < count:
            if not await self._more():
                raise asyncio.IncompleteReadError(self._cut(len(self._data)), count)
        return self._cut(self._at + count)

    async def _take_deliveries(self) -> None:
        """Takes deliveries for as long as one stands at the front, waiting for the rest of one that began."""
        take = self._take
        assert take is not None
        while True:
            try:
                found = scan(self._data, self._at, self._channel)
            except UNREADABLE:
                return
            if isinstance(found, Scanned):
                now = time.monotonic()
                if now - self._passed_at > SIGN_OF_LIFE_S:
                    self._passed_at = now
                    return
                if not take(found):
                    return
                self._at = found.end
            elif found == 0 or not await self._more():
                return

    async def _more(self) -> bool:
        """Waits for bytes; False at the end of the connection."""
        if self._at:
            del self._data[: self._at]
            self._at = 0
        chunk = await self._reader.read(READ_BYTES)
        self._eof = not chunk
        self._data += chunk
        return bool(chunk)

    def _cut(self, end: int) -> bytes:
        cut = bytes(memoryview(self._data)[self._at : end])
        self._at = end
        return cut


async def taken_in_reader(message: DeliveredMessage) -> None:
    """What aiormq is told to call; never called, see `take_in_reader`."""
    log.error("Delivery %s was not taken in the reader", message.delivery_tag)


def take_in_reader(channel: aiormq.abc.AbstractChannel, takers: dict[str, Taker]) -> None:
    """Lets `takers` (by consumer tag) have deliveries inside the channel's reader, when the scanner left them.

    aiormq makes a task of every delivery (about 15 us each, cancelled when the channel closes). We only buffer, so
    the task buys nothing. Replaces `aiormq.Channel._on_deliver_frame` on this one channel.
    """

    async def on_deliver_frame(self: Any, frame: spec.Basic.Deliver) -> None:  # Any: aiormq.Channel internals
        header = await self._get_frame()
        message = await self._read_content(frame, header)
        take = takers.get(frame.consumer_tag or "")
        if take is not None:
            take(frame.delivery_tag or 0, bool(frame.redelivered), original(header.properties), message.body)

    channel._on_deliver_frame = types.MethodType(on_deliver_frame, channel)  # type: ignore[attr-defined] # aiormq.Channel has it
