"""What `rabbitray publish` reads: jobs in parts, from JSON lines or a generator, never the whole input in memory."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.wire import REPORT_CODES, TypeCodes, parse_line

CHUNK_BYTES: Final = 256 * 1024
CHUNKS_AHEAD: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """A line that is no job: its number, from 1, and why."""

    number: int
    reason: str


@dataclass(slots=True, kw_only=True)
class Chunk:
    """Some jobs in order, the bad lines between them, and how many bytes of input they were."""

    jobs: list[Job] = field(default_factory=list)
    bad: list[BadLine] = field(default_factory=list)
    size: int = 0


class LineReader:
    """Bytes -> parts of jobs. A line longer than `most_bytes` is bad and is not kept. Pure.

    `strict`: what comes after the first bad line is not read.
    """

    def __init__(self, most_bytes: int, *, strict: bool = False, codes: TypeCodes = REPORT_CODES) -> None:
        self._most = most_bytes
        self._codes = codes
        self._strict = strict
        self._rest = bytearray()  # of a line that has not ended: only its end is looked for in what comes
        self._skipping = False
        self._number = 0

    def feed(self, data: bytes) -> Chunk:
        """The jobs of the lines that end in `data`."""
        *whole, rest = data.split(b"\n")
        part = Chunk(size=len(data))
        for line in whole:
            self._take(self._ended(line), part)
            if self._strict and part.bad:
                break
        self._rest += rest
        if len(self._rest) > self._most:
            self._ended(b"")
            self._skipping = True
        return part

    def _ended(self, last: bytes) -> bytes:
        """The line of which `last` is the end; the next one begins."""
        if not self._rest:
            return last
        line = bytes(self._rest) + last
        self._rest = bytearray()
        return line

    def end(self) -> Chunk:
        """The last line, where the input does not end with a newline."""
        part = Chunk()
        if self._rest or self._skipping:
            self._take(self._ended(b""), part)
        return part

    def _take(self, line: bytes, part: Chunk) -> None:
        self._number += 1
        too_long, self._skipping = self._skipping or len(line) > self._most, False
        if too_long:
            part.bad.append(BadLine(number=self._number, reason=f"longer than {self._most:,} bytes"))
            return
        if not line.strip():
            return
        try:
            part.jobs.append(parse_line(line, codes=self._codes))
        except (DecodeError, ValueError) as error:  # ValueError: a field that no job can have
            part.bad.append(BadLine(number=self._number, reason=str(error)))


async def from_lines(
    stream: BinaryIO, most_bytes: int, *, strict: bool = False, codes: TypeCodes = REPORT_CODES
) -> AsyncIterator[Chunk]:
    """Parts of what `stream` gives, as soon as it gives it: a slow pipe holds nothing back.

    `strict`: ends with the part of the first bad line, less what comes after that line.
    """
    reader = LineReader(most_bytes, strict=strict, codes=codes)
    async for data in _chunks(stream):
        part = reader.feed(data) if data else reader.end()
        yield part
        if strict and part.bad:
            return


async def generated(jobs: Iterator[Job], size: int) -> AsyncIterator[Chunk]:
    """Parts of `size` jobs."""
    while some := list(itertools.islice(jobs, size)):
        yield Chunk(jobs=some, size=len(some))


async def _chunks(stream: BinaryIO) -> AsyncIterator[bytes]:
    """What is there to read, from a thread of its own; an empty chunk at the end.

    A daemon thread: an executor's could not be left behind while it waits for standard input.
    """
    loop = asyncio.get_running_loop()
    ahead: asyncio.Queue[bytes | Exception] = asyncio.Queue(CHUNKS_AHEAD)

    def hand_over(data: bytes | Exception) -> bool:
        if loop.is_closed():
            return False
        with contextlib.suppress(CancelledError):  # the command has ended: nobody wants the rest
            asyncio.run_coroutine_threadsafe(ahead.put(data), loop).result()
            return True
        return False

    def read() -> None:
        try:
            while (data := _some(stream)) and hand_over(data):
                pass
            hand_over(b"")
        except Exception as error:  # noqa: BLE001 # whatever it is, the reader of the queue raises it
            hand_over(error)

    threading.Thread(target=read, name="read-lines", daemon=True).start()
    while True:
        data = await ahead.get()
        if isinstance(data, Exception):
            raise data
        yield data
        if not data:
            return


def _some(stream: BinaryIO) -> bytes:
    read1 = getattr(stream, "read1", None)  # a buffered stream gives what there is, without waiting for more
    data: bytes = read1(CHUNK_BYTES) if read1 is not None else stream.read(CHUNK_BYTES)
    return data
