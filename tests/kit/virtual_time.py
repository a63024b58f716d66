"""An event loop whose clock jumps to the next timer: minutes of back-off and time-outs pass at once.

`time.monotonic` is not touched, so code that asks it sees real time.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: tells `skip` how long it would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.skip: Callable[[float], None] = lambda _: None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events and timeout is None:
            raise RuntimeError("nothing is left that could wake this loop")
        if not events and timeout:
            self.skip(timeout)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs timers in order and at once."""

    def __init__(self) -> None:
        selector = _JumpingSelector()
        super().__init__(selector)
        self._now = 1_000.0
        selector.skip = self._skip

    def time(self) -> float:
        return self._now

    def _skip(self, seconds: float) -> None:
        self._now += seconds


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Makes a plain test of an async one, run on a VirtualLoop."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(test(*args, **kwargs))

    run.__signature__ = inspect.signature(test)  # type: ignore[attr-defined] # the parameters, for pytest
    del run.__wrapped__  # pytest must not see a coroutine function behind it
    return run
