"""The rule for a message that was alone when a worker was lost: only who ends workers is parked, after so many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.router.dispatch.isolation import SPARED_MOST, LoneDeaths, Park, RunAgain, next_step
from rabbitray.actors.router.dispatch.member import WorkerLostError

CRASH = WorkerLostError("worker_crashed", "x", may_be_poison=True)
NODE = WorkerLostError("node_lost", "x", may_be_poison=False)
FULL_NODE = WorkerLostError("out_of_memory", "x", may_be_poison=True, merely_chosen=True)
DEATHS = st.builds(LoneDeaths, crashes=st.integers(0, 9), spared=st.integers(0, SPARED_MOST))


@given(DEATHS, st.integers(1, 9))
def test_a_loss_that_the_message_cannot_have_caused_counts_for_nothing(before: LoneDeaths, max_crashes: int) -> None:
    assert next_step(NODE, before, max_crashes=max_crashes) == RunAgain(deaths=before)


@given(st.lists(st.sampled_from([CRASH, NODE]), max_size=30), st.integers(1, 9))
def test_the_last_of_so_many_crashes_parks(losses: list[WorkerLostError], max_crashes: int) -> None:
    deaths = LoneDeaths()
    for nth, loss in enumerate(losses, 1):
        step = next_step(loss, deaths, max_crashes=max_crashes)
        deaths = step.deaths
        assert deaths == LoneDeaths(crashes=losses[:nth].count(CRASH))
        assert isinstance(step, Park) == (loss is CRASH and deaths.crashes == max_crashes)
        if isinstance(step, Park):
            return


@given(st.integers(1, 9))
def test_on_a_full_node_a_message_is_innocent_but_not_without_end(max_crashes: int) -> None:
    deaths, runs = LoneDeaths(), 0
    while True:
        runs += 1
        step = next_step(FULL_NODE, deaths, max_crashes=max_crashes)
        deaths = step.deaths
        assert deaths.crashes == max(0, runs - SPARED_MOST)
        if isinstance(step, Park):
            break
    assert runs == SPARED_MOST + max_crashes
