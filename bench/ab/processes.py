"""CPU of the processes of one round, by role, from /proc.

A process of the round is a descendant of its first one, or has the round's mark in its environment, which it keeps when
its parent ends before it. Roles go by the title, which Ray sets to the class of the actor; they are the same for
commits whose classes are named otherwise.
"""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MARK: Final = "BENCH_AB_ROUND"
NOT_COUNTED: Final = ("ray", "broker")
"""Roles that stand beside the sum: no code of either side runs in them."""

ROLES: Final = (
    ("ray::ConsumerRouter", "router"),
    ("ray::Router", "router"),
    ("ray::PoolWorker", "worker"),
    ("ray::Worker", "worker"),
    ("ray::ResultStore", "store"),
    ("ray::Store", "store"),
    ("ray::Autoscaler", "autoscaler"),
    ("ray::", "ray"),
    ("ray-", "ray"),
)
_RAYS_OWN: Final = ("/ray/core/src/ray/", "/ray/dashboard/", "/ray/autoscaler/", "/ray/_private/", "'ray.dashboard")
_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_ENDS_WITHIN_S: Final = 15.0
_REST_WITHIN_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A process at one look; `started` tells it from a later one with its pid."""

    pid: int
    parent: int
    started: int
    cpu_s: float

    @property
    def key(self) -> tuple[int, int]:
        """Of this very process."""
        return self.pid, self.started


def role(title: str) -> str:
    """By the process title; `bench` for what has none of the known ones: what runs the round, and publishes."""
    for prefix, name in ROLES:
        if title.startswith(prefix):
            return name
    return "ray" if any(part in title for part in _RAYS_OWN) else "bench"


class Tree:
    """All processes of a round, as far as they were seen; `extra`: others to count, by role, e.g. the broker."""

    def __init__(self, root: int, mark: str, extra: Mapping[str, int]) -> None:
        self._root = root
        self._mark = f"{MARK}={mark}".encode()
        self._extra = dict(extra)
        self._cpu_s: dict[tuple[int, int], float] = {}
        self._roles: dict[tuple[int, int], str] = {}

    def look(self) -> dict[tuple[int, int], float]:
        """CPU seconds of each process until now, or until it was seen last."""
        now = processes()
        for pid in self._members(now):
            one = now[pid]
            self._cpu_s[one.key] = one.cpu_s
            self._roles[one.key] = role(_title(pid))
        for name, pid in self._extra.items():
            if pid in now:
                self._cpu_s[now[pid].key] = now[pid].cpu_s
                self._roles[now[pid].key] = name
        return dict(self._cpu_s)

    def spent_s(self, before: Mapping[tuple[int, int], float]) -> dict[str, float]:
        """CPU seconds by role since an earlier look; each process has the role that it was seen in last."""
        spent: dict[str, float] = defaultdict(float)
        for key, cpu_s in self.look().items():
            spent[self._roles[key]] += cpu_s - before.get(key, 0.0)
        return dict(spent)

    def end(self) -> None:
        """Ends every process of the round that is left: the first one is asked, and given 15 s; the rest has 1 s."""
        self._signal(signal.SIGINT, only=self._root)
        self.wait_for_root(_ENDS_WITHIN_S)
        _until(lambda: not self.living(), _REST_WITHIN_S)
        self._signal(signal.SIGKILL)

    def wait_for_root(self, within_s: float) -> None:
        """Until the round's first process has ended, which ends the others in order."""
        _until(lambda: self._root not in self.living(), within_s)

    def living(self) -> list[int]:
        """Process ids of the round that are there, zombies left out."""
        self.look()
        own = {key for key, name in self._roles.items() if name not in self._extra}
        return [one.pid for one in processes().values() if one.key in own]

    def _signal(self, number: int, only: int | None = None) -> None:
        for pid in self.living():
            if only in (None, pid):
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue

    def _members(self, now: Mapping[int, Seen]) -> Iterator[int]:
        children: dict[int, list[int]] = defaultdict(list)
        for one in now.values():
            children[one.parent].append(one.pid)
        known = {pid for pid, one in now.items() if one.key in self._cpu_s and pid not in self._extra.values()}
        marked = {pid for pid in now if pid != os.getpid() and self._marked(pid)}
        found, waiting = set[int](), [self._root, *known, *marked]
        while waiting:
            pid = waiting.pop()
            if pid in now and pid not in found:
                found.add(pid)
                waiting += children[pid]
        yield from found

    def _marked(self, pid: int) -> bool:
        try:
            return self._mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:  # ended meanwhile, or somebody else's
            return False


def _until(condition: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


def processes() -> dict[int, Seen]:
    """Every process of the machine but zombies, by pid."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (one := _read(int(name))):
            found[one.pid] = one
    return found


def _read(pid: int) -> Seen | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    if fields[0] == "Z":
        return None
    cpu_s = (int(fields[11]) + int(fields[12])) * _TICK_S
    return Seen(pid=pid, parent=int(fields[1]), started=int(fields[19]), cpu_s=cpu_s)


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
