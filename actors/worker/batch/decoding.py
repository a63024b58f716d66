"""Parcels -> jobs with their identity; what cannot be read becomes a failure of that message only. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import force_setattr as _set

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.headers import JSON, content_kind
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.keys import DEFAULT_RULE, KeyRule
from rabbitray.actors.message.parcel import Parcel, attempt_of, key_of, missing_key, whole_message
from rabbitray.actors.message.payload_hash import payload_hash
from rabbitray.actors.message.reply import Failure
from rabbitray.actors.message.wire import REPORT_CODES, MessageFormat, MessageLimits, TypeCodes, decode
from rabbitray.actors.worker.batch.unit import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRules:
    """Where the key of a message is, and what to do with one that has none: work it without dedupe, or reject it."""

    missing_id: Literal["allow", "reject"] = "allow"
    key: KeyRule = DEFAULT_RULE


def decode_parcels(
    parcels: Sequence[Parcel],
    limits: MessageLimits,
    rules: IdentityRules,
    codes: TypeCodes = REPORT_CODES,
    message_format: MessageFormat = "auto",
) -> tuple[list[Unit], list[Failure]]:
    """The jobs of a batch in order, and a failure (`dead`) for each message that cannot be read."""
    units: list[Unit] = []
    failures: list[Failure] = []
    for position, parcel in enumerate(parcels):
        try:
            units += _units(position, parcel, _jobs(parcel, limits, codes, message_format), rules)
        except DecodeError as error:
            failures.append(
                Failure.permanent(whole_message(parcel), error.reason, error.detail, "DecodeError", position=position)
            )
    return units, failures


def _jobs(parcel: Parcel, limits: MessageLimits, codes: TypeCodes, message_format: MessageFormat) -> list[Job]:
    return decode(
        parcel.body,
        parcel.content_type,
        parcel.content_encoding,
        limits,
        codes=codes,
        message_format=message_format,
        stamped=parcel.stamped,
    )


def _units(position: int, parcel: Parcel, jobs: list[Job], rules: IdentityRules) -> list[Unit]:
    if not jobs:
        raise DecodeError("empty", "a packed message without records")
    packed = len(jobs) > 1
    text = parcel.body if content_kind(parcel.content_type) == JSON else None
    units = []
    for record, job in enumerate(jobs):
        own = record if packed else None
        key = key_of(job, parcel, own, rules.key)
        if key is None and rules.missing_id == "reject":
            raise DecodeError("missing_id", f"{missing_key(job, parcel, own, rules.key)} (missing_id = reject)")
        attempt = attempt_of(job, parcel)
        _set(job, "key", key)
        _set(job, "attempt", attempt)
        units.append(
            Unit(
                position=position,
                record=record,
                packed=packed,
                job=job,
                parcel=parcel,
                key=key,
                attempt=attempt,
                payload_hash=payload_hash(job, text),
            )
        )
    return units
