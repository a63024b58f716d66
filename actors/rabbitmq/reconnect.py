"""Trying again: the first connection within a time, and a lost one for as long as it takes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from rabbitray.actors.backoff import Backoff
from rabbitray.actors.errors import BrokerUnreachableError, RabbitrayError
from rabbitray.actors.rabbitmq.errors import describe, is_loss, refusal
from rabbitray.actors.rabbitmq.failover import Addresses

log = logging.getLogger(__name__)

FIRST_CONNECT: Final = Backoff(first_s=0.2, most_s=2.0)
RECONNECT: Final = Backoff(first_s=0.2, most_s=10.0, jitter=(0.5, 1.5))

T = TypeVar("T")


async def within(limit_s: float, step: Callable[[], Awaitable[T]], addresses: Addresses) -> T:
    """`step`, a round of attempts to connect to one of the addresses, until it succeeds.

    Raises BrokerUnreachableError after `limit_s`, and at once for a refusal that trying again cannot change.
    """
    start, backoff = time.monotonic(), FIRST_CONNECT
    while True:
        try:
            return await step()
        except BaseException as error:
            if not is_loss(error):
                raise
            where, redact = addresses.where, addresses.redact
            if refused := refusal(error, redact):
                raise BrokerUnreachableError(f"RabbitMQ at {where}: {refused}") from None
            tried = time.monotonic() - start
            if tried + backoff.delay_s() > limit_s:
                raise BrokerUnreachableError(
                    f"RabbitMQ at {where} cannot be reached (tried for {tried:.0f} s): {describe(error, redact)}; "
                    "check RABBITMQ_URL and that the broker runs"
                ) from None
        await asyncio.sleep(backoff.delay_s())
        backoff = backoff.failed()


async def persist(
    step: Callable[[], Awaitable[None]],
    stopping: asyncio.Event,
    *,
    failed: Callable[[BaseException], None] = lambda _: None,
    backoff: Backoff = RECONNECT,
) -> bool:
    """`step` with a jittered, growing delay until it succeeds, whatever it raises; False when `stopping` was set first.

    Only a real cancellation ends it. `failed` is called with each error.
    """
    while not stopping.is_set():
        try:
            await step()
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and not is_loss(error):
                raise
            failed(error)
            delay_s = backoff.delay_s(random.random())
            _log(error, delay_s)
        else:
            return True
        await set_within(stopping, delay_s)
        backoff = backoff.failed()
    return False


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Waits for an event, at most so long; whether it is set."""
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


def _log(error: BaseException, delay_s: float) -> None:
    """One line for what a broker does to us; what nobody foresaw comes with its traceback."""
    foreseen = is_loss(error) or isinstance(error, RabbitrayError)
    log.warning("RabbitMQ: %s; next try in %.1f s", describe(error), delay_s, exc_info=None if foreseen else error)
