"""Snapshot: what the results file and its log held at one commit. Pure.

DuckDB writes nothing that a checkpoint has written before the next one begins: new rows go to the end of the log, or
into blocks that nothing leads to. So what the file and its log held at a commit, cut to the lengths that they had, is
whole until the next checkpoint begins, and says what was committed until then.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A file at one moment: where it lies, and how many bytes of it count."""

    device: int
    inode: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The file at one commit; `log` None: it had none. Two of one `serial` are the same."""

    serial: int
    file: Place
    log: Place | None
