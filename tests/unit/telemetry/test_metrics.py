"""Measurements are cheap to note, arrive added up and complete, and can be switched off."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.telemetry.metrics import NO_METRICS, MetricsBuffer, MetricsConfig, Point, Totals, recorder
from tests.kit.eventually import eventually


class Flushes:
    """A sink that keeps each flush."""

    def __init__(self) -> None:
        self.points: list[list[Point]] = []

    def emit(self, points: Sequence[Point]) -> None:
        self.points.append(list(points))


class Broken:
    """A sink that never takes anything."""

    def emit(self, points: Sequence[Point]) -> None:
        raise OSError("no route to the collector")


def test_fifty_events_are_one_flush() -> None:
    sink = Flushes()
    buffer = MetricsBuffer(sink)
    for _ in range(49):
        buffer.record("queue.messages.published")
    assert sink.points == []
    buffer.record("queue.messages.published")
    ((point,),) = sink.points
    assert (point.count, point.total, point.last) == (50, 50.0, 1.0)


def test_values_are_added_up_for_each_series() -> None:
    sink = Flushes()
    buffer = MetricsBuffer(sink)
    buffer.record("queue.write.duration", 0.25, {"queue": "a", "outcome": "ok"})
    buffer.record("queue.write.duration", 0.75, {"outcome": "ok", "queue": "a"})
    buffer.record("queue.write.duration", 9.0, {"queue": "b"})
    buffer.flush()
    first, second = sink.points[0]
    assert first.labels == (("outcome", "ok"), ("queue", "a"))
    assert first.values == (0.25, 0.75)
    assert second.labels == (("queue", "b"),)


def test_unbatched_measurements_go_out_one_by_one() -> None:
    sink = Flushes()
    buffer = recorder(MetricsConfig(batched=False), sink)
    buffer.record("a")
    buffer.record("b")
    assert [[point.name for point in flush] for flush in sink.points] == [["a"], ["b"]]


async def test_switched_off_nothing_reaches_the_sink() -> None:
    sink = Flushes()
    off = recorder(MetricsConfig(enabled=False, batched=False), sink)
    assert off is NO_METRICS
    off.record("a")
    off.flush()
    stopped = asyncio.Event()
    stopped.set()
    await off.run(stopped)
    assert sink.points == []


async def test_a_few_events_leave_after_the_interval_and_the_rest_at_the_end() -> None:
    sink = Flushes()
    buffer = MetricsBuffer(sink, MetricsConfig(flush_interval_ms=5))
    stopped = asyncio.Event()
    running = asyncio.create_task(buffer.run(stopped))
    buffer.record("a")
    await eventually(lambda: len(sink.points) == 1)
    buffer.record("b")
    stopped.set()
    await running
    assert sink.points[-1][0].name == "b"


async def test_there_is_a_timer_only_while_something_waits_to_be_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, interval_s, timers = asyncio.get_running_loop(), 0.007, []
    call_later = loop.call_later

    def noting(delay: float, *call: Any) -> asyncio.TimerHandle:  # Any: a callback and its arguments
        timers.append(delay)
        return call_later(delay, *call)

    monkeypatch.setattr(loop, "call_later", noting)
    sink, stopped = Flushes(), asyncio.Event()
    buffer = MetricsBuffer(sink, MetricsConfig(flush_interval_ms=7))
    buffer.record("before")
    running = asyncio.create_task(buffer.run(stopped))
    await eventually(lambda: len(sink.points) == 1)
    await asyncio.sleep(interval_s * 5)
    assert interval_s not in timers
    for name in ("a", "b"):
        await asyncio.to_thread(buffer.record, name)
        buffer.record(name)
        await eventually(lambda: sink.points[-1][-1].name == name)  # noqa: B023 # called in this turn only
    await asyncio.sleep(interval_s * 5)
    assert 2 <= timers.count(interval_s) <= 4, "one for each flush; the thread's event may have had one of its own"
    stopped.set()
    await running


def test_a_sink_that_fails_loses_measurements_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    buffer = MetricsBuffer(Broken(), MetricsConfig(batch_size=1))
    for _ in range(3):
        buffer.record("a")
    assert buffer.sink_failures == 3
    assert len(caplog.records) == 1


def test_a_sink_that_measures_itself_does_not_hang() -> None:
    class Recursive:
        def emit(self, points: Sequence[Point]) -> None:
            buffer.record("flushes")

    buffer = MetricsBuffer(Recursive(), MetricsConfig(batch_size=1))
    buffer.record("a")


def test_label_sets_are_bounded() -> None:
    totals = Totals()
    buffer = MetricsBuffer(totals, MetricsConfig(max_series=2))
    for user in ("a", "b", "c", "d"):
        buffer.record("jobs", labels={"user": user})
    buffer.flush()
    assert totals.count("jobs") == 4
    assert totals.count("jobs", {"user": "b"}) == 1
    assert totals.count("jobs", {"overflow": "true"}) == 2


def test_many_threads_lose_no_event() -> None:
    totals = Totals()
    buffer = MetricsBuffer(totals, MetricsConfig(batch_size=7))

    def work() -> None:
        for _ in range(2000):
            buffer.record("a")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    buffer.flush()
    assert totals.count("a") == 8000


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(-1000, 1000)), max_size=300), st.integers(1, 60))
def test_totals_do_not_depend_on_the_batch(events: list[tuple[str, int]], batch_size: int) -> None:
    totals = Totals()
    buffer = MetricsBuffer(totals, MetricsConfig(batch_size=batch_size))
    for name, value in events:
        buffer.record(name, value)
    buffer.flush()
    for name in "ab":
        values = [value for known, value in events if known == name]
        assert totals.count(name) == len(values)
        assert totals.total(name) == sum(values)
        assert totals.last(name) == (values[-1] if values else None)
