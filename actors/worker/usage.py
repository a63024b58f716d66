"""ProcessUsage: CPU and memory of a worker's process, as it measures them itself."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Protocol

from rabbitray.actors.message.reply import Part, Usage, encode_part
from rabbitray.actors.message.rows import Stream
from rabbitray.actors.worker.meter import WorkerMeter

READ_EVERY_S = 2.0


class MemoryReading(Protocol):
    """What `psutil.Process.memory_info` returns, as far as it is read here."""

    @property
    def rss(self) -> int: ...


class MeasuredProcess(Protocol):
    """A process, as `psutil.Process` shows it. CPU is that since the call before, in percent of one core."""

    def cpu_percent(self, interval: float | None = None) -> float: ...
    def memory_info(self) -> MemoryReading: ...


class ProcessUsage:
    """Reads the usage of one process every few seconds; each reading goes to the router with one part."""

    def __init__(self, process: MeasuredProcess, meter: WorkerMeter | None = None) -> None:
        self._process = process
        self._meter = meter
        self._untold: Usage | None = None

    def begin(self) -> Usage:
        """From here on CPU is measured; memory now."""
        self._process.cpu_percent(None)  # this reading says nothing
        return Usage(cpu_percent=None, rss_bytes=self._process.memory_info().rss)

    def read(self) -> None:
        """One reading: for the next part, and for the metrics."""
        cpu_percent, rss_bytes = self._process.cpu_percent(None), self._process.memory_info().rss
        self._untold = Usage(cpu_percent=cpu_percent, rss_bytes=rss_bytes)
        if self._meter is not None:
            self._meter.look(time.monotonic(), cpu_percent=cpu_percent, rss_bytes=rss_bytes)

    def encoded(self, part: Part, stream: Stream) -> bytes:
        """For the router: the part, the bytes of its rows (`stream`), and the last reading if it is not told yet."""
        part.row_bytes = len(stream)
        part.usage, self._untold = self._untold, None
        return encode_part(part)

    async def run(self, ended: asyncio.Event) -> None:
        """Reads every few seconds until `ended`, and once more then."""
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):  # the ordinary case: it goes on
                await asyncio.wait_for(ended.wait(), READ_EVERY_S)
            self.read()
