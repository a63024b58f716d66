"""Stops a process as a debugger would: from the return on, none of its threads runs until SIGCONT."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.kit.eventually import eventually_sync


def stop(pid: int) -> None:
    """SIGSTOP, and waits for it: on a busy machine a thread may go on for long enough to answer a question."""
    os.kill(pid, signal.SIGSTOP)
    eventually_sync(lambda: all(map(_stands, Path(f"/proc/{pid}/task").iterdir())))


def _stands(task: Path) -> bool:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"
    except FileNotFoundError:  # a thread that ended meanwhile
        return True
