"""How many probes go out while an outage holds, and when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.backoff import Backoff
from rabbitray.actors.router.holds.probes import ProbeRounds


def rounds_of(most: int = 100) -> ProbeRounds:
    pause = Backoff(first_s=1.0, most_s=30.0)
    return ProbeRounds(pause, most=most, start_within_s=10.0, half_life_s=60.0)


def probe(rounds: ProbeRounds, now: float, most: int = 1_000) -> int:
    """All probes of a round start and fail at once; at most so many, for the queue has no more."""
    count = min(rounds.begin_round(now), most)
    for _ in range(count):
        rounds.started(now)
        rounds.failed()
    return count


def test_each_round_has_twice_as_many_as_failed_before_up_to_a_bound() -> None:
    rounds = rounds_of()
    rounds.begin(0.0)
    found = {second: count for second in range(220) if (count := probe(rounds, float(second)))}
    assert found == {1: 1, 3: 2, 7: 4, 15: 8, 31: 16, 61: 32, 91: 64, 121: 100, 151: 100, 181: 100, 211: 100}
    assert sum(found.values()) > 500, "so many bad ones in front are passed within 5 minutes"


def test_where_little_waits_the_rounds_stay_small() -> None:
    rounds = rounds_of()
    rounds.begin(0.0)
    sizes = [rounds.width for second in range(200) if probe(rounds, float(second), most=3)]
    assert max(sizes) == 6


def test_after_a_round_without_any_message_the_next_is_of_one() -> None:
    rounds = rounds_of()
    rounds.begin(0.0)
    assert [probe(rounds, at) for at in (1.0, 3.0, 7.0)] == [1, 2, 4]
    assert rounds.begin_round(15.0) == 8
    assert rounds.begin_round(31.0) == 1


def test_a_round_starts_no_probe_after_its_time() -> None:
    rounds = rounds_of()
    rounds.begin(0.0)
    for at in (1.0, 3.0, 7.0, 15.0):
        probe(rounds, at)
    assert rounds.begin_round(31.0) == 16
    assert not rounds.is_over(50.0), "no message has come yet: the first one may still be a probe"
    rounds.started(50.0)
    assert (rounds.left(59.9), rounds.is_over(59.9)) == (15, False)
    assert (rounds.left(60.0), rounds.is_over(60.0)) == (0, True)


def test_the_next_hold_begins_with_what_the_last_one_came_to_and_less_the_longer_ago_it_was() -> None:
    for later_s, first in ((0.0, 64), (60.0, 32), (120.0, 16), (3_600.0, 1)):
        rounds = rounds_of()
        rounds.begin(0.0)
        for at in (1.0, 3.0, 7.0, 15.0, 31.0, 61.0, 91.0):
            probe(rounds, at)
        rounds.end(100.0)
        rounds.begin(100.0 + later_s)
        assert rounds.begin_round(101.0 + later_s) == first


@given(st.lists(st.tuples(st.floats(0, 40), st.integers(0, 200), st.booleans()), max_size=60), st.integers(1, 100))
def test_a_service_that_is_down_is_never_asked_more_often_than_promised(
    steps: list[tuple[float, int, bool]], most: int
) -> None:
    rounds, now, begun = rounds_of(most), 0.0, [0.0]
    rounds.begin(now)
    for wait_s, waiting, reached in steps:
        now += wait_s
        if count := rounds.begin_round(now):
            assert count <= most
            assert now - begun[-1] >= 1.0 - 1e-9  # sums of floats
            begun.append(now)
        while waiting and rounds.left(now):
            waiting -= 1
            rounds.started(now)
            if reached:
                rounds.failed()
            else:
                rounds.said_nothing(now)
