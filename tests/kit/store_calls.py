"""Each call that a store takes."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from typing import Any

from rabbitray.actors.store.store import Store
from tests.kit.fake_store import FakeStore
from tests.kit.store_rows import dead_rows, rows_of


def calls_of(store: Store | FakeStore, epoch: int) -> Iterator[Coroutine[Any, Any, object]]:
    """All of them, but open and close; each is made when it is asked for."""
    yield store.register("b")
    yield store.write(epoch, rows_of(["later"]))
    yield store.known("jobs", ["later"])
    yield store.record_dead_letters(epoch, dead_rows(["later"]))
    yield store.decide([{"pool": "p", "inputs": {}, "current": 1, "wanted": 2, "reason": "r"}])
    yield store.control()
    yield store.set_control("paused", True)
    yield store.stats()
    if isinstance(store, Store):
        yield store.query("SELECT 1")
        yield anext(store.stream("SELECT 1"))
