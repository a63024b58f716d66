"""Takes deliveries out of the bytes of a connection before aiormq makes objects and tasks of their frames. Pure.

aiormq reads each frame with three awaits and puts it through two queues: about 35 us for the three frames of a
message, more than all that we do with it. The scanner takes every delivery of one channel, frame by frame, and leaves
every other frame to aiormq. What it has read of a delivery that has begun is kept, so nothing is read twice, and a body
is in memory once.

A message beyond the limits costs its transfer and no memory: a body goes into a file piece by piece, a header table
is not read. Its delivery says why it is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import Enum

import msgspec

from rabbitray.actors.message.properties.property_list import Properties, read_properties
from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.router.spool import Spool, SpooledBody

FRAME_METHOD, FRAME_HEADER, FRAME_BODY = 1, 2, 3
FRAME_END = 0xCE
DELIVER = b"\x00\x3c\x00\x3c"  # class 60, method 60

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
        self._pieces: list[bytes] = []  # of its body; where that is spooled: what is not written yet
        self._spooled: SpooledBody | None = None

    def scan(self, data: bytearray, at: int) -> tuple[int, Stop]:
        """Takes the whole frames from `at` on; where it stopped, and why.

        After SPOOLED, `flush` must be done before the next scan. Raises ConnectionError for bytes that are no AMQP.
        """
        have, channel, frame_at = len(data), self._channel, _FRAME.unpack_from
        while have - at >= 7:
            kind, number, size = frame_at(data, at)
            if number != channel:
                return at, Stop.OTHER
            start, end = at + 7, at + 7 + size
            if end >= have:
                break
            if data[end] != FRAME_END:
                raise ConnectionError(f"a frame of {size:,} bytes has no end")
            if self._method is None:
                if kind != FRAME_METHOD or data[start : start + 4] != DELIVER:
                    return at, Stop.OTHER
                self._method = _deliver(data, start + 4, end)
            elif self._properties is None:
                self._read_header(kind, data, start, end)
            else:
                self._add(kind, bytes(memoryview(data)[start:end]))
            at = end + 1
            if not self._missing and self._properties is not None:
                if self._spooled is not None:
                    return at, Stop.SPOOLED
                self._finish()
        return at, Stop.SPOOLED if self._pieces and self._spooled is not None else Stop.MORE

    def flush(self) -> None:
        """Writes what is to be spooled; blocks, so a thread does it."""
        body, pieces = self._spooled, self._pieces
        assert body is not None
        self._pieces = []
        body.write(pieces)

    def flushed(self) -> None:
        """`flush` is done: a delivery that is whole is taken."""
        if not self._missing:
            self._finish()

    def give_up(self) -> None:
        """No more bytes come: of a delivery that has begun nothing is kept, here or in a file."""
        self._method = self._properties = self._spooled = None
        self._pieces = []

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

    def _add(self, kind: int, piece: bytes) -> None:
        if kind != FRAME_BODY or len(piece) > self._missing:
            raise ConnectionError(
                f"a frame of kind {kind}, {len(piece):,} bytes, where {self._missing:,} of a body are"
            )
        self._missing -= len(piece)
        self._pieces.append(piece)

    def _finish(self) -> None:
        """Takes the delivery, of which every byte is there."""
        method, properties, pieces, spooled = self._method, self._properties, self._pieces, self._spooled
        assert method is not None
        assert properties is not None
        self._method = self._properties = self._spooled = None
        self._pieces = []
        consumer, tag, redelivered, route = method
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._take(Scanned(consumer, tag, redelivered, properties, body, route, spooled))


def _deliver(data: bytearray, at: int, end: int) -> Method:
    """What `basic.deliver` says, whose arguments begin at `at`."""
    tag_at = at + 1 + data[at]
    route_at = tag_at + 9
    if route_at > end:
        raise ConnectionError("a basic.deliver that ends early")
    consumer = data[at + 1 : tag_at].decode("utf-8", "replace")
    return consumer, _LONG.unpack_from(data, tag_at)[0], bool(data[tag_at + 8] & 1), bytes(data[route_at:end])
