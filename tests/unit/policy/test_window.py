"""The prefetch window and the batch size."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.errors import ConfigurationError
from rabbitray.autoscale.policy.signals import Memory
from rabbitray.autoscale.policy.window import WindowLimits, report_prefetch, window
from tests.kit.pool_status import seen

LIMITS = WindowLimits()


def test_the_example_in_the_docstring() -> None:
    found = window(seen(ready=12_000, workers=4), Memory(speed=300.0), LIMITS)
    assert (found.messages, found.batch_size) == (600, 15)


def test_the_worked_example_of_the_report() -> None:
    assert report_prefetch(1000, 10, 30) == 50


@pytest.mark.parametrize(
    ("depth", "workers", "rate", "expected"),
    [(0, 10, 30, 5), (49, 10, 30, 5), (100, 10, 30, 10), (100, 10, 51, 15), (101, 10, 51, 16), (10_000, 1, 80, 50)],
)
def test_the_report_formula_in_its_range(depth: int, workers: int, rate: float, expected: int) -> None:
    assert report_prefetch(depth, workers, rate) == expected


def test_the_range_for_a_worker_can_be_set() -> None:
    quiet, busy = seen(ready=0, workers=4, window=0), seen(ready=10_000, workers=4, window=0)
    slow = Memory(speed=1.0)
    ranged = WindowLimits(per_worker_min=20, per_worker_max=80)
    assert [window(look, slow, ranged).messages for look in (quiet, busy)] == [80, 320]
    assert [window(look, slow, LIMITS).messages for look in (quiet, busy)] == [20, 200]


@pytest.mark.parametrize(("least", "most"), [(0, 5), (6, 5)])
def test_a_range_that_is_none_is_refused(least: int, most: int) -> None:
    with pytest.raises(ConfigurationError, match="PREFETCH_MIN"):
        WindowLimits(per_worker_min=least, per_worker_max=most)


@given(
    st.integers(0, 100_000),
    st.integers(0, 64),
    st.none() | st.floats(0.001, 100_000),
    st.none() | st.floats(1, 16 * 1024 * 1024),
    st.sampled_from([1, 32]),
    st.integers(0, 2_000),
    st.integers(1, 500),
)
def test_bounds_always_hold(
    ready: int, workers: int, speed: float | None, size: float | None, slots: int, now: int, batch: int
) -> None:
    look = seen(ready=ready, workers=workers, mean_message_bytes=size, slots=slots, window=now, batch_size=batch)
    found = window(look, Memory(speed=speed), LIMITS)
    assert 1 <= found.messages <= 2_000
    assert 1 <= found.batch_size <= 500
    if found.changed and workers:
        assert found.messages == 1 or found.messages * (size or 0) <= LIMITS.byte_budget
    if found.messages >= workers * 3:
        assert found.batch_size * workers * 3 <= found.messages


@given(st.integers(0, 100_000), st.integers(1, 64), st.floats(0.001, 100_000))
def test_a_window_fills_a_batch_for_each_worker(ready: int, workers: int, speed: float) -> None:
    found = window(seen(ready=ready, workers=workers, window=0), Memory(speed=speed), LIMITS)
    assert found.messages >= found.batch_size * workers


def test_slow_handlers_get_the_report_times_the_workers() -> None:
    found = window(seen(ready=1_000, workers=10, window=10), Memory(speed=30), LIMITS)
    assert (found.messages, found.batch_size) == (500, 2)


def test_fast_handlers_get_a_wider_window_and_large_batches() -> None:
    found = window(seen(ready=50_000, workers=2), Memory(speed=10_000), LIMITS)
    assert (found.messages, found.batch_size) == (2_000, 333)
    assert "at most 2000" in found.reason


def test_slots_of_an_async_worker_are_filled() -> None:
    found = window(seen(ready=5_000, workers=4, slots=32), Memory(speed=100), LIMITS)
    assert found.batch_size == 32


def test_until_a_speed_is_known_the_start_is_the_report_batch_in_a_middling_window() -> None:
    found = window(seen(ready=5_000, workers=2, window=0, batch_size=0), Memory(), LIMITS)
    assert (found.messages, found.batch_size) == (200, 10)


def test_no_workers_keep_a_window_of_one() -> None:
    found = window(seen(ready=5_000, workers=0), Memory(speed=1_000), LIMITS)
    assert (found.messages, found.batch_size) == (1, 50)


def test_workers_that_start_find_the_window_open() -> None:
    """After a restart of the router no worker is ready for a second; its first batches must not be single messages."""
    found = window(
        seen(ready=5_000, workers=0, starting=2, window=60), Memory(), WindowLimits(window=60, batch_size=10)
    )
    assert (found.messages, found.batch_size, found.changed) == (60, 10, False)


def test_large_messages_narrow_the_window() -> None:
    large = seen(ready=5_000, workers=2, mean_message_bytes=4 * 1024 * 1024)
    found = window(large, Memory(speed=1_000), LIMITS)
    assert found.messages == 16
    assert found.batch_size == 2


def test_fixed_numbers_are_used_as_they_are() -> None:
    fixed = WindowLimits(window=300, batch_size=10)
    found = window(seen(ready=50_000, workers=2), Memory(speed=10_000), fixed)
    assert (found.messages, found.batch_size) == (300, 10)


def test_less_than_a_quarter_changes_nothing() -> None:
    look = seen(ready=100_000, workers=2, window=1_700, batch_size=280)
    found = window(look, Memory(speed=10_000), LIMITS)
    assert (found.messages, found.changed) == (1_700, False)


@pytest.mark.parametrize(("now", "messages"), [(1_601, 1_601), (1_600, 2_000), (1_500, 2_000)])
def test_a_change_of_a_quarter_is_made(now: int, messages: int) -> None:
    look = seen(ready=100_000, workers=2, window=now)
    assert window(look, Memory(speed=10_000), LIMITS).messages == messages


def test_it_widens_at_most_once_a_second_and_narrows_slower() -> None:
    look = seen(now=10.0, ready=50_000, workers=2)
    fast = Memory(speed=10_000, window_changed_at=9.5)
    assert not window(look, fast, LIMITS).changed
    assert window(look, replace(fast, window_changed_at=9.0), LIMITS).changed
    wide = seen(now=10.0, ready=0, workers=2, window=2_000)
    slow = Memory(speed=1, window_changed_at=6.0)
    assert not window(wide, slow, LIMITS).changed
    assert window(wide, replace(slow, window_changed_at=5.0), LIMITS).changed


@pytest.mark.parametrize("state", [{"ready": None}, {"paused": True}, {"hold": "writer is down"}])
def test_nothing_is_handed_over_without_a_signal_or_while_nothing_is_consumed(state: dict[str, object]) -> None:
    look = seen(**{"ready": 50_000, "workers": 2, **state})  # type: ignore[arg-type]  # names of fields
    assert not window(look, Memory(speed=10_000), LIMITS).changed


@pytest.mark.parametrize("first", [50, 100, 200])
def test_with_handlers_of_60_s_unacked_messages_stay_within_the_old_and_1_25_times_the_new_window(first: int) -> None:
    """Consumers whose messages are never acked meanwhile, and a policy that wants another window each second."""
    memory, consumers = Memory(speed=1 / 60), [first]
    for t in range(120):
        fixed = WindowLimits(window=500 if t % 2 else 5)
        look = seen(now=float(t), ready=100_000, workers=4, window=consumers[-1], old_window_held=sum(consumers[:-1]))
        before = consumers[-1]
        found = window(look, memory, fixed)
        if found.changed:
            consumers.append(found.messages)
            memory = replace(memory, window_changed_at=float(t))
            assert sum(consumers) <= before + found.messages + found.messages // 4
    assert sum(consumers) <= first + 500 + 500 // 4


def test_a_window_of_zero_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="unlimited"):
        WindowLimits(window=0)


def test_packed_messages_are_counted_in_records() -> None:
    """A worker does 50 messages of 100 records a second: 50 ms of work are 250 records, three messages."""
    look = seen(ready=10_000, workers=2, busy=2, window=200, batch_size=10, records_per_message=100.0)
    found = window(look, Memory(speed=50.0), LIMITS)
    assert found.batch_size == 250
    assert 1 <= found.messages <= 2_000


def test_what_was_found_stays_while_no_speed_is_known() -> None:
    found = window(seen(ready=0, workers=1, window=2_000, batch_size=400), Memory(speed=None), LIMITS)
    assert found.batch_size >= 300, "after a lull the first burst is not fed in tens"


def test_where_a_hand_over_gives_the_queue_away_the_window_stays_and_the_reason_says_so() -> None:
    why = "single active consumer"
    for workers in (4, 0):
        found = window(seen(ready=12_000, workers=workers, window_fixed=why), Memory(speed=300.0), LIMITS)
        assert (found.messages, found.changed) == (200, False)
        assert why in found.reason
    assert found.batch_size >= 1


def test_until_a_message_has_come_each_may_be_the_largest() -> None:
    limits = WindowLimits(byte_budget=64_000, largest_message=16_000)
    unknown = window(seen(ready=0, workers=2, window=4), Memory(), limits)
    assert (unknown.messages, unknown.changed) == (4, False)
    small = window(seen(ready=500, workers=2, window=4, mean_message_bytes=100.0), Memory(), limits)
    assert small.messages == limits.first_window
    assert window(seen(ready=500, workers=2, window=4, mean_message_bytes=0.0), Memory(), limits).messages == 200


LONG = WindowLimits(long_jobs=True)


def test_a_pool_of_jobs_of_an_hour_asks_for_no_more_than_it_runs() -> None:
    assert window(seen(ready=500, workers=4, window=1), Memory(), LONG).messages == 4
    assert window(seen(ready=500, workers=4, window=1), Memory(speed=1 / 3600), WindowLimits()).messages == 4
    assert window(seen(ready=500, workers=2, slots=32, window=1), Memory(speed=32 / 3600), LONG).messages == 64
    assert window(seen(ready=500, workers=4, window=1), Memory(speed=1 / 60), WindowLimits()).messages == 4 * (1 + 5)


def test_what_older_consumers_hold_counts_towards_what_long_jobs_run() -> None:
    """A worker more, or a job that ended: each hand-over leaves just as many messages as workers."""
    grown = window(seen(ready=500, workers=4, window=1, held=1), Memory(), LONG)
    assert (grown.messages, grown.changed) == (3, True)
    kept = window(seen(ready=500, workers=4, window=3, held=4, old_window_held=1), Memory(), LONG)
    assert not kept.changed
    ended = window(seen(ready=500, workers=4, window=1, held=3, old_window_held=2), Memory(), LONG)
    assert (ended.messages, ended.changed) == (1, True), "a new consumer of the same width: one more in all"
    shrunk = window(seen(ready=500, workers=2, window=4, held=4), Memory(), LONG)
    assert (shrunk.messages, shrunk.changed) == (1, True)
    assert not window(seen(ready=500, workers=2, window=1, held=4, old_window_held=4), Memory(), LONG).changed


def test_a_worker_that_leaves_with_its_hour_long_job_keeps_nothing_from_the_one_in_its_place() -> None:
    look = seen(ready=50, workers=1, retiring=1, window=1, held=1, beside=1)
    assert (window(look, Memory(), LONG).messages, window(look, Memory(), LONG).changed) == (1, True)
    after = seen(ready=50, workers=1, retiring=1, window=1, held=2, old_window_held=1, beside=1)
    assert not window(after, Memory(), LONG).changed


@given(
    workers=st.integers(1, 50),
    slots=st.integers(1, 40),
    steps=st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), max_size=12),
)
def test_long_jobs_come_to_just_as_many_as_run(workers: int, slots: int, steps: list[tuple[int, int]]) -> None:
    """Consumers as RabbitMQ has them, under backlog: each holds its prefetch as long as it is the current one."""
    held_by = [1]
    for at, (workers, ended) in enumerate([*steps, *[(workers, 0)] * 3]):  # noqa: B020
        for _ in range(ended):  # jobs of older consumers end first, and only the current one gets another message
            held_by[:-1] = _one_less(held_by[:-1])
        told = window(
            seen(
                now=float(10 * at),
                ready=500,
                workers=workers,
                slots=slots,
                window=held_by[-1],
                held=sum(held_by),
                old_window_held=sum(held_by[:-1]),
            ),
            Memory(),
            LONG,
        )
        if told.changed:
            held_by.append(told.messages)
    assert sum(held_by) >= workers * slots, "no worker idles"
    assert sum(held_by) <= max(workers * slots, max(w for w, _ in [*steps, (workers, 0)]) * slots + len(held_by))


def _one_less(held: list[int]) -> list[int]:
    for place, count in enumerate(held):
        if count:
            return [*held[:place], count - 1, *held[place + 1 :]]
    return held
