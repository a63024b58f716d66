"""Parcel: the part of a message that travels to a worker, how a batch of parcels is packed, and its records. Pure.

A parcel carries the undecoded body and the few properties that decoding and the result row need; a batch of parcels
crosses to the worker as one msgpack buffer. Large bodies lie beside it as buffers of their own (pickle 5, out of
band), which Ray writes to where it wants them without another copy in the router.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pickle import PickleBuffer
from typing import Final

import msgspec

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.keys import DEFAULT_RULE, Found, KeyRule, key_in_body
from rabbitray.actors.message.message import Envelope
from rabbitray.actors.message.wire import (
    REPORT_CODES,
    MessageFormat,
    MessageLimits,
    TypeCodes,
    is_packed_type,
    read_head,
    read_record_head,
    split,
)

BESIDE_FROM_BYTES: Final = 32 * 1024
"""A body from here on is not copied into the buffer of its batch; below, the copy costs less than a buffer more."""


_ID_KEPT: Final = 200

MAX_ATTEMPT: Final = h.MAX_COUNT


class Parcel(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """What a worker sees of one message. Times are Unix milliseconds, 0 when unknown.

    `published_ms`: when its producer sent it, or, of one that was replayed from the dead letters, when that was.
    """

    body: bytes
    content_type: str
    content_encoding: str
    message_id: str | None
    key: str | None  # what its headers and properties say, see `key_in_delivery`; by default the key header
    attempt: int  # charged runs before this one, clamped; -1 when the header is absent (the body decides)
    first_seen_ms: int
    published_ms: int
    received_ms: int
    traceparent: str | None
    tracestate: str | None
    again: bool = False  # it, or the message that it is a copy of, was delivered before
    stamped: bool = False  # it has the header that our publisher writes: an earlier version wrote no mark
    envelope: Envelope | None = None  # only for a worker that asks for messages
    missing: str = ""  # why the header or property that the rule names is no key, in words


class Record(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One job of a message, or a message that was not decoded: what its copy or dead letter is made from."""

    record: int = 0  # its index in the message
    attempt: int = 0  # charged runs before this one
    key: str | None = None
    message_id: str | None = None
    message_type: str | None = None
    body: bytes | None = None  # the record alone, encoded; None: it stands for the whole message
    content_type: str | None = None  # of `body`


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


def shipment_bytes(shipment: Shipment) -> int:
    """What a shipment that was packed here weighs."""
    if isinstance(shipment, bytes):
        return len(shipment)
    return sum(buffer.raw().nbytes for buffer in (shipment.parcels, *shipment.bodies))


def unpack_parcels(shipment: Shipment) -> list[Parcel]:
    """The inverse of `pack_parcels`. Bodies are copies: nothing of the argument's memory stays in use."""
    if isinstance(shipment, bytes):
        return _decoder.decode(shipment)
    parcels = _decoder.decode(shipment.parcels)
    for at, body in zip(shipment.positions, shipment.bodies, strict=True):
        parcels[at] = msgspec.structs.replace(parcels[at], body=bytes(body))
    return parcels


def attempt_of(job: Job, parcel: Parcel) -> int:
    """The charged runs before this one: the header says it, else the record itself."""
    return parcel.attempt if parcel.attempt >= 0 else min(max(job.retry_count, 0), MAX_ATTEMPT)


def identity(job: Job, parcel: Parcel, record: int | None) -> str | None:
    """The key of a job: the key header, else the record's own id, else the message id (with its index if packed).

    `record`: index among several records; a key header cannot mean all of them. None when the job is alone.
    """
    if parcel.key is not None and record is None:
        return parcel.key
    if job.id is not None:
        return job.id
    if parcel.message_id is None:
        return None
    return _numbered(parcel.message_id, record) if record else parcel.message_id


def key_of(job: Job, parcel: Parcel, record: int | None, rule: KeyRule) -> str | None:
    """The key of a job by the rule of its queue; `record` as in `identity`, which is the default.

    The records of a packed message have one header and one list of properties: behind the first each has its number.
    """
    match rule.place:
        case "default":
            return identity(job, parcel, record)
        case "none":
            return None
        case "body":
            return _in_body(job, parcel, record, rule).key
        case _:
            return _numbered(parcel.key, record) if record and parcel.key is not None else parcel.key


def missing_key(job: Job, parcel: Parcel, record: int | None, rule: KeyRule) -> str:
    """Why a job has no key, in words that name the rule."""
    if rule.place == "default":
        return "no key header, no id in the body, no message_id"
    why = _in_body(job, parcel, record, rule).missing if rule.place == "body" else parcel.missing
    return f"{why}; key = {rule.text}"


def _in_body(job: Job, parcel: Parcel, record: int | None, rule: KeyRule) -> Found:
    """A copy of ours says in a header what was found in its body before."""
    if parcel.key is not None and record is None:
        return Found(key=parcel.key)
    return key_in_body(rule, job.payload)


def _numbered(message_id: str, record: int) -> str:
    """The name of a record of a packed message; short enough for the key header of a copy, which is not read beyond."""
    name = f"{message_id}#{record}"
    if len(name) <= h.MAX_TEXT:
        return name
    digest = hashlib.blake2b(message_id.encode("utf-8", "replace"), digest_size=16).hexdigest()
    return f"{message_id[:_ID_KEPT]}~{digest}#{record}"


def is_packed(parcel: Parcel) -> bool:
    """Whether the message holds many records."""
    return is_packed_type(parcel.content_type)


def whole_message(parcel: Parcel) -> Record:
    """The record that stands for a message as a whole, as far as it is known without decoding it."""
    return Record(attempt=max(parcel.attempt, 0), key=parcel.key, message_id=parcel.message_id)


def records_of(
    parcel: Parcel,
    limits: MessageLimits,
    codes: TypeCodes = REPORT_CODES,
    message_format: MessageFormat = "auto",
    rule: KeyRule = DEFAULT_RULE,
) -> list[Record]:
    """Each record with its own key, attempt and body, as far as it is known without reading a payload.

    Raises DecodeError where the message is in none of our own forms, or damaged. The one record of a message that is
    not packed has no body of its own: its copy is that of the message.
    """
    if not is_packed(parcel):
        head = read_head(
            parcel.body,
            parcel.content_type,
            parcel.content_encoding,
            codes=codes,
            message_format=message_format,
            stamped=parcel.stamped,
        )
        return [_record_of(head, parcel, None, None, rule)]
    bodies = split(parcel.body, parcel.content_encoding, limits)
    many = len(bodies) > 1
    return [
        _record_of(read_record_head(body, codes=codes), parcel, record if many else None, body, rule)
        for record, body in enumerate(bodies)
    ]


def _record_of(head: Job, parcel: Parcel, record: int | None, body: bytes | None, rule: KeyRule) -> Record:
    """`record`: its index among several; `body`: of a record that was cut out of a packed message."""
    return Record(
        record=record or 0,
        attempt=attempt_of(head, parcel),
        key=key_of(head, parcel, record, rule),
        message_id=parcel.message_id,
        message_type=head.message_type or None,
        body=body,
        content_type=h.JOB_MSGPACK if body is not None else None,
    )
