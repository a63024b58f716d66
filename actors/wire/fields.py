"""Single fields <-> wire values: identities and times. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from actors.errors import DecodeError
from actors.job import MAX_RETRY_COUNT

_UUID_TEXT: Final = 36
_UUID_BYTES: Final = 16
_EXACT_SECONDS: Final = 2.0**33  # below, a float of seconds tells microseconds apart


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
        moment = datetime.fromisoformat(value) if kind is str else None
    except (ValueError, OverflowError, OSError) as error:
        raise DecodeError("bad_time", f"{field}: {str(value)[:40]!r}: {error}") from None
    if moment is None or moment.utcoffset() is None:
        raise DecodeError("bad_time", f"{field}: Unix seconds or ISO 8601 with a zone, not {str(value)[:40]!r}")
    return moment


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
