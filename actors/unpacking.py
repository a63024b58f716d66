"""A message as its records: whose each is, and what it is published as when the records must part. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from actors import headers as h
from actors.decoding import attempt_of, identity
from actors.delivery import Parcel
from actors.verdict import Failure
from actors.wire import REPORT_CODES, TypeCodes, WireLimits, decode, is_packed_type, split


def is_packed(parcel: Parcel) -> bool:
    """Whether the message holds many records."""
    return is_packed_type(parcel.content_type)


def records_of(parcel: Parcel, limits: WireLimits, codes: TypeCodes = REPORT_CODES) -> list[Failure]:
    """Each record with its own key, attempt and body, as the failure that its copy is made from. Raises DecodeError.

    The one record of a message that is not packed has no body of its own: its copy is that of the message.
    """
    jobs = decode(parcel.body, parcel.content_type, parcel.content_encoding, limits, codes=codes)
    bodies: Sequence[bytes | None] = [None]
    if is_packed(parcel):
        bodies = split(parcel.body, parcel.content_encoding, limits)
    return [
        Failure(
            position=0,
            record=record,
            verdict="retry",
            reason="unpacked",
            error="",
            error_class="",
            category="transient",
            attempt=attempt_of(job, parcel),
            key=identity(job, parcel, record if len(jobs) > 1 else None),
            message_id=parcel.message_id,
            message_type=job.message_type or None,
            body=body,
            content_type=h.MSGPACK if body is not None else None,
        )
        for record, (job, body) in enumerate(zip(jobs, bodies, strict=True))
    ]
