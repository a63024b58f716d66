"""Takes deliveries out of the bytes of a connection before aiormq makes objects and tasks of their frames. Pure.

aiormq reads each frame with three awaits and puts it through two queues: about 35 us for the three frames of a
message, more than all that we do with it. The scanner takes every delivery of one channel, frame by frame, and leaves
every other frame to aiormq. What it has read of a delivery that has begun is kept, so nothing is read twice, and a body
is in memory once: of a large one the connection writes the bytes where they stay.

A message beyond the limits costs its transfer and no memory: a body goes into a file piece by piece, a header table
is not read. Its delivery says why it is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import Enum
from io import BytesIO
from typing import Final

import msgspec

from rabbitray.actors.message.properties.property_list import Properties, read_properties
from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.router.spool import Spool, SpooledBody

FRAME_METHOD, FRAME_HEADER, FRAME_BODY = 1, 2, 3
FRAME_END = 0xCE
HEAD_BYTES: Final = 7
"""Of a frame before its payload: kind, channel, size."""
DELIVER = b"\x00\x3c\x00\x3c"  # class 60, method 60

APART_FROM: Final = 64 * 1024
"""Bytes of a frame of a body that are still to come, from which on they are not waited for together."""

_FRAME = struct.Struct(">BHI")
_HEADER = struct.Struct(">HHQH")
_LONG = struct.Struct(">Q")


class Scanned(msgspec.Struct, gc=False):
    """One delivery as it stood in the bytes.

    `route`: exchange and routing key, a length before each. `spooled`: where the body is when it is not in `body`.
    """

    consumer_tag: str
    delivery_tag: int
    redelivered: bool
    properties: Properties
    body: bytes
    route: bytes = b""
    spooled: SpooledBody | None = None


Method = tuple[str, int, bool, bytes]
"""Consumer tag, delivery tag, redelivered, route."""

Take = Callable[[Scanned], object]
"""Gets a delivery."""


class Stop(Enum):
    """Why a scan has ended: more bytes are needed; the frame there is aiormq's; what was spooled is to be written."""

    MORE = 1
    OTHER = 2
    SPOOLED = 3


class Scanner:
    """The deliveries of `channel`, each given to `take` when its last byte is there.

    `limits`: beyond them a body goes to `spool`, and a header table is left unread.
    """

    def __init__(self, channel: int, take: Take, *, limits: MessageLimits, spool: Spool) -> None:
        self._channel = channel
        self._take = take
        self._limits = limits
        self._spool = spool
        self._method: Method | None = None  # of a delivery that has begun
        self._properties: Properties | None = None  # once its header is there
        self._missing = 0  # bytes of its body that are still to come
        self._due = 0  # of a frame of its body that is taken in pieces: bytes still to come, and its end
        self._body = b""  # where it came in one frame
        self._growing: GrowingBody | None = None  # where it comes in several pieces
        self._pieces: list[bytes] = []  # of one that is spooled: what is not written yet
        self._spooled: SpooledBody | None = None

    def scan(self, data: bytearray, at: int, have: int) -> tuple[int, Stop]:
        """Takes the frames from `at` on, of the `have` bytes that are there; where it stopped, and why.

        After SPOOLED, what is `to_write` must be `written` before the next scan. Raises ConnectionError for bytes that
        are no AMQP.
        """
        if self._due:
            at = self._take_due(data, at, have)
            if self._due or not self._go_on():
                return at, self._more()
        channel, frame_at = self._channel, _FRAME.unpack_from
        while have - at >= HEAD_BYTES:
            kind, number, size = frame_at(data, at)
            if number != channel:
                return at, Stop.OTHER
            start, end = at + HEAD_BYTES, at + HEAD_BYTES + size
            if end >= have:
                if self._properties is None or end - have < APART_FROM:
                    break
                self._require_body(kind, size)
                self._due = size + 1
                return self._take_due(data, start, have), self._more()
            if data[end] != FRAME_END:
                raise _no_end(size)
            if self._method is None:
                if kind != FRAME_METHOD or data[start : start + 4] != DELIVER:
                    return at, Stop.OTHER
                self._method = _deliver(data, start + 4, end)
            elif self._properties is None:
                self._read_header(kind, data, start, end)
            else:
                self._require_body(kind, size)
                self._add(data, start, end)
            at = end + 1
            if not self._missing and self._properties is not None and not self._go_on():
                return at, Stop.SPOOLED
        return at, self._more()

    def room(self) -> memoryview | None:
        """Where the next bytes of the connection may be put instead of into a buffer, see `filled`; None: nowhere.

        All bytes that were there before must have been scanned.
        """
        if self._growing is None or self._due <= APART_FROM:
            return None
        payload = self._due - 1
        behind = 1 + HEAD_BYTES  # of the next frame, where the body is so long that its bytes come over them
        return self._growing.room(payload + behind if self._missing >= payload + behind else payload)

    def filled(self, count: int) -> bytes:
        """So many bytes were put into `room`. Returns those behind the frame's payload, which are scanned next."""
        assert self._growing is not None
        payload = min(count, self._due - 1)
        self._growing.filled(payload)
        self._missing -= payload
        self._due -= payload
        return self._growing.ahead(count - payload)

    def to_write(self) -> tuple[SpooledBody, list[bytes]]:
        """What is to be written next, and to which file; that blocks, so it is for a thread."""
        assert self._spooled is not None
        pieces, self._pieces = self._pieces, []
        return self._spooled, pieces

    def written(self) -> None:
        """That is done: a delivery that is whole is taken."""
        if not self._missing and not self._due:
            self._finish()

    def give_up(self) -> None:
        """No more bytes come: of a delivery that has begun nothing is kept, here or in a file."""
        self._method = self._properties = self._spooled = self._growing = None
        self._missing = self._due = 0
        self._pieces = []

    def _more(self) -> Stop:
        return Stop.SPOOLED if self._pieces else Stop.MORE

    def _read_header(self, kind: int, data: bytearray, start: int, end: int) -> None:
        if kind != FRAME_HEADER or end - start < _HEADER.size:
            raise ConnectionError(f"a frame of kind {kind} where a content header must be")
        _, _, size, flags = _HEADER.unpack_from(data, start)
        self._missing = size
        self._properties = read_properties(
            data, start + _HEADER.size, end, flags, most_table=self._limits.max_header_bytes
        )
        if size > self._limits.max_message_bytes:
            self._spooled = self._spool.begin(size)

    def _require_body(self, kind: int, size: int) -> None:
        if kind != FRAME_BODY or size > self._missing:
            raise ConnectionError(f"a frame of kind {kind}, {size:,} bytes, where {self._missing:,} of a body are")

    def _take_due(self, data: bytearray, at: int, have: int) -> int:
        """Takes what is there of a frame that has begun; returns where that ends."""
        end = min(have, at + self._due - 1)
        if end > at:
            self._due -= end - at
            self._add(data, at, end)
        if self._due == 1 and end < have:
            if data[end] != FRAME_END:
                raise _no_end(0)
            self._due, end = 0, end + 1
        return end

    def _add(self, data: bytearray, start: int, end: int) -> None:
        """More of the body."""
        if self._spooled is not None:
            self._pieces.append(bytes(memoryview(data)[start:end]))
        elif self._growing is not None:
            self._growing.add(memoryview(data)[start:end])
        elif end - start == self._missing:
            self._body = bytes(memoryview(data)[start:end])
        else:
            self._growing = GrowingBody(self._missing)
            self._growing.add(memoryview(data)[start:end])
        self._missing -= end - start

    def _go_on(self) -> bool:
        """Takes a delivery whose last frame this was. False where it must be written to a file before the next one."""
        if not self._missing:
            if self._spooled is not None:
                return False
            self._finish()
        return True

    def _finish(self) -> None:
        """Takes the delivery, of which every byte is there."""
        method, properties, spooled = self._method, self._properties, self._spooled
        body = self._body if self._growing is None else self._growing.whole()
        assert method is not None
        assert properties is not None
        self._method = self._properties = self._spooled = self._growing = None
        self._body = b""
        consumer, tag, redelivered, route = method
        self._take(Scanned(consumer, tag, redelivered, properties, body, route, spooled))


class GrowingBody:
    """A body of `size` bytes that comes in pieces, each put where it stays."""

    def __init__(self, size: int) -> None:
        self._file = BytesIO(bytes(size))  # gives away what it holds, without a copy
        self._view = self._file.getbuffer()
        self._at = 0

    def add(self, piece: memoryview) -> None:
        """The next bytes."""
        self.room(len(piece))[:] = piece
        self._at += len(piece)

    def room(self, count: int) -> memoryview:
        """Where the next `count` bytes go."""
        return self._view[self._at : self._at + count]

    def filled(self, count: int) -> None:
        """So many were put there."""
        self._at += count

    def ahead(self, count: int) -> bytes:
        """What was put behind them."""
        return bytes(self.room(count))

    def whole(self) -> bytes:
        """The body, of which all bytes are there."""
        self._view.release()
        return self._file.getvalue()


def _no_end(size: int) -> ConnectionError:
    return ConnectionError(f"a frame of {size:,} bytes has no end")


def _deliver(data: bytearray, at: int, end: int) -> Method:
    """What `basic.deliver` says, whose arguments begin at `at`."""
    tag_at = at + 1 + data[at]
    route_at = tag_at + 9
    if route_at > end:
        raise ConnectionError("a basic.deliver that ends early")
    consumer = data[at + 1 : tag_at].decode("utf-8", "replace")
    return consumer, _LONG.unpack_from(data, tag_at)[0], bool(data[tag_at + 8] & 1), bytes(data[route_at:end])
