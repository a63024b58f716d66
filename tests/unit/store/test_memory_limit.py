"""The owner of the process's memory limit: who lowers it, who raises it again, what it leaves alone."""

from __future__ import annotations

import resource
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from rabbitray.actors.store.memory_limit import MIB, GrowthLimit, OwnMemory

from tests.kit.eventually import eventually_sync


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


def nothing() -> None:
    raise AssertionError("interrupted")


@pytest.mark.parametrize("before", [None, 10_000])
def test_the_first_lowers_it_and_the_last_raises_it_again(before: int | None) -> None:
    memory = FakeMemory(soft=before)
    limit = GrowthLimit(memory)
    first, second = ExitStack(), ExitStack()
    first.enter_context(limit.holding(50, 7, nothing))
    memory.now = 140
    second.enter_context(limit.holding(50, 7, nothing))
    assert memory.soft == 157, "many at once have no more than one alone"
    first.close()
    assert memory.soft == 157
    second.close()
    assert memory.soft == before
    with limit.holding(50, 7, nothing):
        assert memory.soft == 197
    assert memory.soft == before


def test_a_lower_limit_of_somebody_else_stays() -> None:
    memory = FakeMemory(soft=120)
    with GrowthLimit(memory).holding(50, 7, nothing):
        assert memory.soft == 120
    assert memory.soft == 120


def test_an_error_ends_it_too() -> None:
    memory = FakeMemory()
    with pytest.raises(MemoryError), GrowthLimit(memory).holding(50, 7, nothing):
        raise MemoryError
    assert memory.soft is None


def test_above_the_growth_each_holder_is_interrupted_until_it_ends() -> None:
    memory = FakeMemory()
    limit = GrowthLimit(memory, look_every_s=0.001)
    first, second = threading.Semaphore(0), threading.Semaphore(0)
    with limit.holding(50, 7, first.release):
        with limit.holding(50, 7, second.release):
            memory.now = 151
            assert all(one.acquire(timeout=10) for one in (first, second, first, second))
        ended = limit.holding(50, 7, nothing)
        memory.now = 150
        with ended:
            pass
    assert memory.soft is None


@dataclass(slots=True)
class Starved(FakeMemory):
    """One of which each other look finds no memory."""

    looks: int = 0

    def taken(self) -> int:
        self.looks += 1
        if self.looks % 2 == 0:
            raise MemoryError
        return self.now


def test_a_look_that_fails_is_said_once_and_the_next_one_interrupts(caplog: pytest.LogCaptureFixture) -> None:
    memory = Starved()
    interrupted = threading.Semaphore(0)
    with GrowthLimit(memory, look_every_s=0.001).holding(50, 7, interrupted.release):
        memory.now = 151
        assert all(interrupted.acquire(timeout=10) for _ in range(3))
    assert len([one for one in caplog.records if "tried again" in one.message]) == 1


def test_no_thread_outlives_the_last_query() -> None:
    """One that is there when Python ends keeps DuckDB's module alive, which then prints pages of leaks."""
    limit = GrowthLimit(FakeMemory())
    for _ in range(2):
        with limit.holding(50, 7, nothing), limit.holding(50, 7, nothing):
            assert watchers()
        eventually_sync(lambda: not watchers())


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "query-memory"]


def test_threads_leave_it_as_it_was() -> None:
    memory = FakeMemory()
    limit = GrowthLimit(memory)
    seen: set[int | None] = set()

    def hold() -> None:
        for _ in range(200):
            with limit.holding(50, 7, hold):
                seen.add(memory.soft)

    threads = [threading.Thread(target=hold) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert memory.soft is None
    assert seen == {157}


def test_the_limit_of_this_process_is_kept_and_raised_again() -> None:
    own = OwnMemory()
    before = resource.getrlimit(resource.RLIMIT_DATA)
    interrupted = threading.Event()
    with GrowthLimit(own).holding(32 * MIB, 96 * MIB, interrupted.set):
        assert own.limit() is not None
        with pytest.raises(MemoryError):
            bytearray(256 * MIB)
        assert not interrupted.is_set()
        some = bytearray(64 * MIB)
        assert interrupted.wait(10)
        del some
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert len(bytearray(256 * MIB)) == 256 * MIB
