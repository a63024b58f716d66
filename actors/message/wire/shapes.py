"""The report's two shapes of a job, compact and verbose, and how each of their fields is read. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.job import MAX_RETRY_COUNT, Job
from rabbitray.actors.message.wire.type_codes import TypeCodes

_UUID_TEXT: Final = 36
_UUID_BYTES: Final = 16
_EXACT_SECONDS: Final = 2.0**33  # below, a float of seconds tells microseconds apart
_TIME_TEXT: Final = 64  # more than any ISO 8601 time; the error of a longer one would repeat all of it

Document = dict[str, Any]  # Any: values are the user's data
CHECKSUM: Final = ""
"""Key of the checksum of a msgpack body: no change of one byte makes another field of it."""
COMPACT: Final = frozenset("iutsrpm")
VERBOSE: Final = frozenset(
    ("messageId", "userId", "messageType", "scheduledSendTime", "timestamp", "retryCount", "payload")
)


def uuid_bytes(text: str) -> bytes | None:
    """Return the 16 bytes of a canonical lower-case UUID, None for other text (kept as it is)."""
    if len(text) != _UUID_TEXT or text[8] != "-":
        return None
    try:
        raw = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        return None
    return raw if len(raw) == _UUID_BYTES and uuid_text(raw) == text else None


def uuid_text(raw: bytes) -> str:
    """Return 16 bytes as canonical UUID text."""
    h = raw.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def unix_time(moment: datetime) -> int | float | str:
    """Return a time as Unix seconds where that loses nothing, else as ISO 8601 text with its offset.

    Whole UTC seconds are an int, other UTC times a float when its 53 bits give the same microsecond back.
    Another zone is kept as its offset; the zone's name is not kept.
    """
    if moment.tzinfo is not UTC and moment.utcoffset():
        return moment.isoformat()
    seconds = moment.timestamp()
    if moment.microsecond == 0:
        return int(seconds)
    exact = abs(seconds) < _EXACT_SECONDS and datetime.fromtimestamp(seconds, UTC) == moment
    return seconds if exact else moment.isoformat()


def iso_time(moment: datetime) -> str:
    """Return a time as the report writes it: `2026-01-02T12:00:00.000Z`; finer or other zones in full."""
    if moment.utcoffset():
        return moment.isoformat()
    plain = moment.replace(tzinfo=None)
    return plain.isoformat(timespec="microseconds" if plain.microsecond % 1000 else "milliseconds") + "Z"


def read_time(value: Any, field: str) -> datetime | None:  # Any: whatever a producer wrote
    """Return a time from Unix seconds (int or float) or ISO 8601 text with a zone; DecodeError otherwise."""
    if value is None:
        return None
    kind = type(value)
    try:
        if kind is int or kind is float:
            return datetime.fromtimestamp(value, UTC)
        moment = datetime.fromisoformat(value) if kind is str and len(value) <= _TIME_TEXT else None
    except (ValueError, OverflowError, OSError) as error:
        raise DecodeError("bad_time", f"{field}: {_shown(value)}: {error}") from None
    if moment is None or moment.utcoffset() is None:
        raise DecodeError("bad_time", f"{field}: Unix seconds or ISO 8601 with a zone, not {_shown(value)}")
    return moment


def _shown(value: Any) -> str:  # Any: whatever a producer wrote
    """The beginning of a text or number; of anything else the type, for all of it would have to be written first."""
    return repr(str(value)[:40]) if isinstance(value, str | int | float) else type(value).__name__


def read_id(value: Any) -> str | None:  # Any: whatever a producer wrote
    """Return an id from text or the 16 bytes of a UUID; None and empty text are no id."""
    if type(value) is bytes:
        if len(value) != _UUID_BYTES:
            raise DecodeError("bad_field", f"id: {len(value)} bytes, a UUID has {_UUID_BYTES}")
        return uuid_text(value)
    return read_text(value, "id") or None


def read_text(value: Any, field: str) -> str | None:  # Any: whatever a producer wrote
    """Return text or None; DecodeError for anything else."""
    if value is None or type(value) is str:
        return value
    raise DecodeError("bad_field", f"{field}: text, not {type(value).__name__}")


def read_count(value: Any) -> int:  # Any: whatever a producer wrote
    """Return a retry count, clamped to what a Job may hold; DecodeError unless it is a whole number."""
    if type(value) is not int:
        raise DecodeError("bad_field", f"retry count: a whole number, not {type(value).__name__}")
    return min(max(value, 0), MAX_RETRY_COUNT)


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
    """Whether a document is meant to be of `shape`: all of its fields, or at least two, belong to it."""
    if shape.issuperset(doc):  # the ordinary case, and the quick one
        return bool(doc)
    return sum(1 for key in doc if key in shape) >= 2


def read_compact(doc: Document, codes: TypeCodes) -> Job:
    """Return the Job of a compact document (its checksum already checked); DecodeError names the field."""
    require_known(doc, COMPACT)
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
    require_known(doc, VERBOSE)
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


def _named(key: Any) -> str:  # Any: whatever a producer wrote
    """The beginning of a key for people."""
    return str(key[:40]) if isinstance(key, str | bytes) else _shown(key)


def require_known(doc: Document, shape: frozenset[str]) -> None:
    """Raise DecodeError where a document has a field that its shape does not know."""
    if not shape.issuperset(doc):
        unknown = sorted(_named(key) for key in doc if key not in shape)
        raise DecodeError("unknown_field", f"{', '.join(unknown[:5])}: own data belongs into the payload")
