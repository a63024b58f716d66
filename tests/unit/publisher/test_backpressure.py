"""The budget of outstanding messages: served in order, and given back by who gives up."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from rabbitray.actors.publisher.backpressure import Budget


async def test_budget_serves_in_order_and_forgets_who_gave_up() -> None:
    budget = Budget(1, 100)
    await budget.take(10)
    first = asyncio.ensure_future(budget.take(10))
    second = asyncio.ensure_future(budget.take(10))
    await asyncio.sleep(0)
    assert not budget.try_take(1)
    first.cancel()
    budget.give(10)
    await second
    budget.give(10)
    assert (budget.messages, budget.bytes) == (0, 0)


async def test_room_given_to_somebody_who_is_cancelled_then_is_given_back() -> None:
    budget = Budget(1, 100)
    await budget.take(10)
    late = asyncio.ensure_future(budget.take(10))
    await asyncio.sleep(0)
    budget.give(10)
    late.cancel()
    with suppress(asyncio.CancelledError):
        await late
    assert (budget.messages, budget.bytes) == (0, 0)
