"""Trying again: the first connection within a time, and a lost one for as long as it takes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from rabbitray.actors.errors import BrokerUnreachableError, RabbitrayError
from rabbitray.actors.rabbitmq.errors import describe, is_loss, refusal

log = logging.getLogger(__name__)

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 10.0
LONGEST_FIRST_DELAY_S = 2.0

T = TypeVar("T")


async def within(limit_s: float, step: Callable[[], Awaitable[T]], *, where: str) -> T:
    """`step`, a connection attempt, until it succeeds.

    Raises BrokerUnreachableError after `limit_s`, and at once for a refusal that no retry mends. `where`: host,
    port and vhost, for people.
    """
    start, delay = time.monotonic(), FIRST_DELAY_S
    while True:
        try:
            return await step()
        except BaseException as error:
            if not is_loss(error):
                raise
            if refused := refusal(error):
                raise BrokerUnreachableError(f"RabbitMQ at {where}: {refused}") from None
            tried = time.monotonic() - start
            if tried + delay > limit_s:
                raise BrokerUnreachableError(
                    f"RabbitMQ at {where} cannot be reached (tried for {tried:.0f} s): {describe(error)}; "
                    "check RABBITMQ_URL and that the broker runs"
                ) from None
        await asyncio.sleep(delay)
        delay = min(delay * 2, LONGEST_FIRST_DELAY_S)


async def persist(
    step: Callable[[], Awaitable[None]],
    stopping: asyncio.Event,
    *,
    failed: Callable[[BaseException], None] = lambda _: None,
    first_s: float = FIRST_DELAY_S,
) -> bool:
    """`step` with a jittered, growing delay until it succeeds, whatever it raises; False when told to stop first.

    Only a real cancellation ends it. `failed` is told each error; `first_s` is the first delay.
    """
    delay = first_s
    while not stopping.is_set():
        try:
            await step()
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and not is_loss(error):
                raise
            failed(error)
            _log(error, delay)
        else:
            return True
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(stopping.wait(), delay * random.uniform(0.5, 1.5))
        delay = min(delay * 2, LONGEST_DELAY_S)
    return False


def _log(error: BaseException, delay_s: float) -> None:
    """One line for what a broker does to us; what nobody foresaw comes with its traceback."""
    foreseen = is_loss(error) or isinstance(error, RabbitrayError)
    log.warning("RabbitMQ: %s; next try in %.1f s", describe(error), delay_s, exc_info=None if foreseen else error)
