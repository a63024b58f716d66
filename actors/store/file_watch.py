"""FileWatch: whether the results file is still the one that DuckDB opened, and still holds what DuckDB wrote.

DuckDB does not notice when somebody moves, removes, replaces, cuts off or overwrites its file: commits go on and say
nothing. So the file is looked at before and after each commit: by `stat`, and by reading its header through the
descriptor that DuckDB itself has open. It is never opened here: closing it again would drop DuckDB's lock.

What is known of DuckDB 2.0 (tried): the file starts with three blocks of 4 KiB; the first one stays as it was made, the
other two are written in turn, one by each checkpoint, which counts them. Only a checkpoint makes the
file smaller, and only after it has written its block is the log removed or made anew; until then both only grow.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

import duckdb

log = logging.getLogger(__name__)

BLOCK = 4096
_HEAD = 3 * BLOCK


class Fault(Enum):
    """What befell the file. The log alone can be made good: DuckDB still has its rows in memory."""

    ELSEWHERE = "elsewhere"  # no file, or another one, at the path: what DuckDB writes goes where nobody looks
    DAMAGED = "damaged"
    LOG_LOST = "log_lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A fault, and what is wrong in words."""

    fault: Fault
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The file at one moment. `file` and `log` as (device, inode, bytes); None where there is none at the path.

    `head`: its first 12 KiB; empty where DuckDB's descriptor cannot be found, and then less is known.
    """

    file: tuple[int, int, int] | None
    log: tuple[int, int, int] | None
    head: bytes = b""

    @property
    def log_bytes(self) -> int:
        """Length of the log."""
        return 0 if self.log is None else self.log[2]

    @property
    def checkpoints(self) -> tuple[int, int]:
        """Where the two blocks of the head stand."""
        first, second = (self.head[at + 8 : at + 16] for at in (BLOCK, 2 * BLOCK))
        return int.from_bytes(first, "little"), int.from_bytes(second, "little")


def compare(before: Seen, now: Seen) -> Finding | None:
    """What befell the file between two looks, with one commit between them at most; None where all is well."""
    if now.file is None:
        return Finding(fault=Fault.ELSEWHERE, what="was moved away or removed")
    if before.file is None or now.file[:2] != before.file[:2]:
        return Finding(fault=Fault.ELSEWHERE, what="was replaced by another file")
    if now.file[2] < _HEAD:
        return Finding(fault=Fault.DAMAGED, what=f"was cut off or overwritten: it has {now.file[2]:,} bytes")
    if not before.head or not now.head:
        return None
    if before.head != now.head:
        return _after_a_checkpoint(before, now)
    if now.file[2] < before.file[2]:
        return Finding(fault=Fault.DAMAGED, what=f"was cut off, from {before.file[2]:,} to {now.file[2]:,} bytes")
    if before.log is None or (now.log and now.log[:2] == before.log[:2] and now.log[2] >= before.log[2]):
        return None
    return Finding(fault=Fault.LOG_LOST, what="has lost its write-ahead log, which was removed, replaced or cut off")


def _after_a_checkpoint(before: Seen, now: Seen) -> Finding | None:
    """The head differs: by one or two checkpoints of DuckDB's, or by somebody else's hand."""
    made = max(now.checkpoints) - max(before.checkpoints)
    changed = [now.head[at : at + BLOCK] != before.head[at : at + BLOCK] for at in (0, BLOCK, 2 * BLOCK)]
    if not changed[0] and len(now.head) == _HEAD and (made, sum(changed)) in ((1, 1), (2, 2)):
        return None
    return Finding(fault=Fault.DAMAGED, what="was overwritten by somebody else")


class FileWatch:
    """The file as it was at the last look. One thread."""

    def __init__(self, path: Path, log: Path) -> None:
        self._path = path
        self._log = log
        self._descriptor = _descriptor_of(path)
        self._last = self._see()
        self._damage: Finding | None = None

    def look(self) -> Finding | None:
        """What befell the file since the last look at which all was well. Damage stays: whatever lies there later, it
        is not what DuckDB remembers. Takes 10 us.
        """
        if self._damage is not None:
            return self._damage
        try:
            now = self._see()
        except OSError as error:
            return Finding(fault=Fault.ELSEWHERE, what=f"cannot be seen ({error.strerror})")
        found = compare(self._last, now)
        if found is None:
            self._last = now
        elif found.fault is Fault.DAMAGED:
            self._damage = found
        return found

    @property
    def seen(self) -> Seen:
        """The file at the last look at which all was well."""
        return self._last

    def why_not(self, checkpoint: Callable[[], None]) -> str:
        """One line: what is wrong and what to do; empty where nothing is. The rows of a lost log go from memory into
        the file itself, by a checkpoint of the connection that has it open.
        """
        found = self.look()
        if found is not None and found.fault is Fault.LOG_LOST:
            try:
                checkpoint()
            except duckdb.Error as error:
                found = replace(found, what=f"{found.what}, and its rows cannot be put into it ({error})")
            else:
                log.warning("The results file %s %s; a checkpoint has put its rows into it", self._path, found.what)
                self._last, found = self._see(), None
        return "" if found is None else in_words(self._path, found)

    def _see(self) -> Seen:
        log, file = _stat(self._log), _stat(self._path)
        return Seen(log=log, file=file, head=self._head())  # in this order: the log goes when the head has been written

    def _head(self) -> bytes:
        return b"" if self._descriptor is None else os.pread(self._descriptor, _HEAD, 0)


def in_words(path: Path, found: Finding) -> str:
    """One line: what is wrong, and what to do."""
    said = f"the results file {path} {' '.join(found.what.split())}: nothing is acknowledged any more; "
    if found.fault is Fault.DAMAGED:
        return said + "stop the pool, keep what is left of it, and start with a copy or another file"
    return said + f"put it back; until the pool stops its bytes are in /proc/{os.getpid()}/fd"


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        seen = os.stat(path)
    except FileNotFoundError:
        return None
    return seen.st_dev, seen.st_ino, seen.st_size


def _descriptor_of(path: Path) -> int | None:
    """The descriptor under which this process has the file open; None where the system does not list them."""
    wanted = os.stat(path)
    try:
        listed = os.listdir("/proc/self/fd")
    except OSError:
        return None
    for name in listed:
        try:
            seen = os.stat(int(name))
        except OSError:  # the one of this listing
            continue
        if (seen.st_dev, seen.st_ino) == (wanted.st_dev, wanted.st_ino):
            return int(name)
    return None
