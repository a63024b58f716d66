"""Backoff: how long to wait before the next try (pure), and the store asked again for as long as it is unavailable."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from rabbitray.actors.errors import StoreUnavailableError

T = TypeVar("T")

_DOUBLED_MOST: Final = 30  # 2^30 times any first wait is longer than any longest one, and no float overflows


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Waits of `first_s` seconds, doubled after each failure, of `most_s` at most.

    `jitter`: the range of the factor that each wait is multiplied with, so that many who failed together do not try
    again together; (0, 1) is full jitter. Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    first_s: float
    most_s: float
    jitter: tuple[float, float] = (1.0, 1.0)
    failures: int = 0

    def delay_s(self, share: float = 1.0) -> float:
        """Seconds before the next try. `share` (0..1), drawn by the caller, is the place within `jitter`."""
        least, most = self.jitter
        whole = min(self.most_s, self.first_s * 2.0 ** min(self.failures, _DOUBLED_MOST))
        return whole * (least + (most - least) * share)

    def failed(self) -> Backoff:
        """After one more failure."""
        return replace(self, failures=self.failures + 1)

    def reset(self) -> Backoff:
        """After a success."""
        return replace(self, failures=0)


STORE_RETRIES: Final = Backoff(first_s=0.2, most_s=5.0)


async def retry_while_unavailable(
    call: Callable[[], Awaitable[T]],
    *,
    unavailable: Callable[[StoreUnavailableError], Awaitable[None]] | None = None,
) -> T:
    """The answer of the store, with back-off between tries; `unavailable` is called with each failure.

    Raises whatever else the call raises, FencedError for one; it ends early only by being cancelled.
    """
    backoff = STORE_RETRIES
    while True:
        try:
            return await call()
        except StoreUnavailableError as error:
            if unavailable is not None:
                await unavailable(error)
        await asyncio.sleep(backoff.delay_s())
        backoff = backoff.failed()
