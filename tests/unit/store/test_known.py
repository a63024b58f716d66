"""Keys are looked up while commits go on: no wait for them, no row missed, none made up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from rabbitray.actors.errors import StoreUnavailableError
from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.dedupe.index import Dedupe
from rabbitray.actors.store.dedupe.keys import identities, identities_of
from rabbitray.actors.store.dedupe.segment import Segment
from rabbitray.actors.store.store import Store
from tests.kit.store_rows import rows_of


class Waits(list[Mapping[str, object]]):
    """Decisions that are read when `go` is set: the commit thread has them in hand until then."""

    def __init__(self) -> None:
        super().__init__([{"pool": "p", "inputs": {}, "current": 1, "wanted": 1, "reason": "r"}])
        self.begun, self.go = threading.Event(), threading.Event()

    def __iter__(self) -> Iterator[Mapping[str, object]]:
        self.begun.set()
        assert self.go.wait(20)
        return super().__iter__()


async def test_a_question_waits_for_no_commit(tmp_path: Path) -> None:
    """Neither for keys of sealed rows nor for those of the newest ones."""
    store = Store(StoreConfig(path=tmp_path / "r.duckdb", dedupe_capacity=64 * 3))
    await store.open()
    epoch = await store.register("a")
    keys = [f"k{n}" for n in range(10)]
    await store.write(epoch, rows_of(keys))
    decisions = Waits()
    busy = asyncio.ensure_future(store.decide(decisions))
    await asyncio.to_thread(decisions.begun.wait)
    writing = asyncio.ensure_future(store.write(epoch, rows_of(["later"])))
    try:
        async with asyncio.timeout(5):
            assert (await store.known("jobs", [*keys, "new", "later"])).keys() == set(range(10))
        assert not busy.done()
        assert not writing.done()
    finally:
        decisions.go.set()
    await asyncio.gather(busy, writing)
    assert (await store.known("jobs", ["later"])).keys() == {0}
    await store.close()


async def test_a_store_that_was_opened_again_knows_its_rows(tmp_path: Path) -> None:
    config = StoreConfig(path=tmp_path / "r.duckdb", dedupe_capacity=64 * 3)
    keys = [f"k{n}" for n in range(10)]
    for store in (Store(config), Store(config)):
        await store.open()
        await store.write(await store.register("a"), rows_of(keys))
        assert (await store.known("jobs", keys)).keys() == set(range(10))
        await store.close()


async def test_without_dedupe_nothing_is_known(tmp_path: Path) -> None:
    store = Store(StoreConfig(path=tmp_path / "r.duckdb", dedupe=False))
    await store.open()
    await store.write(await store.register("a"), rows_of(["a"]))
    assert await store.known("jobs", ["a"]) == {}
    await store.close()


async def test_a_store_whose_file_is_gone_gives_no_answer(tmp_path: Path) -> None:
    """What it remembers is nowhere where anybody looks: nothing may be acked for it."""
    path = tmp_path / "r.duckdb"
    store = Store(StoreConfig(path=path))
    await store.open()
    await store.write(await store.register("a"), rows_of(["a"]))
    path.rename(tmp_path / "elsewhere")
    await store.stats()
    with pytest.raises(StoreUnavailableError, match="moved away or removed"):
        await store.known("jobs", ["a"])
    (tmp_path / "elsewhere").rename(path)
    await store.stats()
    assert (await store.known("jobs", ["a"])).keys() == {0}
    await store.close()


def test_no_row_is_missed_while_others_are_added_and_sealed() -> None:
    """One thread adds, as commits do; another one asks, over and over, for keys that were added before."""
    dedupe = Dedupe(capacity=64 * 400, store_id="s", directory=None)
    added, ended, missed = [0], threading.Event(), list[str]()

    def add() -> None:
        for start in range(0, 20_000, 100):
            dedupe.add(identities(rows_of([f"k{n}" for n in range(start, start + 100)])))
            added[0] = start + 100
        ended.set()

    adding = _begun(add)
    asked = 0
    while not ended.is_set():
        keys = [f"k{n}" for n in range(max(0, added[0] - 450), added[0])]
        found = dedupe.winners(identities_of("jobs", keys)) if keys else {}
        missed += [key for row, key in enumerate(keys) if row not in found]
        asked += 1
    adding.join()
    assert missed == []
    assert asked > 50
    assert len(dedupe.sealed) == 50


def test_a_row_is_in_its_segment_before_the_newest_forget_it() -> None:
    """The moment between the two, which a thread meets once in a thousand questions."""
    dedupe = Dedupe(capacity=64 * 4, store_id="s", directory=None)
    first = identities_of("jobs", [f"k{n}" for n in range(4)])
    seen: list[list[bool]] = []

    class Watched(list[Segment]):
        def append(self, segment: Segment) -> None:
            seen.append(dedupe.known(first))
            super().append(segment)
            seen.append(dedupe.known(first))

    dedupe.sealed = Watched()
    dedupe.add(identities(rows_of([f"k{n}" for n in range(4)])))
    assert seen == [[True] * 4] * 2


def _begun(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread
