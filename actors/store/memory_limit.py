"""GrowthLimit: by how much this process may grow while queries run.

DuckDB's `memory_limit` knows tables, sorts and joins, not one value that a function makes: text that is doubled thirty
times in a recursive query takes gigabytes, and an interrupt is only looked at between chunks of rows. So while a query
runs, the kernel bounds the process itself: `RLIMIT_DATA`, whose soft limit may be raised again, counts what is private
and writable, not Ray's shared memory. An allocation beyond it fails, and DuckDB ends the statement that asked for it.
"""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

MIB = 1024 * 1024


class ProcessMemory(Protocol):
    """What is known of, and set for, the process's private memory, in bytes. `limit` None: none."""

    def taken(self) -> int: ...

    def limit(self) -> int | None: ...

    def set_limit(self, limit: int | None) -> None: ...


class OwnMemory:
    """Of this process, by Linux."""

    def taken(self) -> int:
        """What `RLIMIT_DATA` counts: private writable memory, used or not."""
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmData:")[1].split()[0]) * 1024

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

    def __init__(self, memory: ProcessMemory) -> None:
        self._memory = memory
        self._lock = threading.Lock()
        self._held = 0
        self._before: int | None = None

    @contextmanager
    def holding(self, growth: int) -> Iterator[None]:
        """From the first to the last `with` block at a time the process takes at most `growth` bytes more than at the
        first one's begin.
        """
        with self._lock:
            if not self._held:
                self._lower(growth)
            self._held += 1
        try:
            yield
        finally:
            with self._lock:
                self._held -= 1
                if not self._held:
                    self._memory.set_limit(self._before)

    def _lower(self, growth: int) -> None:
        self._before = self._memory.limit()
        wanted = self._memory.taken() + growth
        if self._before is None or wanted < self._before:
            self._memory.set_limit(wanted)


OWN_PROCESS = GrowthLimit(OwnMemory())
"""The one owner of this process's limit: of two each would take the other's for what was there before."""
