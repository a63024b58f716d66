"""Job <-> the report's two documents: compact (`i u t s r p m`) and verbose (`messageId` ...). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from actors.errors import DecodeError
from actors.job import Job
from actors.wire.codes import TypeCodes
from actors.wire.fields import (
    iso_time,
    read_count,
    read_id,
    read_text,
    read_time,
    unix_time,
    uuid_bytes,
)

Document = dict[str, Any]  # Any: values are the user's data

CHECKSUM: Final = ""
"""Key of the checksum of a msgpack body: no change of one byte makes another field of it."""

COMPACT: Final = frozenset("iutsrpm")
VERBOSE: Final = frozenset(
    ("messageId", "userId", "messageType", "scheduledSendTime", "timestamp", "retryCount", "payload")
)


def compact(job: Job, codes: TypeCodes) -> Document:
    """Return the compact document for msgpack: a UUID as 16 bytes, nothing written that is a default.

    `i` and `t` are always there, so that a damaged document cannot pass for somebody else's.
    """
    identity = job.id
    doc: Document = {"i": (uuid_bytes(identity) or identity) if identity is not None else None}
    if job.user_id is not None:
        doc["u"] = job.user_id
    doc["t"] = codes.write(job.message_type)
    if job.scheduled_at is not None:
        doc["s"] = unix_time(job.scheduled_at)
    if job.retry_count:
        doc["r"] = job.retry_count
    if job.timestamp_ms is not None:
        doc["m"] = job.timestamp_ms
    if job.payload is not None:
        doc["p"] = job.payload
    return doc


def compact_text(job: Job, codes: TypeCodes) -> Document:
    """Return the compact document for JSON, `r` always there, as the report shows it (3.1)."""
    doc: Document = {"i": job.id}
    if job.user_id is not None:
        doc["u"] = job.user_id
    doc["t"] = codes.write(job.message_type)
    if job.scheduled_at is not None:
        doc["s"] = unix_time(job.scheduled_at)
    doc["r"] = job.retry_count
    if job.timestamp_ms is not None:
        doc["m"] = job.timestamp_ms
    if job.payload is not None:
        doc["p"] = job.payload
    return doc


def verbose(job: Job) -> Document:
    """Return the verbose document, as the report shows it (3.1), with `payload` where there is one."""
    doc: Document = {"messageId": job.id}
    if job.user_id is not None:
        doc["userId"] = job.user_id
    doc["messageType"] = job.message_type
    if job.scheduled_at is not None:
        doc["scheduledSendTime"] = iso_time(job.scheduled_at)
    if job.timestamp_ms is not None:
        doc["timestamp"] = job.timestamp_ms
    doc["retryCount"] = job.retry_count
    if job.payload is not None:
        doc["payload"] = job.payload
    return doc


def is_shape(doc: Mapping[Any, Any], shape: frozenset[str]) -> bool:
    """Tell whether a document is meant to be of `shape`: all of its fields, or at least two, belong to it."""
    if shape.issuperset(doc):  # the ordinary case, and the quick one
        return bool(doc)
    return sum(1 for key in doc if key in shape) >= 2


def read_compact(doc: Document, codes: TypeCodes) -> Job:
    """Return the Job of a compact document (its checksum already checked); DecodeError names the field."""
    _refuse_unknown(doc, COMPACT)
    get = doc.get
    kind = read_text(get("t"), "t")
    try:
        return Job(
            id=read_id(get("i")),
            user_id=read_text(get("u"), "u"),
            message_type=codes.read(kind) if kind else "",
            scheduled_at=read_time(get("s"), "s"),
            retry_count=read_count(get("r", 0)),
            timestamp_ms=get("m"),
            payload=get("p"),
        )
    except ValueError as error:  # Job checks each field itself
        raise DecodeError("bad_field", str(error)) from None


def read_verbose(doc: Document) -> Job:
    """Return the Job of a verbose document; DecodeError names the field."""
    _refuse_unknown(doc, VERBOSE)
    get = doc.get
    try:
        return Job(
            id=read_id(get("messageId")),
            user_id=read_text(get("userId"), "userId"),
            message_type=read_text(get("messageType"), "messageType") or "",
            scheduled_at=read_time(get("scheduledSendTime"), "scheduledSendTime"),
            retry_count=read_count(get("retryCount", 0)),
            timestamp_ms=get("timestamp"),
            payload=get("payload"),
        )
    except ValueError as error:  # Job checks each field itself
        raise DecodeError("bad_field", str(error)) from None


def _refuse_unknown(doc: Document, shape: frozenset[str]) -> None:
    if not shape.issuperset(doc):
        unknown = sorted(str(key)[:40] for key in doc if key not in shape)
        raise DecodeError("unknown_field", f"{', '.join(unknown[:5])}: own data belongs into the payload")
