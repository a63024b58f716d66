"""Delivery: a message and how to settle it; Parcel: the part of it that travels to a worker. Pure.

A delivery never leaves the router's process. A parcel carries the undecoded body and the few properties that
decoding and the result row need; a batch of parcels crosses to the worker as one msgpack buffer. Large bodies lie
beside it as buffers of their own (pickle 5, out of band), which Ray writes to where it wants them without another
copy in the router.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pickle import PickleBuffer
from typing import Final

import msgspec

BESIDE_FROM_BYTES: Final = 32 * 1024
"""A body from here on is not copied into the buffer of its batch; below, the copy costs less than a buffer more."""


class Parcel(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """What a worker sees of one message. Times are Unix milliseconds, 0 when unknown."""

    body: bytes
    content_type: str
    content_encoding: str
    message_id: str | None
    key: str | None  # the key header; a packed message never has one
    attempt: int  # charged runs before this one, clamped; -1 when the header is absent (the body decides)
    first_seen_ms: int
    published_ms: int
    received_ms: int
    traceparent: str | None
    tracestate: str | None


class Delivery(msgspec.Struct, gc=False, eq=False, kw_only=True):
    """One delivered message. `tag` is valid on the channel of `generation` only."""

    parcel: Parcel
    properties: object  # AMQP basic properties with the header table, as the client library decoded them
    generation: int
    tag: int
    consumer: int  # number of the consumer that got it: window hand-overs count what the old ones hold
    size: int  # bytes of the body
    records: int  # jobs inside: 1 unless packed
    arrived_at: float  # monotonic seconds
    redelivered: bool
    refused: str | None = None  # why it must not be decoded: `reason: detail`
    returned: bool = False  # came back from a rung: not an arrival
    due_ms: int = 0  # not to be run before, Unix ms
    replays: int = 0  # how often it was replayed from the dead letters


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitParcels:
    """Parcels with large bodies. `bodies` are those of `positions`, whose parcels have an empty one.

    On arrival `parcels` and `bodies` are buffers that Ray lends out.
    """

    parcels: PickleBuffer
    positions: list[int]
    bodies: list[PickleBuffer]


Shipment = bytes | SplitParcels
"""The parcels of a batch, on their way."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Parcel])


def pack_parcels(parcels: Sequence[Parcel]) -> Shipment:
    """The parcels of a batch as one argument of a call; position in the batch = index among the parcels."""
    positions = [at for at, parcel in enumerate(parcels) if len(parcel.body) >= BESIDE_FROM_BYTES]
    bodies = [PickleBuffer(parcels[at].body) for at in positions]
    small = list(parcels)
    for at in positions:
        small[at] = msgspec.structs.replace(small[at], body=b"")
    encoded = _encoder.encode(small)
    if not positions:
        return encoded
    return SplitParcels(parcels=PickleBuffer(encoded), positions=positions, bodies=bodies)


def unpack_parcels(shipment: Shipment) -> list[Parcel]:
    """The inverse of `pack_parcels`. Bodies are copies: nothing of the argument's memory stays in use."""
    if isinstance(shipment, bytes):
        return _decoder.decode(shipment)
    parcels = _decoder.decode(shipment.parcels)
    for at, body in zip(shipment.positions, shipment.bodies, strict=True):
        parcels[at] = msgspec.structs.replace(parcels[at], body=bytes(body))
    return parcels
