"""Values of foreign documents, each checked as it is taken. Pure.

What a value is not is a DecodeError, `bad_field` or `bad_time`, which never repeats more than its beginning.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.wire.shapes import read_time

Document = Mapping[str, Any]  # Any: whatever a producer wrote


def require_map(value: Any, what: str) -> Document:  # Any: whatever a producer wrote
    """The map that a value is."""
    if isinstance(value, Mapping):
        return value
    raise DecodeError("bad_field", f"{what}: a map, not {_kind(value)}")


def require_list(value: Any, what: str) -> list[Any]:  # Any: whatever a producer wrote
    """The list that a value is."""
    if isinstance(value, list):
        return value
    raise DecodeError("bad_field", f"{what}: a list, not {_kind(value)}")


def text(value: Any, what: str) -> str | None:  # Any: whatever a producer wrote
    """The text that a value is, or None."""
    if value is None or isinstance(value, str):
        return value
    raise DecodeError("bad_field", f"{what}: text, not {_kind(value)}")


def require_text(value: Any, what: str) -> str:  # Any: whatever a producer wrote
    """The text that a value is, and which is not empty."""
    found = text(value, what)
    if not found:
        raise DecodeError("bad_field", f"{what}: missing")
    return found


def count(value: Any, what: str) -> int:  # Any: whatever a producer wrote
    """A whole number of 0 or more; 0 for None."""
    if value is None:
        return 0
    if type(value) is int and 0 <= value < 2**63:
        return value
    shown = value if type(value) is int and abs(value) < 2**63 else _kind(value)
    raise DecodeError("bad_field", f"{what}: a whole number from 0, not {shown}")


def time(value: Any, what: str, *, utc: bool) -> datetime | None:  # Any: whatever a producer wrote
    """A time from ISO 8601 text or Unix seconds, or None. `utc`: one without a zone is in UTC, else refused."""
    if isinstance(value, datetime):  # kombu's JSON has it as a type, AMQP's headers too
        value = value.isoformat()
    if utc and isinstance(value, str) and len(value) <= _TIME_MOST:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            if moment.utcoffset() is None:
                return moment.replace(tzinfo=UTC)
    return read_time(value, what)


_TIME_MOST = 64


def _kind(value: Any) -> str:  # Any: whatever a producer wrote
    return "none" if value is None else type(value).__name__
