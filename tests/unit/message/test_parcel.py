"""Parcels: packed for the way to another process and unpacked there."""

from __future__ import annotations

import pickle

from rabbitray.actors.message.parcel import BESIDE_FROM_BYTES, pack_parcels, unpack_parcels
from tests.kit.deliveries import delivery


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
