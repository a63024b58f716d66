"""CPU and memory of processes, from the kernel's books."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

MB = 1_000_000


def cpu_s(pid: int) -> float:
    """CPU seconds (user and system) that the process has used."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def tree_cpu_s(pid: int) -> float:
    """As `cpu_s`, with all children of the process that live."""
    process = psutil.Process(pid)
    return sum(cpu_s(one.pid) for one in [process, *process.children(recursive=True)])


def private_mb(pid: int) -> float:
    """Memory that would be free if the process ended (USS), in MB: without what processes share."""
    return float(psutil.Process(pid).memory_full_info().uss) / MB


def resident_mb(pid: int) -> float:
    """Memory of the process with what it shares (RSS), in MB."""
    return float(psutil.Process(pid).memory_info().rss) / MB


def peak_mb(pid: int) -> float:
    """The largest RSS that the process ever had, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    peak_kib = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(peak_kib) * 1024 / MB


def load_average() -> float:
    """The machine's load over the last minute: what else is going on beside a bench."""
    return round(os.getloadavg()[0], 2)


class CpuMeter:
    """CPU of groups of processes since it was made."""

    def __init__(self, groups: Mapping[str, Iterable[int]]) -> None:
        self._groups = {name: list(pids) for name, pids in groups.items()}
        self._began = time.monotonic()
        self._before = self._now()

    def seconds(self) -> dict[str, float]:
        """CPU seconds of each group."""
        now = self._now()
        return {name: now[name] - self._before[name] for name in now}

    def percent(self) -> dict[str, float]:
        """CPU of each group in percent of one core."""
        elapsed_s = time.monotonic() - self._began
        return {name: 100 * spent / elapsed_s for name, spent in self.seconds().items()}

    def _now(self) -> dict[str, float]:
        return {name: sum(cpu_s(pid) for pid in pids) for name, pids in self._groups.items()}
