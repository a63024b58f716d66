"""Ends a running task with an exception that it does not expect, wherever it waits."""

from __future__ import annotations

import asyncio
from typing import Any


class UnexpectedError(Exception):
    """Of no family that anybody catches by name."""


def kill_task(name: str, error: Exception) -> None:
    """Raises `error` inside the task of that name, at the innermost place where it waits."""
    (waiting,) = [task for task in asyncio.all_tasks() if task.get_name() == name]
    waits_for: Any = waiting
    while isinstance(waits_for, asyncio.Task):
        waits_for = waits_for._fut_waiter  # type: ignore[attr-defined] # asyncio has no public name for it
    assert waits_for is not None, f"{name} does not wait"
    waits_for.set_exception(error)
