"""When the queue is consumed: not while anything holds, and during an outage alone by probes."""

from __future__ import annotations

import asyncio
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.router.consumption import OUTAGE, Consumption

NAMES = (OUTAGE, "paused", "store")


class Consumer:
    """What the consumption asked of it. `steps`: how often each call waits for the broker."""

    def __init__(self, steps: int = 0) -> None:
        self.window = 0  # 0: not consuming
        self.steps = steps
        self._lock = asyncio.Lock()

    async def consume(self, window: int) -> None:
        async with self._lock:
            for _ in range(self.steps):
                await asyncio.sleep(0)
            self.window = window

    async def pause(self) -> None:
        await self.consume(0)


class Held:
    """A consumption of window 50 and how often it gave back."""

    def __init__(self, steps: int = 0) -> None:
        self.consumer = Consumer(steps)
        self.given_back = 0
        self.consumption = Consumption(self.consumer, on_hold=self._give_back, on_consume=lambda: None)

    def _give_back(self) -> None:
        assert self.consumer.window == 0, "what is given back now would be delivered again at once"
        self.given_back += 1


async def test_nothing_consumes_after_the_close() -> None:
    held = Held()
    await held.consumption.hold("store", "disk full")
    await held.consumption.close()
    await held.consumption.start(50)
    await held.consumption.set_window(70)
    await held.consumption.release("store")
    await held.consumption.start(50)
    assert held.consumer.window == 0


async def test_a_second_hold_stops_the_probes_too_and_gives_back_what_waits() -> None:
    held = Held()
    await held.consumption.start(50)
    await held.consumption.hold(OUTAGE, "down")
    await held.consumption.start_probing(1)
    assert held.consumer.window == 1
    await held.consumption.hold("paused", "by hand")
    assert (held.consumer.window, held.given_back) == (0, 2)
    await held.consumption.start_probing(1)
    assert held.consumer.window == 0, "no probe while somebody paused it"


async def test_the_same_hold_again_changes_its_reason_and_lets_the_probes_be() -> None:
    held = Held()
    await held.consumption.start(50)
    await held.consumption.hold(OUTAGE, "down")
    await held.consumption.start_probing(1)
    await held.consumption.hold(OUTAGE, "still down")
    assert (held.consumer.window, held.given_back) == (1, 1)
    assert held.consumption.holds == {OUTAGE: "still down"}


@pytest.mark.parametrize("order", list(permutations(NAMES)))
async def test_holds_are_released_in_any_order(order: tuple[str, ...]) -> None:
    held = Held()
    await held.consumption.start(50)
    for name in NAMES:
        await held.consumption.hold(name, "why")
    for name in order:
        assert (held.consumer.window, held.consumption.flowing) == (0, False)
        await held.consumption.release(name)
        await held.consumption.stop_probing()  # it was spawned before the release
    assert (held.consumer.window, held.consumption.flowing) == (50, True)


STEPS = st.sampled_from([(verb, name) for verb in ("hold", "release") for name in NAMES] + [("probe", ""), ("end", "")])


async def do(consumption: Consumption, verb: str, name: str) -> None:
    match verb:
        case "hold":
            await consumption.hold(name, "why")
        case "release":
            await consumption.release(name)
        case "probe":
            await consumption.start_probing(1)
        case _:
            await consumption.stop_probing()


@given(st.lists(STEPS, max_size=12), st.integers(0, 2))
def test_whatever_begins_and_ends_at_once_the_last_state_decides(steps: list[tuple[str, str]], waits: int) -> None:
    async def run() -> None:
        held = Held(waits)
        consumption = held.consumption
        await consumption.start(50)
        tasks = [asyncio.create_task(do(consumption, verb, name)) for verb, name in steps]
        await asyncio.gather(*tasks, return_exceptions=True)
        expected = {(): {50}, (OUTAGE,): {0, 1}}.get(tuple(consumption.holds), {0})
        assert held.consumer.window in expected

    asyncio.run(run())
