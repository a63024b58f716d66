"""What went into rungs and has not come back."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.message import headers as h
from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.settlement.outstanding import OutstandingRetries
from tests.kit.deliveries import delivery

AGAIN_MS = 360_000
THROUGH_A_RUNG: dict[str, Any] = {h.DEATHS: [{"queue": "q.retry.1000", "reason": "expired"}]}


def back(message_id: str, attempt: int, *, redelivered: bool = False, through_rung: bool = True) -> Delivery:
    """A copy that was delivered."""
    properties = type("Properties", (), {"headers": THROUGH_A_RUNG if through_rung else {}})()
    one = delivery(message_id=message_id, attempt=attempt, redelivered=redelivered, properties=properties)
    one.returned = True
    return one


def test_what_went_in_is_out_until_it_comes_back() -> None:
    retries = OutstandingRetries()
    retries.went_in("a", 1, 1_000, 0)
    retries.went_in("b", 1, 2_000, 0)
    retries.came_back(back("a", 1))
    assert (retries.out, retries.overdue) == (1, 0)
    retries.came_back(back("a", 1, redelivered=True))
    retries.came_back(back("stranger", 1))
    assert retries.out == 1
    retries.came_back(back("b", 1, redelivered=True))  # its first delivery did not reach us
    assert (retries.out, retries.state()) == (0, None)


def test_records_of_one_message_are_counted_one_by_one() -> None:
    retries = OutstandingRetries()
    for _ in range(3):
        retries.went_in("packed", 1, 1_000, 0)
    retries.came_back(back("packed", 1))
    assert retries.out == 2


def test_it_is_waited_for_as_long_as_rabbitmq_may_try_twice_more() -> None:
    retries = OutstandingRetries()
    retries.went_in("a", 1, 1_000, 0)
    retries.went_in("b", 1, 60_000, 0)
    retries.expire(1_000 + AGAIN_MS)
    assert (retries.out, retries.overdue) == (2, 0)
    retries.expire(1_001 + AGAIN_MS)
    assert (retries.out, retries.overdue) == (1, 1)
    retries.expire(60_001 + AGAIN_MS)
    assert (retries.out, retries.overdue) == (0, 2)
    retries.came_back(back("a", 1))
    assert retries.overdue == 1, "it did come back, later"


def test_a_broker_that_tries_again_sooner_is_waited_for_no_longer() -> None:
    retries = OutstandingRetries(hop_again_s=5)
    assert retries.until_ms == 0
    retries.went_in("a", 1, 60_000, 0)
    retries.went_in("b", 1, 1_000, 7)
    assert retries.until_ms == 70_000
    retries.expire(11_008)
    assert (retries.out, retries.overdue, retries.until_ms) == (1, 1, 70_000)
    assert OutstandingRetries(retries.state(), hop_again_s=1).until_ms == 70_000
    retries.expire(70_001)
    assert (retries.out, retries.overdue, retries.until_ms) == (0, 2, 0)


def test_with_the_main_queue_goes_what_was_back_in_it() -> None:
    retries = OutstandingRetries()
    retries.went_in("a", 1, 2_000, 0)
    retries.went_in("b", 1, 2_000, 1_000)
    retries.went_in("c", 1, 1_000, 0)
    retries.main_vanished(2_500)
    assert retries.out == 1
    retries.expire(10_000_000)
    assert (retries.out, retries.overdue) == (0, 1), "what was in a rung is missed"


def test_the_next_router_goes_on_counting() -> None:
    first = OutstandingRetries()
    for number in range(5):
        first.went_in(f"m{number}", 1, 1_000, 0)
    first.came_back(back("m0", 1))
    second = OutstandingRetries(first.state())
    assert second.out == 4
    second.came_back(back("m1", 1))
    second.came_back(back("m0", 1, redelivered=True))  # the first router held it as it ended
    second.came_back(back("replayed", 0, through_rung=False))
    assert second.out == 3
    second.went_in("m1", 2, 1_000, 10_000)
    assert OutstandingRetries(second.state()).out == 4
    second.expire(1_001 + AGAIN_MS)
    assert (second.out, second.overdue) == (1, 3)
    assert OutstandingRetries(second.state()).overdue == 3


def test_what_stands_in_the_control_table_hurts_nobody() -> None:
    for kept in (None, 7, "out", [], {"out": -1, "until_ms": "x", "overdue": True}):
        assert OutstandingRetries(kept).state() is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from("ab"), st.integers(0, 2), st.sampled_from([0, 1_000, 2_000, -1, -2]), st.integers(0, 400_000)
    ),
    max_size=40,
)


@given(STEPS)
def test_the_count_is_what_is_kept_whatever_happens(steps: list[tuple[str, int, int, int]]) -> None:
    retries, now, went = OutstandingRetries(), 0, 0
    for name, attempt, delay, later in steps:
        now += later
        if delay > 0:
            retries.went_in(name, attempt, delay, now)
            went += 1
        elif delay == 0:
            retries.came_back(back(name, attempt))
        elif delay == -1:
            retries.expire(now)
        else:
            retries.main_vanished(now)
        kept = sum(stay.count for stays in retries._rungs.values() for stay in stays.values())
        assert retries.out == kept
        assert 0 <= retries.out + retries.overdue <= went
