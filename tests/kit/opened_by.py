"""Which process has a file open: how a test finds the store's process, of which no report speaks."""

from __future__ import annotations

from pathlib import Path

import psutil


def opened_by(path: Path) -> int:
    """The id of the one process that has the file open; AssertionError when there is none, or more than one."""
    pids = [process.pid for process in psutil.process_iter() if str(path) in _files(process)]
    assert len(pids) == 1, f"{path} is open in the processes {pids}"
    return pids[0]


def _files(process: psutil.Process) -> list[str]:
    try:
        return [file.path for file in process.open_files()]
    except psutil.Error:  # it ended meanwhile, or is not ours to look at
        return []
