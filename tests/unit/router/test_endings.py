"""How the last jobs ended: too many dead letters are noticed at once, and forgotten once it is well again."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.message.parcel import Record
from rabbitray.actors.message.reply import Failure
from rabbitray.actors.router.endings import DEAD_IN_A_ROW_MOST, WINDOW, Endings
from rabbitray.actors.router.status import RING_TTL_S


def dead(count: int, error_class: str = "KeyError", error: str = "'name'") -> list[Failure]:
    return [Failure.permanent(Record(), "permanent", error, error_class) for _ in range(count)]


def test_six_thousand_of_six_thousand() -> None:
    endings = Endings()
    for batch in range(60):
        endings.add_dead(dead(100), float(batch))
    last = endings.last(60.0)
    assert last.too_many_dead
    assert (last.jobs, last.dead, last.in_a_row) == (WINDOW, WINDOW, 6_000)
    assert last.error is not None
    assert (last.error.error_class, last.error.count, last.error.example) == ("KeyError", WINDOW, "'name'")


def test_so_many_in_a_row_are_enough_and_one_less_is_not() -> None:
    endings = Endings()
    endings.add_good(1_000, 0.0)
    endings.add_dead(dead(DEAD_IN_A_ROW_MOST - 1), 0.0)
    assert not endings.last(0.0).too_many_dead
    endings.add_dead(dead(1), 0.0)
    assert endings.last(0.0).too_many_dead
    endings.add_good(1, 0.0)
    assert not endings.last(0.0).too_many_dead, "20 of 100 are a minority"


def test_more_than_half_of_the_last_hundred_are_too_many_in_whatever_order() -> None:
    endings = Endings()
    for _ in range(50):
        endings.add_good(1, 0.0)
        endings.add_dead(dead(1), 0.0)
    assert not endings.last(0.0).too_many_dead, "half is not more than half"
    endings.add_dead(dead(1), 0.0)
    assert endings.last(0.0).too_many_dead


def test_one_bad_message_of_a_quiet_queue_is_no_trouble() -> None:
    endings = Endings()
    endings.add_dead(dead(1), 0.0)
    assert not endings.last(0.0).too_many_dead


def test_it_is_well_again_once_jobs_are_done_and_an_hour_after_the_last_of_them() -> None:
    endings = Endings()
    endings.add_dead(dead(WINDOW), 0.0)
    endings.add_good(49, 1.0)
    assert endings.last(1.0).too_many_dead
    endings.add_good(1, 1.0)
    assert not endings.last(1.0).too_many_dead
    endings.add_dead(dead(WINDOW), 2.0)
    assert endings.last(2.0 + RING_TTL_S).too_many_dead
    assert endings.last(2.1 + RING_TTL_S).jobs == 0
    assert not endings.last(2.1 + RING_TTL_S).too_many_dead
    endings.add_dead(dead(1), 3.0 + RING_TTL_S)
    assert endings.last(3.0 + RING_TTL_S).in_a_row == 1, "what is forgotten is no row any more"


@pytest.mark.parametrize(
    ("limit", "count", "found"), [(0, 5_000, False), (1, 1, True), (3, 2, False), (500, 99, False)]
)
def test_the_setting(limit: int, count: int, found: bool) -> None:
    endings = Endings()
    endings.add_dead(dead(count), 0.0)
    assert endings.last(0.0, limit).too_many_dead == found


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 150)), max_size=40))
def test_the_window_holds_the_last_hundred_as_a_plain_list_would(steps: list[tuple[bool, int]]) -> None:
    endings, plain, row = Endings(), deque[bool](maxlen=WINDOW), 0
    for good, count in steps:
        if good:
            endings.add_good(count, 0.0)
        else:
            endings.add_dead(dead(count), 0.0)
        plain.extend([good] * count)
        row = 0 if good else row + count
    last = endings.last(0.0)
    assert (last.jobs, last.dead, last.in_a_row) == (len(plain), plain.count(False), row)
