"""Waiting for a condition with a deadline: what the tests use where others sleep."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_FIRST_WAIT_S = 0.005
_LONGEST_WAIT_S = 0.1


async def eventually(predicate: Callable[[], T | Awaitable[T]], *, within_s: float = 30.0, message: str = "") -> T:
    """Ask `predicate` (sync or async) again and again until it is truthy, and return that value.

    AssertionError with `message` and the last value after `within_s`. An exception of the predicate ends the
    wait at once.
    """
    deadline, wait_s = time.monotonic() + within_s, _FIRST_WAIT_S
    while True:
        answer = predicate()
        value = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(_too_late(predicate, within_s, message, value))
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 2, _LONGEST_WAIT_S)


def eventually_sync(predicate: Callable[[], T], *, within_s: float = 30.0, message: str = "") -> T:
    """`eventually` for synchronous tests."""
    deadline, wait_s = time.monotonic() + within_s, _FIRST_WAIT_S
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(_too_late(predicate, within_s, message, value))
        time.sleep(wait_s)
        wait_s = min(wait_s * 2, _LONGEST_WAIT_S)


def _too_late(predicate: Callable[[], object], within_s: float, message: str, last: object) -> str:
    what = message or getattr(predicate, "__qualname__", repr(predicate))
    return f"not within {within_s:g} s: {what} (last value: {last!r})"
