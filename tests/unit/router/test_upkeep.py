"""What the router keeps of its rungs for the next one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rabbitray.actors.errors import StoreUnavailableError
from rabbitray.actors.router.holds.vanished import VanishedQueues
from rabbitray.actors.router.settlement.outstanding import OutstandingRetries
from rabbitray.actors.router.upkeep import SAVING_EVERY_LOOKS, Upkeep
from tests.kit.eventually import eventually


class Store:
    """The control table, of a store that may be away."""

    def __init__(self) -> None:
        self.writes: list[tuple[str, object]] = []
        self.away = False

    async def set_control(self, name: str, value: object) -> None:
        if self.away:
            raise StoreUnavailableError("it is started again")
        self.writes.append((name, value))


async def nothing() -> None:
    """A look that finds nothing."""


def upkeep_of(outstanding: OutstandingRetries, store: Store, queues: VanishedQueues | None = None) -> Upkeep:
    parts: Any = SimpleNamespace(
        router=SimpleNamespace(tick=lambda: None),
        meter=None,
        pool=SimpleNamespace(leave=lambda _: None),
        isolated=SimpleNamespace(leave=lambda _: None),
        lending=SimpleNamespace(look=nothing),
        recycling=SimpleNamespace(on=True, look=nothing),
        nodes=SimpleNamespace(look=nothing),
        outstanding=outstanding,
        watch=SimpleNamespace(vanished=VanishedQueues() if queues is None else queues, look=nothing),
        store=store,
    )
    return Upkeep(parts, on_draining=lambda _: None)


async def test_what_is_out_is_saved_now_and_then_and_only_where_it_changed() -> None:
    outstanding, store = OutstandingRetries({"out": 1, "until_ms": 2**52}), Store()
    upkeep = upkeep_of(outstanding, store)
    await upkeep.save()
    assert store.writes == [], "the table says so already"
    outstanding.went_in("a", 1, 1_000, 2**51)
    for _ in range(SAVING_EVERY_LOOKS + 1):
        upkeep.run_once()
    await eventually(lambda: store.writes)
    assert store.writes == [("retries_out", {"out": 2, "until_ms": 2**52, "overdue": 0})]
    for _ in range(SAVING_EVERY_LOOKS + 1):
        upkeep.run_once()
    await upkeep.close()
    assert len(store.writes) == 1


async def test_a_store_that_is_away_is_asked_again() -> None:
    outstanding, store = OutstandingRetries(), Store()
    upkeep = upkeep_of(outstanding, store)
    outstanding.went_in("a", 1, 1_000, 2**51)
    store.away = True
    with pytest.raises(StoreUnavailableError):
        await upkeep.save()
    store.away = False
    await upkeep.save()
    assert len(store.writes) == 1
    await upkeep.close()


async def test_that_a_queue_has_messages_is_saved_and_not_each_of_its_depths() -> None:
    queues, store = VanishedQueues(), Store()
    upkeep = upkeep_of(OutstandingRetries(), store, queues)
    for depth in (0, 5, 900, 700):
        queues.saw("jobs", depth, 1.0)
        await upkeep.save()
    assert [write for name, write in store.writes if name == "queues_seen"] == [
        {"broker": "", "depths": {"jobs": [depth, 1]}, "events": {}} for depth in (0, 5)
    ]
    await upkeep.close()
