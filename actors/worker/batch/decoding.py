"""Parcels -> jobs with their identity; what cannot be read becomes a failure of that message only. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from msgspec.structs import force_setattr as _set

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.formats.auto import read_by_type
from rabbitray.actors.message.headers import JSON, content_kind, is_marked
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.keys import DEFAULT_RULE, KeyRule
from rabbitray.actors.message.parcel import Parcel, attempt_of, is_packed, key_of, missing_key, whole_message
from rabbitray.actors.message.payload_hash import body_hash, payload_hash
from rabbitray.actors.message.reply import Failure
from rabbitray.actors.message.wire import REPORT_CODES, MessageFormat, MessageLimits, TypeCodes, UnknownContentType
from rabbitray.actors.worker.batch.unit import Failed, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRules:
    """Where the key of a message is, and what to do with one that has none: work it without dedupe, or reject it."""

    missing_id: Literal["allow", "reject"] = "allow"
    key: KeyRule = DEFAULT_RULE


class UndecodedError(Exception):
    """A decoder of the user's gave no payload: what it raised, judged."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.error)
        self.failed = failed


class ParcelReader(Protocol):
    """Reads messages that are in no form of ours, as the setting `decoder` says."""

    def read(self, parcel: Parcel) -> Job:
        """Raises DecodeError, and UndecodedError."""

    def has_time(self, read: int) -> bool:
        """Whether another message of a batch is to be read, after so many; the others are given back."""


def decode_parcels(
    parcels: Sequence[Parcel],
    limits: MessageLimits,
    rules: IdentityRules,
    codes: TypeCodes = REPORT_CODES,
    message_format: MessageFormat = "auto",
    unknown: UnknownContentType = "bytes",
    reader: ParcelReader | None = None,
) -> tuple[list[Unit], list[Failure]]:
    """The jobs of a batch in order, and a failure for each message that cannot be read.

    Without a `reader` each message is read by its content type; with one, those that are in no form of ours are its.
    Where it `has_time` no longer, the messages behind are in neither list.
    """
    units: list[Unit] = []
    failures: list[Failure] = []
    for position, parcel in enumerate(parcels):
        try:
            if reader is None or is_marked(parcel.content_type) or is_packed(parcel):
                jobs = read_by_type(parcel, limits, codes, message_format, unknown)
                units += _units(position, parcel, jobs, rules, own=False)
            elif reader.has_time(position):
                units += _units(position, parcel, [reader.read(parcel)], rules, own=True)
            else:
                break
        except DecodeError as error:
            failures.append(
                Failure.permanent(whole_message(parcel), error.reason, error.detail, "DecodeError", position=position)
            )
        except UndecodedError as error:
            failures.append(error.failed.failure(whole_message(parcel), position))
    return units, failures


def unread(parcels: Sequence[Parcel], units: Sequence[Unit], failures: Sequence[Failure]) -> list[int]:
    """The positions of the messages that there was no time to read."""
    read = {unit.position for unit in units} | {failure.position for failure in failures}
    return sorted({*range(len(parcels))} - read)


def _units(position: int, parcel: Parcel, jobs: list[Job], rules: IdentityRules, *, own: bool) -> list[Unit]:
    """`own`: the payload is whatever a decoder made of the body."""
    if not jobs:
        raise DecodeError("empty", "a packed message without records")
    packed = len(jobs) > 1
    text = parcel.body if content_kind(parcel.content_type) == JSON else None
    units = []
    for record, job in enumerate(jobs):
        number = record if packed else None
        key = key_of(job, parcel, number, rules.key)
        if key is None and rules.missing_id == "reject":
            raise DecodeError("missing_id", f"{missing_key(job, parcel, number, rules.key)} (missing_id = reject)")
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
                payload_hash=body_hash(parcel.body) if own else payload_hash(job, text),
            )
        )
    return units
