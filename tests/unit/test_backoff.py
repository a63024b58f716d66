"""Back-off: how the waits between tries grow, and the question that is put to the store again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.backoff import Backoff

BACKOFFS = st.builds(
    Backoff,
    first_s=st.floats(0.001, 10),
    most_s=st.floats(10, 1_000),
    jitter=st.tuples(st.floats(0, 1), st.floats(1, 2)),
    failures=st.integers(0, 10_000),
)


def test_a_wait_doubles_with_each_failure_up_to_the_longest() -> None:
    backoff = Backoff(first_s=0.5, most_s=3.0)
    waits = []
    for _ in range(5):
        waits.append(backoff.delay_s())
        backoff = backoff.failed()
    assert waits == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert backoff.reset() == Backoff(first_s=0.5, most_s=3.0)


@given(BACKOFFS, st.floats(0, 1))
def test_a_wait_stays_within_its_jitter_and_never_shrinks(backoff: Backoff, share: float) -> None:
    least, most = backoff.jitter
    delay_s = backoff.delay_s(share)
    assert backoff.first_s * least <= delay_s * (1 + 1e-9)
    assert delay_s <= backoff.most_s * most * (1 + 1e-9)
    assert backoff.failed().delay_s(share) >= delay_s
