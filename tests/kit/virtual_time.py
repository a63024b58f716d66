"""An event loop whose clock jumps to the next timer: minutes of back-off and time-outs pass at once.

`time.monotonic` is not touched, so code that asks it sees real time, except inside `virtual_clock`.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import inspect
import selectors
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
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


TURNS_MOST = 40_000
"""Of a SimLoop: more are something that goes on and on, most often without time passing."""


class SimLoop(asyncio.BaseEventLoop):
    """As VirtualLoop, without sockets, threads or system calls: for histories by the thousand.

    Three methods stand in for asyncio's own, without what is for debugging and for other threads: half of the time.
    `on_endless` is called once, after TURNS_MOST turns.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 1_000.0
        self._turns = 0
        self.on_endless: Callable[[], object] = lambda: None
        self._ready: deque[asyncio.Handle]
        self._scheduled: list[asyncio.TimerHandle]

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True  # type: ignore[attr-defined] # asyncio's own
        return timer

    def _run_once(self) -> None:
        """What is ready, or else the next timer and those that are due with it."""
        ready, timers = self._ready, self._scheduled
        self._turns += 1
        if self._turns == TURNS_MOST:
            self.on_endless()
        while timers and (timers[0]._cancelled or not ready or timers[0].when() <= self._now):  # type: ignore[attr-defined]
            timer = heapq.heappop(timers)
            timer._scheduled = False  # type: ignore[attr-defined]
            if not timer._cancelled:  # type: ignore[attr-defined]
                self._now = max(self._now, timer.when())
                ready.append(timer)
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            raise RuntimeError("nothing is left that could wake this loop")
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:  # type: ignore[attr-defined]
                handle._run()  # type: ignore[attr-defined]

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is dropped when its time comes."""

    def run_in_executor(self, executor: Any, call: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override] # narrower
        """At once, on the loop: what blocks elsewhere takes no time here."""
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(call(*args))
        except Exception as error:  # noqa: BLE001 # it is the call's
            done.set_exception(error)
        return done

    def _write_to_self(self) -> None:
        """Nothing waits outside."""


EPOCH_S = 1_700_000_000
"""The Unix time at which the clock of a loop begins, less its 1,000 s."""


@contextmanager
def virtual_clock(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Inside, the module `time` tells the loop's time, to whoever asks it: code of ours, and what it uses."""
    real = time.monotonic, time.time, time.time_ns
    time.monotonic = loop.time
    time.time = lambda: EPOCH_S + loop.time()
    time.time_ns = lambda: int((EPOCH_S + loop.time()) * 1_000_000_000)
    try:
        yield
    finally:
        time.monotonic, time.time, time.time_ns = real
