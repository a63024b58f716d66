"""Batches and the buffer in front of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.router.delivery import Batch, Buffer
from tests.kit.deliveries import delivery


def test_a_message_leaves_its_batch_once() -> None:
    batch = Batch([delivery(tag) for tag in (1, 2, 3)])
    assert [one.tag for one in batch.take([2, 0])] == [3, 1]
    assert batch.take([2, 0, 9]) == []
    assert batch.pending == {1}


def test_batches_have_names_of_their_own() -> None:
    assert len({Batch([]).id for _ in range(100)}) == 100


def test_a_batch_is_bounded_by_count_and_bytes_but_never_empty() -> None:
    buffer = Buffer()
    for tag in range(1, 7):
        buffer.put(delivery(tag, b"x" * 10))
    assert [one.tag for one in buffer.take(2, 1_000)] == [1, 2]
    assert [one.tag for one in buffer.take(100, 25)] == [3, 4]
    assert [one.tag for one in buffer.take(1, 1)] == [5], "larger than the bound, but alone"
    assert (len(buffer), buffer.size, buffer.records) == (1, 10, 1)


def test_a_batch_holds_no_more_messages_than_its_span_can_name() -> None:
    buffer = Buffer()
    for tag in range(1, 601):
        buffer.put(delivery(tag))
    assert [len(buffer.take(2_500, 1_000_000)) for _ in range(2)] == [500, 100]


def test_a_packed_message_counts_its_records() -> None:
    buffer = Buffer()
    buffer.put(delivery(1, records=8))
    buffer.put(delivery(2, records=8))
    assert buffer.records == 16
    assert [one.tag for one in buffer.take(10, 1_000)] == [1]


def test_what_comes_back_goes_to_the_front_in_order() -> None:
    buffer = Buffer()
    for tag in range(1, 5):
        buffer.put(delivery(tag, arrived_at=float(tag)))
    back = buffer.take(2, 1_000)
    buffer.put_back(back)
    assert buffer.oldest_at == 1.0
    assert [one.tag for one in buffer.take(4, 1_000)] == [1, 2, 3, 4]
    assert buffer.oldest_at is None


steps = st.lists(st.tuples(st.sampled_from(["put", "take", "back", "remove"]), st.integers(1, 9)), max_size=60)


@given(steps)
def test_counts_always_match_what_is_inside(plan: list[tuple[str, int]]) -> None:
    buffer, taken, tag = Buffer(), [delivery(0)], 0
    taken.clear()
    for what, number in plan:
        if what == "put":
            tag += 1
            buffer.put(delivery(tag, b"x" * number, records=number))
        elif what == "take":
            taken += buffer.take(number, 20)
        elif what == "back":
            buffer.put_back(taken)
            taken = []
        else:
            buffer.remove(lambda one, step=number: one.tag % step == 0)  # type: ignore[misc] # bound on purpose
        inside = list(buffer._waiting)
        assert len(buffer) == len(inside)
        assert buffer.size == sum(one.size for one in inside)
        assert buffer.records == sum(one.records for one in inside)
