"""What runs on this machine: workers with their CPU and memory, and whether a node of a Ray cluster does."""

from __future__ import annotations

from collections.abc import Iterable

import psutil

from rabbitray.actors.message.reply import Usage

TITLE = "PoolWorker"


class LocalUsage:
    """Reads processes by pid; CPU is measured from one reading to the next.

    A pid of another machine may belong to anybody here: only a process that calls itself a PoolWorker counts.
    """

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}

    def read(self, pids: Iterable[int]) -> dict[int, Usage]:
        """The usage of those that are here; the first reading of a process gives 0 % CPU."""
        found: dict[int, Usage] = {}
        known: dict[int, psutil.Process] = {}
        for pid in pids:
            try:
                process = self._known.get(pid) or _worker(pid)
                if process is not None:
                    known[pid] = process
                    found[pid] = Usage(cpu_percent=process.cpu_percent(None), rss_bytes=process.memory_info().rss)
            except psutil.Error:  # it has ended, is not here, or is not ours to see
                continue
        self._known = known
        return found


def raylet_here() -> bool:
    """Whether a node of a Ray cluster runs on this machine."""
    return any(process.info["name"] == "raylet" for process in psutil.process_iter(["name"]))


def _worker(pid: int) -> psutil.Process | None:
    process = psutil.Process(pid)
    return process if TITLE in " ".join(process.cmdline()) else None
