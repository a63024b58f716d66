"""The alarm: the first delivery after a lull wakes the autoscaler, once; the clock is what the test says it is."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from rabbitray.actors.remote.calls import LULL_S, WakeAutoscaler
from tests.kit.eventually import eventually


class FakeAutoscaler:
    """What `find` finds: counts its wakes. `missing`: it is not there; `busy` holds a wake until it is set."""

    def __init__(self) -> None:
        self.missing = False
        self.found: list[tuple[str, str]] = []
        self.woken = 0
        self.busy = threading.Event()
        self.busy.set()
        self.wake = self

    def find(self, name: str, namespace: str) -> Any:  # Any: stands for Ray's handle
        self.busy.wait(10)
        self.found.append((name, namespace))
        if self.missing:
            raise ValueError(f"Failed to look up actor with name {name!r}")
        return self

    async def remote(self) -> None:
        self.woken += 1


def alarm_of(autoscaler: FakeAutoscaler) -> WakeAutoscaler:
    return WakeAutoscaler("p-autoscaler", "ns", autoscaler.find)


async def ended() -> None:
    """Until no ring is under way."""
    await eventually(lambda: all(task.get_name() != "wake-autoscaler" for task in asyncio.all_tasks()))


async def test_one_ring_for_each_lull() -> None:
    autoscaler = FakeAutoscaler()
    alarm = alarm_of(autoscaler)
    for at in (100.0, 100.1, 100.1 + LULL_S, 101.5, 102.4):
        alarm.delivered(at)
        await ended()
    assert autoscaler.found == [("p-autoscaler", "ns")]
    assert autoscaler.woken == 1, "deliveries without a lull between them ring once"
    alarm.delivered(102.4 + LULL_S + 0.01)
    await ended()
    assert autoscaler.woken == 2


async def test_a_ring_that_is_under_way_is_not_repeated() -> None:
    autoscaler = FakeAutoscaler()
    autoscaler.busy.clear()
    alarm = alarm_of(autoscaler)
    for at in (10.0, 20.0, 30.0):
        alarm.delivered(at)
        await asyncio.sleep(0)
    autoscaler.busy.set()
    await ended()
    assert autoscaler.woken == 1


async def test_an_autoscaler_that_is_not_there_costs_nothing_and_is_rung_for_again() -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    autoscaler = FakeAutoscaler()
    autoscaler.missing = True
    alarm = alarm_of(autoscaler)
    alarm.delivered(10.0)
    await ended()
    assert (len(autoscaler.found), autoscaler.woken) == (1, 0)
    autoscaler.missing = False
    alarm.delivered(20.0)
    await ended()
    assert autoscaler.woken == 1
    del alarm
    assert failures == []
