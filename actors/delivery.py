"""Delivery: a message and how to settle it; Parcel: the part of it that travels to a worker. Pure.

A delivery never leaves the router's process. A parcel carries the undecoded body and the few properties that
decoding and the result row need; a batch of parcels crosses to the worker as one msgpack buffer.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


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


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Parcel])


def pack_parcels(deliveries: Sequence[Delivery]) -> bytes:
    """The parcels of a batch as one buffer; position in the batch = index in the buffer."""
    return _encoder.encode([delivery.parcel for delivery in deliveries])


def unpack_parcels(buffer: bytes) -> list[Parcel]:
    """The inverse of `pack_parcels`."""
    return _decoder.decode(buffer)
