"""The ack ledger: only legal frames, every finished tag acked once, nothing open ever acked."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.router.intake.ack_ledger import Ack, AckLedger

WAIT_S = 0.2


class Channel:
    """RabbitMQ's side of the tags: refuses what is unknown or already settled."""

    def __init__(self) -> None:
        self.outstanding: list[int] = []
        self.acked: list[int] = []

    def receive(self, ack: Ack) -> None:
        assert ack.tag in self.outstanding, f"406: unknown delivery tag {ack.tag}"
        settled = [tag for tag in self.outstanding if tag == ack.tag or (ack.multiple and tag < ack.tag)]
        self.acked += settled
        self.outstanding = [tag for tag in self.outstanding if tag not in settled]

    def nack(self, tag: int) -> None:
        assert tag in self.outstanding, f"406: unknown delivery tag {tag}"
        self.outstanding.remove(tag)


def test_a_contiguous_run_is_one_frame() -> None:
    ledger = AckLedger(single_after_s=WAIT_S)
    for tag in range(1, 6):
        ledger.delivered(tag)
    ledger.finish([3, 1, 2], 0.0)
    assert ledger.due(0.0) == [Ack(tag=3, multiple=True)]
    assert ledger.unacked == ledger.open == 2


def test_finished_behind_a_slow_one_are_acked_singly_after_a_moment() -> None:
    ledger = AckLedger(single_after_s=WAIT_S)
    for tag in range(1, 4):
        ledger.delivered(tag)
    ledger.finish([2, 3], 1.0)
    assert ledger.due(1.0) == []
    assert ledger.next_due() == 1.0 + WAIT_S
    assert ledger.due(1.0 + WAIT_S) == [Ack(tag=2, multiple=False), Ack(tag=3, multiple=False)]
    assert ledger.next_due() is None
    ledger.finish([1], 2.0)
    assert ledger.due(2.0) == [Ack(tag=1, multiple=True)]


def test_finished_ones_behind_a_given_back_one_are_still_acked() -> None:
    ledger = AckLedger(single_after_s=WAIT_S)
    ledger.delivered(1)
    ledger.delivered(2)
    ledger.finish([2], 0.0)
    assert ledger.due(0.0) == []
    assert ledger.give_back([1]) == [1]
    assert ledger.due(0.0) == [Ack(tag=2, multiple=True)]
    assert ledger.unacked == 0


def test_what_is_settled_is_never_settled_again() -> None:
    ledger = AckLedger(single_after_s=WAIT_S)
    ledger.delivered(1)
    ledger.delivered(2)
    ledger.finish([1], 0.0)
    assert ledger.give_back([1, 2, 2, 7]) == [2]
    assert ledger.due(0.0) == [Ack(tag=1, multiple=True)]
    ledger.finish([1, 2, 9], 0.0)
    assert ledger.due(math.inf) == []
    assert ledger.give_back([1, 2]) == []


Step = tuple[str, int, float]
steps = st.lists(
    st.tuples(
        st.sampled_from(["deliver", "finish", "give_back", "flush"]),
        st.integers(0, 30),
        st.floats(0, 0.3, allow_nan=False),
    ),
    max_size=120,
)


@given(steps)
def test_any_order_of_finishing_and_time(plan: list[Step]) -> None:
    ledger, channel, now, last = AckLedger(single_after_s=WAIT_S), Channel(), 0.0, 0
    open_tags: list[int] = []
    finished: set[int] = set()
    for what, number, passes in plan:
        now += passes
        if what == "deliver":
            last += 1
            channel.outstanding.append(last)
            open_tags.append(last)
            ledger.delivered(last)
        elif what == "finish" and open_tags:
            tag = open_tags.pop(number % len(open_tags))
            finished.add(tag)
            ledger.finish([tag], now)
        elif what == "give_back" and open_tags:
            tag = open_tags.pop(number % len(open_tags))
            for given in ledger.give_back([tag]):
                channel.nack(given)
        else:
            for frame in ledger.due(now):
                channel.receive(frame)
        assert not set(open_tags) & set(channel.acked), "an open tag was acked"
        assert set(channel.acked) <= finished
        assert ledger.unacked <= len(channel.outstanding)
        assert ledger.open == len(open_tags)
    for frame in ledger.due(math.inf):
        channel.receive(frame)
    assert sorted(channel.acked) == sorted(finished), "every finished tag is acked, once"
    assert sorted(channel.outstanding) == sorted(open_tags)
    assert ledger.unacked == len(open_tags)


@given(st.permutations(range(1, 41)))
def test_what_it_remembers_is_bounded_by_what_is_unacked(order: list[int]) -> None:
    ledger, channel = AckLedger(single_after_s=WAIT_S), Channel()
    for tag in range(1, 41):
        ledger.delivered(tag)
        channel.outstanding.append(tag)
    for moment, tag in enumerate(order):
        ledger.finish([tag], moment)
        for frame in ledger.due(moment):
            channel.receive(frame)
        ledger.next_due()
        remembered = len(ledger._finished) + len(ledger._waiting)
        assert remembered <= 2, "finished tags wait for at most one moment here"
        assert len(ledger._settled) <= 40 - min(channel.outstanding, default=40)
    assert ledger.unacked == 0
    assert not ledger._settled
