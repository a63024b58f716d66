"""GrowthLimit: by how much this process may grow while queries run.

DuckDB's `memory_limit` knows tables, sorts and joins, not one value that a function makes: text that is doubled thirty
times in a recursive query takes gigabytes, and an interrupt is only looked at between chunks of rows. So while a query
runs, the process itself is bounded, twice. Above `most`, the queries are interrupted: that ends what grows bit by bit.
At `reserve` above it the kernel refuses memory (`RLIMIT_DATA`, whose soft limit may be raised again; it counts what is
private and writable, not Ray's shared memory): that ends what is large at once, and DuckDB tells the statement so. A
process to which the kernel refuses even small pieces does not live long: hence the first bound.
"""

from __future__ import annotations

import logging
import resource
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from rabbitray.actors.telemetry.rate_limit import LogThrottle

log = logging.getLogger(__name__)

MIB = 1024 * 1024
_LOOK_EVERY_S = 0.01  # DuckDB takes some 10 MiB in that time


class ProcessMemory(Protocol):
    """What is known of, and set for, the process's private memory, in bytes. `limit` None: none."""

    def taken(self) -> int: ...

    def limit(self) -> int | None: ...

    def set_limit(self, limit: int | None) -> None: ...


class OwnMemory:
    """Of this process, by Linux."""

    def taken(self) -> int:
        """What `RLIMIT_DATA` counts, private writable memory, used or not; and the first thread's stack."""
        return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()

    def limit(self) -> int | None:
        """The soft limit."""
        soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
        return None if soft == resource.RLIM_INFINITY else soft

    def set_limit(self, limit: int | None) -> None:
        """Sets the soft limit, which may be at most the hard one."""
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY if limit is None else limit, hard))


class GrowthLimit:
    """The limit of one process: the first query that begins lowers it, the last one that ends raises it again.

    Thread-safe. A limit that is lower already, somebody else's, stays.
    """

    def __init__(self, memory: ProcessMemory, look_every_s: float = _LOOK_EVERY_S) -> None:
        self._memory = memory
        self._look_every_s = look_every_s
        self._lock = threading.Lock()
        self._interrupts: list[Callable[[], None]] = []  # one for each holder
        self._most = 0
        self._before: int | None = None
        self._ended = threading.Event()  # the last holder of this stretch has ended
        self._failed_line = LogThrottle()

    @contextmanager
    def holding(self, growth: int, reserve: int, interrupt: Callable[[], None]) -> Iterator[None]:
        """From the first to the last `with` block at a time: `interrupt` is called, again and again, from another
        thread, while the process has grown by more than `growth` bytes since the first one began; and by
        more than `growth + reserve` it does not grow.
        """
        with self._lock:
            if not self._interrupts:
                self._begin(growth, reserve)
            self._interrupts.append(interrupt)
        try:
            yield
        finally:
            with self._lock:
                self._interrupts.remove(interrupt)
                if not self._interrupts:
                    self._memory.set_limit(self._before)
                    self._ended.set()

    def _begin(self, growth: int, reserve: int) -> None:
        self._ended = threading.Event()
        watcher = threading.Thread(target=self._watch, args=[self._ended], name="query-memory", daemon=True)
        watcher.start()  # before there is a limit: a thread needs memory
        self._before = self._memory.limit()
        self._most = self._memory.taken() + growth
        if self._before is None or self._most + reserve < self._before:
            self._memory.set_limit(self._most + reserve)

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(self._look_every_s):
            try:
                for interrupt in self._due():
                    interrupt()
            except Exception:  # a MemoryError, say, by the limit itself: the next look is all the more needed
                if self._failed_line.due():
                    log.exception("By how much queries let the process grow could not be looked at, it is tried again")

    def _due(self) -> Sequence[Callable[[], None]]:
        """Those to interrupt now."""
        with self._lock:
            return tuple(self._interrupts) if self._memory.taken() > self._most else ()


OWN_PROCESS = GrowthLimit(OwnMemory())
"""The one owner of this process's limit: of two each would take the other's for what was there before."""
