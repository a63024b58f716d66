"""ScanningProtocol: what the bytes of a connection arrive in; the deliveries are taken out before aiormq reads."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from rabbitray.actors.router.intake.scanner import HEAD_BYTES, Scanner, Stop

READ_BYTES: Final = 256 * 1024
SIGN_OF_LIFE_S: Final = 1.0
_HEARTBEAT: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"
_KINDS: Final = frozenset({1, 2, 3, 8})  # of frames


class ScanningProtocol(asyncio.StreamReaderProtocol, asyncio.BufferedProtocol):
    """The protocol of a StreamReader, for whole frames: those of the deliveries of one channel go to a Scanner instead.

    Bytes that are no frames are the reader's, as they come. aiormq drops a connection of which it sees no frame for a
    while, whatever its bytes bring. So while bytes come and none is aiormq's, it reads a heartbeat every
    `sign_of_life_s` seconds, which is what they are.
    """

    def __init__(self, reader: asyncio.StreamReader, *, sign_of_life_s: float = SIGN_OF_LIFE_S) -> None:
        super().__init__(reader, loop=asyncio.get_running_loop())
        self._reader = reader
        self._sign_of_life_s = sign_of_life_s
        self._data = bytearray(READ_BYTES)
        self._view = memoryview(self._data)
        self._have = 0  # bytes that are there and not used
        self._into_body = False  # the bytes that come now go into the scanner's room
        self._scanner: Scanner | None = None
        self._no_frames = False
        self._ended = False
        self._writing: asyncio.Future[None] | None = None  # what was spooled
        self._passed_at = time.monotonic()  # when the reader got something last

    def watch(self, scanner: Scanner) -> None:
        """Begins to take deliveries."""
        self._scanner = scanner

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        assert isinstance(transport, asyncio.Transport)
        self._read_from = transport
        super().connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        room = self._scanner.room() if self._scanner is not None and not self._have else None
        self._into_body = room is not None
        if room is not None:
            return room
        if self._have == len(self._data):  # one frame has more
            self._data = self._data + bytes(self._have)
            self._view = memoryview(self._data)
        return self._view[self._have :]

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes are there."""
        if self._into_body:
            assert self._scanner is not None
            behind = self._scanner.filled(nbytes)
            self._view[: len(behind)] = behind
            nbytes = len(behind)
        self._have += nbytes
        if self._writing is None:
            self._use()

    def eof_received(self) -> bool | None:
        """Nothing more comes."""
        self._pass(0, self._have)
        self._end()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._end()
        super().connection_lost(exc)

    def _end(self) -> None:
        """Of a delivery that is not whole nothing is kept."""
        self._ended, self._have = True, 0
        if self._scanner is not None:
            self._scanner.give_up()

    # frames

    def _use(self) -> None:
        """Takes and passes on what is whole; keeps the rest."""
        try:
            at = self._use_frames()
        except ConnectionError as error:
            self._end()
            self._reader.set_exception(error)
            self._read_from.abort()
            return
        if at:
            self._have -= at
            self._view[: self._have] = self._view[at : at + self._have]

    def _use_frames(self) -> int:
        """Where it stopped."""
        at = 0
        while not self._no_frames:
            if self._scanner is not None:
                at, stop = self._scanner.scan(self._data, at, self._have)
                if stop is Stop.SPOOLED:
                    self._write(self._scanner)
                    return at
                if stop is Stop.MORE:
                    self._show_life()
                    return at
            end = self._frame_end(at)
            if end > self._have:
                return at
            self._pass(at, end)
            at = end
        self._pass(at, self._have)
        return self._have

    def _frame_end(self, at: int) -> int:
        """Where the frame ends that begins at `at`: behind what is there, as long as that is not known."""
        if at < self._have and self._data[at] not in _KINDS:
            self._no_frames = True
            return at
        if self._have - at < HEAD_BYTES:
            return self._have + 1
        return at + HEAD_BYTES + 1 + int.from_bytes(self._data[at + 3 : at + HEAD_BYTES], "big")

    def _pass(self, at: int, end: int) -> None:
        if end > at:
            self._reader.feed_data(self._view[at:end])
            self._passed_at = time.monotonic()

    def _show_life(self) -> None:
        if (now := time.monotonic()) - self._passed_at > self._sign_of_life_s:
            self._passed_at = now
            self._reader.feed_data(_HEARTBEAT)

    # what is spooled

    def _write(self, scanner: Scanner) -> None:
        """Reads on when what was spooled is in its file."""
        self._read_from.pause_reading()
        body, pieces = scanner.to_write()
        self._writing = asyncio.get_running_loop().run_in_executor(None, body.write, pieces)
        self._writing.add_done_callback(lambda _: self._written(scanner))

    def _written(self, scanner: Scanner) -> None:
        self._writing = None
        if self._ended:
            return
        scanner.written()
        self._use()
        if self._writing is None:
            self._read_from.resume_reading()
