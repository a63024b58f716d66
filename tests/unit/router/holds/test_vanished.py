"""What was seen of queues, and which of them vanished."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rabbitray.actors.router.holds.vanished import VanishedQueues, waiting_reason
from rabbitray.actors.router.settlement.outstanding import OutstandingRetries


def test_a_queue_that_nobody_has_seen_is_no_event() -> None:
    queues = VanishedQueues()
    assert queues.gone("jobs", 10.0) is None
    assert (queues.events, queues.waiting) == ((), ())


@pytest.mark.parametrize(
    ("ready", "counts", "state", "messages"),
    [
        (0, {}, "made", 0),
        (5, {}, "missing", 5),
        (0, {"unacked": 2}, "missing", 2),
        (0, {"inside": 3}, "missing", 3),
        (5, {"inside": 3}, "missing", 5),
        (5, {"stays_s": 2.0}, "made", 0),  # it was seen 4 s before, and nothing stays in that rung for so long
        (5, {"stays_s": 60.0}, "missing", 5),
    ],
)
def test_what_had_messages_is_waited_for(ready: int, counts: dict[str, Any], state: str, messages: int) -> None:
    queues = VanishedQueues()
    queues.saw("jobs", ready, 10.0)
    event = queues.gone("jobs", 14.0, **counts)
    assert event is not None
    assert (event.state, event.messages, event.seen_s_ago) == (state, messages, 4.0)
    assert queues.waits_for("jobs") is (state == "missing")
    assert queues.gone("jobs", 15.0) is None, "that is known by now"


def test_one_that_vanishes_again_and_again_is_one_event_with_all_that_it_held() -> None:
    queues = VanishedQueues(wait=False)
    for number in range(3):
        queues.saw("jobs", 4, 10.0 * number)
        assert queues.gone("jobs", 10.0 * number + 1.0) is not None
    (event,) = queues.events
    assert (event.times, event.ready, event.state) == (3, 12, "made")
    assert str(event) == "queue 'jobs' vanished 3 times with 12 ready (last seen 1 s before)"
    assert queues.count == 3


def test_what_is_confirmed_is_made_without_a_word() -> None:
    queues = VanishedQueues()
    queues.saw("jobs", 1_200, 0.0)
    queues.gone("jobs", 3.0, unacked=50)
    (waiting,) = queues.waiting
    assert waiting_reason([waiting]) == (
        "queue 'jobs' vanished with 1,200 ready, 50 delivered and not acknowledged (last seen 3 s before). It is not "
        "made anew before somebody has looked: bring it back, or confirm the loss with `rabbitray resume --vanished`"
    )
    assert queues.confirm() == (waiting,)
    assert (queues.events, queues.gone("jobs", 4.0)) == ((), None)


def test_one_that_is_back_is_told_until_that_is_confirmed() -> None:
    queues = VanishedQueues()
    queues.saw("jobs", 7, 0.0)
    queues.gone("jobs", 1.0)
    back = queues.saw("jobs", 6, 2.0)
    assert back is not None
    assert queues.events == (back,)
    assert (back.state, back.ready, queues.waiting) == ("back", 7, ())


def test_the_next_router_goes_on_where_this_one_was() -> None:
    before = VanishedQueues(broker="rabbit:5672/")
    before.saw("jobs", 7, 1.0)
    before.saw("jobs.dead", 3, 1.0)
    before.gone("jobs", 2.0)
    kept = json.loads(json.dumps(before.state()))
    after = VanishedQueues(kept, broker="rabbit:5672/")
    assert after.events == before.events
    assert after.waits_for("jobs")
    dead = after.gone("jobs.dead", 5.0)
    assert dead is not None
    assert (dead.ready, dead.seen_s_ago) == (3, 4.0)
    declaring = VanishedQueues(kept, broker="rabbit:5672/", wait=False)
    assert [event.state for event in declaring.events] == ["made"], "it is not waited for any more"
    elsewhere = VanishedQueues(kept, broker="other:5672/")
    assert (elsewhere.events, elsewhere.gone("jobs.dead", 5.0)) == ((), None), "of another broker nothing is known"


@pytest.mark.parametrize(
    "kept", [None, 3, {"broker": "x", "depths": {"jobs": "many"}, "events": {"jobs": {"queue": 1, "new": 2}}}]
)
def test_what_else_stands_in_the_control_table_is_nothing(kept: object) -> None:
    queues = VanishedQueues(kept, broker="x")
    assert (queues.events, queues.gone("jobs", 1.0)) == ((), None)


def test_depths_are_worth_saving_where_the_next_router_would_act_otherwise() -> None:
    queues = VanishedQueues()
    assert not queues.worth_saving(queues.state())
    queues.saw("jobs", 0, 0.0)
    saved = queues.state()
    queues.saw("jobs", 0, 9.0)
    assert not queues.worth_saving(saved)
    queues.saw("jobs", 1, 10.0)
    assert queues.worth_saving(saved)
    saved = queues.state()
    queues.saw("jobs", 900, 11.0)
    assert not queues.worth_saving(saved)
    queues.gone("jobs", 12.0)
    assert queues.worth_saving(saved)


def test_copies_of_a_rung_that_is_gone_are_not_expected_any_more() -> None:
    outstanding = OutstandingRetries()
    outstanding.went_in("a", 1, 2_000, 0)
    outstanding.went_in("b", 1, 2_000, 1_500)
    outstanding.went_in("c", 1, 60_000, 0)
    assert outstanding.vanished(2_000, 3_000) == 1, "the time of the first is over: it has left that rung"
    assert outstanding.out == 2
    assert outstanding.vanished(2_000, 3_000) == 0
    assert outstanding.vanished(60_000, 3_000) == 1
    assert outstanding.out == 1
