"""Asks the store again for as long as it is unavailable."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from rabbitray.actors.errors import StoreUnavailableError

T = TypeVar("T")

STORE_RETRY_FIRST_S = 0.2
STORE_RETRY_MOST_S = 5.0


async def retry_while_unavailable(
    call: Callable[[], Awaitable[T]],
    *,
    unavailable: Callable[[StoreUnavailableError], Awaitable[None]] | None = None,
) -> T:
    """The answer of the store, with back-off between tries; `unavailable` is told of each try that failed.

    Raises whatever else the call raises, FencedError for one; it ends early only by being cancelled.
    """
    delay = STORE_RETRY_FIRST_S
    while True:
        try:
            return await call()
        except StoreUnavailableError as error:
            if unavailable is not None:
                await unavailable(error)
        await asyncio.sleep(delay)
        delay = min(delay * 2, STORE_RETRY_MOST_S)
