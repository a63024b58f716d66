"""The owner of the process's memory limit: who lowers it, who raises it again, what it leaves alone."""

from __future__ import annotations

import resource
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from rabbitray.actors.store.memory_limit import MIB, GrowthLimit, OwnMemory


@dataclass(slots=True)
class FakeMemory:
    """A process that has taken `now` bytes."""

    now: int = 100
    soft: int | None = None
    was_set: list[int | None] = field(default_factory=list)

    def taken(self) -> int:
        return self.now

    def limit(self) -> int | None:
        return self.soft

    def set_limit(self, limit: int | None) -> None:
        self.soft = limit
        self.was_set.append(limit)


@pytest.mark.parametrize("before", [None, 10_000])
def test_the_first_lowers_it_and_the_last_raises_it_again(before: int | None) -> None:
    memory = FakeMemory(soft=before)
    limit = GrowthLimit(memory)
    first, second = ExitStack(), ExitStack()
    first.enter_context(limit.holding(50))
    memory.now = 140
    second.enter_context(limit.holding(50))
    assert memory.soft == 150, "many at once have no more than one alone"
    first.close()
    assert memory.soft == 150
    second.close()
    assert memory.soft == before
    with limit.holding(50):
        assert memory.soft == 190
    assert memory.soft == before


def test_a_lower_limit_of_somebody_else_stays() -> None:
    memory = FakeMemory(soft=120)
    with GrowthLimit(memory).holding(50):
        assert memory.soft == 120
    assert memory.soft == 120


def test_an_error_ends_it_too() -> None:
    memory = FakeMemory()
    with pytest.raises(MemoryError), GrowthLimit(memory).holding(50):
        raise MemoryError
    assert memory.soft is None


def test_threads_leave_it_as_it_was() -> None:
    memory = FakeMemory()
    limit = GrowthLimit(memory)

    def hold() -> None:
        for _ in range(200):
            with limit.holding(50):
                assert memory.soft == 150

    threads = [threading.Thread(target=hold) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert memory.soft is None
    assert set(memory.was_set) == {150, None}


def test_the_limit_of_this_process_is_kept_and_raised_again() -> None:
    own = OwnMemory()
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with GrowthLimit(own).holding(256 * MIB):
        assert own.limit() is not None
        with pytest.raises(MemoryError):
            bytearray(512 * MIB)
        assert len(bytearray(64 * MIB)) == 64 * MIB
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert len(bytearray(512 * MIB)) == 512 * MIB
