"""A packed message as single ones: what each record is published as when the records must part. Pure."""

from __future__ import annotations

from actors import headers as h
from actors.decoding import identity
from actors.delivery import Delivery
from actors.verdict import Failure
from actors.wire import WireLimits, decode, encode


def is_packed(delivery: Delivery) -> bool:
    """Whether the message holds many records."""
    return delivery.parcel.content_type == h.PACKED


def records_of(delivery: Delivery, limits: WireLimits) -> list[Failure]:
    """Each record with its own key and body, as the failure that its copy is made from. Raises DecodeError."""
    parcel = delivery.parcel
    jobs = decode(parcel.body, parcel.content_type, parcel.content_encoding, limits)
    pieces = []
    for record, job in enumerate(jobs):
        body, content_type = encode(job)
        pieces.append(
            Failure(
                position=0,
                record=record,
                verdict="retry",
                reason="unpacked",
                error="",
                error_class="",
                category="transient",
                attempt=max(parcel.attempt, 0),
                key=identity(job, parcel, record),
                message_id=parcel.message_id,
                body=body,
                content_type=content_type,
            )
        )
    return pieces
