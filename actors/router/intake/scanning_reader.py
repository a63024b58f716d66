"""ScanningReader: what aiormq reads a connection's bytes from, once the deliveries are taken out of them."""

from __future__ import annotations

import asyncio
import time

from rabbitray.actors.router.intake.scanner import Scanner, Stop

READ_BYTES = 256 * 1024
SIGN_OF_LIFE_S = 1.0
_HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"


class ScanningReader:
    """A StreamReader whose deliveries of one channel go to a Scanner instead.

    aiormq drops a connection of which it sees no frame for a while, whatever its bytes bring. So while bytes come and
    none is aiormq's, it reads a heartbeat every `sign_of_life_s` seconds, which is what they are.
    """

    def __init__(self, reader: asyncio.StreamReader, *, sign_of_life_s: float = SIGN_OF_LIFE_S) -> None:
        self._reader = reader
        self._sign_of_life_s = sign_of_life_s
        self._data = bytearray()
        self._at = 0  # what lies before was used
        self._step = 0  # aiormq reads a frame in three steps; only before the first one may be scanned
        self._eof = False
        self._scanner: Scanner | None = None
        self._beat = b""  # what aiormq reads next, before any byte of the connection
        self._passed_at = time.monotonic()

    def watch(self, scanner: Scanner) -> None:
        """Begins to take deliveries."""
        self._scanner = scanner

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
        if self._step == 0 and self._scanner is not None:
            await self._take_deliveries(self._scanner)
        self._step = (self._step + 1) % 3
        if self._beat:
            beat, self._beat = self._beat[:count], self._beat[count:]
            return beat
        while len(self._data) - self._at < count:
            if not await self._more():
                raise asyncio.IncompleteReadError(self._cut(len(self._data)), count)
        return self._cut(self._at + count)

    async def _take_deliveries(self, scanner: Scanner) -> None:
        """Takes deliveries until a frame of aiormq's stands at the front, or it must see one."""
        try:
            await self._scan_all(scanner)
        except BaseException:
            scanner.give_up()  # nobody reads on
            raise
        if self._eof:
            scanner.give_up()

    async def _scan_all(self, scanner: Scanner) -> None:
        while True:
            self._at, stop = scanner.scan(self._data, self._at)
            if stop is Stop.OTHER:
                self._passed_at = time.monotonic()
                return
            if stop is Stop.SPOOLED:
                await asyncio.get_running_loop().run_in_executor(None, scanner.flush)
                scanner.flushed()
            elif not await self._more():
                return
            elif (now := time.monotonic()) - self._passed_at > self._sign_of_life_s:
                self._passed_at, self._beat = now, _HEARTBEAT
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
