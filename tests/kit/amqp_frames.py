"""The frames of deliveries as a broker writes them, and what a scanner makes of bytes that come in pieces."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pamqp.frame
from pamqp import body, commands, header
from pamqp.exceptions import PAMQPException

from rabbitray.actors.message.wire import MessageLimits
from rabbitray.actors.router.intake.scanner import DELIVER, Scanned, Scanner, Stop
from rabbitray.actors.router.intake.scanning_protocol import ScanningProtocol
from rabbitray.actors.router.spool import Spool

CHANNEL = 1
LIMITS = MessageLimits(max_message_bytes=200, max_header_bytes=100)


def frames(
    tag: int,
    content: bytes,
    properties: commands.Basic.Properties | None = None,
    *,
    channel: int = CHANNEL,
    step: int = 131_064,
    consumer: str = "consumer-1",
) -> list[bytes]:
    """The frames of one delivery; its body in pieces of `step` bytes."""
    found = [
        commands.Basic.Deliver(consumer, tag, tag % 2 == 1, "exchange", "key"),
        header.ContentHeader(body_size=len(content), properties=properties or commands.Basic.Properties()),
        *(body.ContentBody(content[at : at + step]) for at in range(0, len(content), step)),
    ]
    return [pamqp.frame.marshal(frame, channel) for frame in found]


def told(found: Scanned) -> tuple[str, int, bool]:
    """What a delivery's method says: consumer, tag, redelivered."""
    return found.consumer_tag, found.delivery_tag, found.redelivered


def spooled_bytes(found: Scanned) -> bytes:
    """The body of a delivery, wherever it is."""
    return found.body if found.spooled is None else found.spooled.read(0, found.spooled.size)


@dataclass(slots=True)
class Read:
    """What came out of a stream: deliveries, the bytes that were left for aiormq, and what ended it, if anything."""

    taken: list[Scanned] = field(default_factory=list)
    left: bytes = b""
    error: Exception | None = None

    @property
    def bodies(self) -> list[tuple[int, bytes]]:
        """Tag and body of each delivery."""
        return [(found.delivery_tag, spooled_bytes(found)) for found in self.taken]


def scanned(chunks: Iterable[bytes], *, limits: MessageLimits = LIMITS, folder: Path | None = None) -> Read:
    """What a scanner makes of a stream that comes in these pieces, its other frames read by their lengths."""
    read, data = Read(), bytearray()
    scanner = Scanner(CHANNEL, read.taken.append, limits=limits, spool=Spool(folder))
    try:
        for chunk in chunks:
            data += chunk
            del data[: _scan(scanner, data, read)]
    except ConnectionError as error:
        read.error = error
    return read


def _scan(scanner: Scanner, data: bytearray, read: Read) -> int:
    at = 0
    while True:
        at, stop = scanner.scan(data, at, len(data))
        if stop is Stop.SPOOLED:
            spooled, pieces = scanner.to_write()
            spooled.write(pieces)
            scanner.written()
        elif stop is Stop.MORE:
            return at
        else:
            end = at + 8 + int.from_bytes(data[at + 3 : at + 7], "big")
            if end > len(data):
                return at
            read.left += data[at:end]
            at = end


class Source(asyncio.Transport):
    """The transport of a ScanningProtocol, which a test gives the bytes. `reads`: cleared while it must not."""

    def __init__(self, scanner: Scanner | None = None, *, sign_of_life_s: float = 1.0) -> None:
        super().__init__()
        self.reader = asyncio.StreamReader()
        self.protocol = ScanningProtocol(self.reader, sign_of_life_s=sign_of_life_s)
        self.protocol.connection_made(self)
        self.reads = asyncio.Event()
        self.reads.set()
        self.aborted = False
        self._left = bytearray()
        if scanner is not None:
            self.protocol.watch(scanner)

    def feed(self, chunk: bytes) -> None:
        """These bytes come, as far as the protocol has room for them in as many reads as that takes."""
        self._left += chunk
        while self._left and self.reads.is_set() and not self.aborted:
            room = self.protocol.get_buffer(-1)
            count = min(len(room), len(self._left))
            room[:count] = self._left[:count]
            del self._left[:count]
            self.protocol.buffer_updated(count)

    async def read(self) -> None:
        """Returns when all of them were taken."""
        while not (self.reads.is_set() or self.aborted):
            await self.reads.wait()

    def pause_reading(self) -> None:
        self.reads.clear()

    def resume_reading(self) -> None:
        self.reads.set()
        self.feed(b"")

    def abort(self) -> None:
        self.aborted = True
        self.reads.set()
        self.protocol.connection_lost(None)

    def is_closing(self) -> bool:
        return self.aborted


async def read_through(chunks: Iterable[bytes], *, limits: MessageLimits = LIMITS, folder: Path | None = None) -> Read:
    """The same through a ScanningProtocol, read in aiormq's three steps."""
    read = Read()
    source = Source(Scanner(CHANNEL, read.taken.append, limits=limits, spool=Spool(folder)))
    for chunk in chunks:
        source.feed(chunk)
        await source.read()
    if not source.aborted:
        source.protocol.eof_received()
    reader = source.reader
    try:
        while True:
            head = await reader.readexactly(1)
            head += await reader.readexactly(6)
            read.left += head + await reader.readexactly(int.from_bytes(head[3:7], "big") + 1)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        read.error = error
    return read


def read_fully(stream: bytes) -> Read:
    """What pamqp and aiormq make of a whole stream; it ends where they would close the connection.

    `left` has the frames that belong to no delivery of the channel.
    """
    read = Read()
    begun: list[object] = []
    content = b""
    while len(stream) >= 8 and len(stream) >= (end := 8 + int.from_bytes(stream[3:7], "big")):
        frame, stream = stream[:end], stream[end:]
        try:
            with warnings.catch_warnings(action="ignore"):  # of methods that AMQP has no more
                _, channel, found = pamqp.frame.unmarshal(frame)
        except (PAMQPException, ValueError, TypeError, OverflowError) as error:
            read.error = error
            return read
        if channel != CHANNEL or (not begun and frame[7:11] != DELIVER) or (not begun and frame[0] != 1):
            read.left += frame
            continue
        wanted = (commands.Basic.Deliver, header.ContentHeader, body.ContentBody)[len(begun)]
        if not isinstance(found, wanted):
            read.error = ValueError(f"unexpected {found!r}")
            return read
        if isinstance(found, body.ContentBody):
            content += found.value
        else:
            begun.append(found)
        if len(begun) == 2 and len(content) >= begun[1].body_size:  # type: ignore[attr-defined] # a ContentHeader
            read.taken.append(_delivery(begun, content))
            begun, content = [], b""
    return read


def _delivery(begun: list[object], content: bytes) -> Scanned:
    deliver, head = begun
    assert isinstance(deliver, commands.Basic.Deliver)
    assert isinstance(head, header.ContentHeader)
    tag = (deliver.delivery_tag or 0) % 2**64  # pamqp takes it for signed
    return Scanned(deliver.consumer_tag or "", tag, bool(deliver.redelivered), head.properties, content)


def cut(stream: bytes, sizes: Iterable[int]) -> list[bytes]:
    """The stream in pieces of these sizes, and the rest."""
    pieces = []
    for size in sizes:
        pieces.append(stream[:size])
        stream = stream[size:]
    return [*pieces, stream]


def split(stream: bytes) -> list[bytes]:
    """Whole frames."""
    found = []
    while stream:
        end = 8 + int.from_bytes(stream[3:7], "big")
        found.append(stream[:end])
        stream = stream[end:]
    return found


def agree(read: Read, full: Read) -> None:
    """What both took is the same, and whoever took less said that the bytes are no AMQP."""
    both = min(len(read.taken), len(full.taken))
    assert read.bodies[:both] == full.bodies[:both]
    assert [told(one)[1:] for one in read.taken[:both]] == [told(one)[1:] for one in full.taken[:both]]
    assert len(read.taken) == both or full.error is not None
    assert len(full.taken) == both or read.error is not None
