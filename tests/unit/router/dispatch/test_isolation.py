"""The rule for what a lost worker leaves: nobody is forgotten, and only who ends workers alone is parked."""

from __future__ import annotations

from collections import deque
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.router.delivery import Delivery
from rabbitray.actors.router.dispatch.isolation import ParkSuspect, Requeue, Split, Step, next_step
from rabbitray.actors.router.dispatch.member import WorkerLostError
from tests.kit.deliveries import delivery

CRASH = WorkerLostError("worker_crashed", "x", may_be_poison=True)
NODE = WorkerLostError("node_lost", "x", may_be_poison=False)
GROUPS = st.integers(0, 65).map(lambda count: [delivery(tag) for tag in range(count)])


@st.composite
def situations(draw: st.DrawFn) -> dict[str, Any]:
    """A group and how it was lost, as the quarantine may meet it: who ran alone was one message."""
    alone = draw(st.booleans())
    return {
        "group": [delivery(tag) for tag in range(draw(st.integers(0, 1 if alone else 65)))],
        "loss": draw(st.sampled_from([CRASH, NODE])),
        "alone": alone,
        "crashes": draw(st.integers(0, 5)) if alone else 0,
        "max_crashes": draw(st.integers(1, 4)),
        "last_is_of_same_worker": draw(st.booleans()),
    }


def held(step: Step) -> list[Delivery]:
    """All deliveries of a step, in its order."""
    match step:
        case Requeue(group=group):
            return [*group]
        case Split(first=first, second=second):
            return [*first, *second]
        case ParkSuspect(delivery=one):
            return [one]


@given(situations())
def test_every_delivery_is_in_exactly_one_outcome(situation: dict[str, Any]) -> None:
    assert held(next_step(**situation)) == situation["group"]


@given(situations())
def test_only_a_message_that_ended_workers_alone_so_often_is_parked(situation: dict[str, Any]) -> None:
    parked = isinstance(next_step(**situation), ParkSuspect)
    assert parked == (
        situation["loss"].may_be_poison
        and situation["alone"]
        and len(situation["group"]) == 1
        and situation["crashes"] >= situation["max_crashes"]
        and not situation["last_is_of_same_worker"]
    )


@given(situations())
def test_a_loss_that_no_message_may_have_caused_runs_the_group_again_and_counts_for_nothing(
    situation: dict[str, Any],
) -> None:
    step = next_step(**situation | {"loss": NODE})
    assert step == Requeue(group=situation["group"], uncount=situation["alone"])


@given(situations())
def test_a_crash_is_taken_back_only_where_no_message_may_have_caused_it(situation: dict[str, Any]) -> None:
    step = next_step(**situation | {"loss": CRASH})
    assert not isinstance(step, Requeue) or not step.uncount


@given(GROUPS.filter(lambda group: len(group) > 1))
def test_a_group_that_may_hold_poison_is_halved(group: list[Delivery]) -> None:
    step = next_step(group, CRASH, alone=False, crashes=0, max_crashes=2, last_is_of_same_worker=False)
    assert isinstance(step, Split)
    assert [*step.first, *step.second] == group
    assert 0 <= len(step.second) - len(step.first) <= 1
    assert step.first


@given(GROUPS)
def test_what_the_batches_of_one_worker_leave_is_one_group(group: list[Delivery]) -> None:
    step = next_step(group, CRASH, alone=False, crashes=0, max_crashes=2, last_is_of_same_worker=True)
    assert step == Requeue(group=group, with_last=True)


@given(st.data(), st.integers(1, 40), st.integers(1, 3))
def test_whatever_ends_workers_is_found_and_nothing_else(data: st.DataObject, size: int, max_crashes: int) -> None:
    """Lost nodes in between included: the steps end, with exactly those parked that end their worker."""
    killers = data.draw(st.sets(st.integers(0, size - 1)))
    lost_nodes = data.draw(st.integers(0, 5))
    line: deque[list[Delivery]] = deque([[delivery(tag) for tag in range(size)]])
    crashes: dict[int, int] = {}
    finished, parked = set[int](), set[int]()
    while line:
        group = line.popleft()
        tags = {one.tag for one in group}
        loss, lost_nodes = (NODE, lost_nodes - 1) if lost_nodes else (CRASH, 0)
        if loss is CRASH and not tags & killers:
            finished |= tags
            continue
        alone = len(group) == 1
        count = crashes.get(group[0].tag, 0) + 1 if alone else 0
        step = next_step(group, loss, alone=alone, crashes=count, max_crashes=max_crashes, last_is_of_same_worker=False)
        match step:
            case Requeue(group=again, uncount=uncount):
                crashes[group[0].tag] = count - uncount
                line.append([*again])
            case Split(first=first, second=second):
                line += [[*first], [*second]]
            case ParkSuspect(delivery=one):
                parked.add(one.tag)
    assert parked == killers
    assert finished == set(range(size)) - killers
