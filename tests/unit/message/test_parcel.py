"""Parcels: packed for the way to another process and unpacked there."""

from __future__ import annotations

import pickle

from hypothesis import example, given
from hypothesis import strategies as st

from rabbitray.actors.message.headers import header_text
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.parcel import BESIDE_FROM_BYTES, identity, pack_parcels, unpack_parcels
from tests.kit.deliveries import delivery, parcel


def test_parcels_travel_unchanged() -> None:
    deliveries = [delivery(tag, bytes([tag]) * tag, key=f"k{tag}", attempt=tag) for tag in range(1, 5)]
    assert unpack_parcels(pack_parcels([one.parcel for one in deliveries])) == [one.parcel for one in deliveries]


def test_large_bodies_cross_to_another_process_without_a_copy_of_ours() -> None:
    deliveries = [delivery(1, b"small"), delivery(2, b"x" * BESIDE_FROM_BYTES), delivery(3, b"y" * 1_000_000)]
    crossing: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(
        pack_parcels([one.parcel for one in deliveries]), protocol=5, buffer_callback=crossing.append
    )
    assert len(pickled) < 1_000
    assert {id(one.parcel.body) for one in deliveries[1:]} <= {id(buffer.raw().obj) for buffer in crossing}
    arrived = pickle.loads(pickled, buffers=[memoryview(bytes(buffer.raw())) for buffer in crossing])
    parcels = unpack_parcels(arrived)
    assert parcels == [one.parcel for one in deliveries]
    assert {type(parcel.body) for parcel in parcels} == {bytes}


@given(st.integers(1, 255).map("\u00e4".__mul__), st.integers(1, 10**6))
@example("x" * 255, 1)
@example("x" * 252, 999)
def test_a_record_without_an_id_is_called_so_that_its_copy_can_carry_the_name(message_id: str, record: int) -> None:
    """A key header that is not read would make it another job: the first record of its message."""
    name = identity(Job(id=None), parcel(message_id=message_id), record)
    assert header_text(name) == name
    others = [identity(Job(id=None), parcel(message_id=message_id), other) for other in (0, record + 1)]
    others.append(identity(Job(id=None), parcel(message_id=message_id + "x"), record))
    assert name not in others
