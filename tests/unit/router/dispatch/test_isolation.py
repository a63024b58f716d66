"""The rule for a message that was alone when a worker was lost: only who ends workers is parked, after so many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.router.dispatch.isolation import Park, RunAgain, next_step
from rabbitray.actors.router.dispatch.member import WorkerLostError

CRASH = WorkerLostError("worker_crashed", "x", may_be_poison=True)
NODE = WorkerLostError("node_lost", "x", may_be_poison=False)


@given(st.integers(0, 9), st.integers(1, 9))
def test_a_loss_that_the_message_cannot_have_caused_counts_for_nothing(crashes: int, max_crashes: int) -> None:
    assert next_step(NODE, crashes=crashes, max_crashes=max_crashes) == RunAgain(crashes=crashes)


@given(st.lists(st.sampled_from([CRASH, NODE]), max_size=30), st.integers(1, 9))
def test_the_last_of_so_many_crashes_parks(losses: list[WorkerLostError], max_crashes: int) -> None:
    crashes = 0
    for nth, loss in enumerate(losses, 1):
        step = next_step(loss, crashes=crashes, max_crashes=max_crashes)
        crashes = step.crashes
        assert crashes == losses[:nth].count(CRASH)
        assert isinstance(step, Park) == (loss is CRASH and crashes == max_crashes)
        if isinstance(step, Park):
            return
