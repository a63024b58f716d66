"""Tells a cancellation of our own task from one that a library throws into whatever waits on it."""

from __future__ import annotations

import asyncio


def thrown_in(error: BaseException) -> bool:
    """Whether this CancelledError was thrown by aiormq, which does so when it gives a connection up (no heartbeat
    came): nobody has cancelled our task then."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() == 0
