"""Decoder: what reads a message in a format of its own; Decoded: what it may give beside the payload. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rabbitray.actors.errors import DecodeError
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.message import Message

Decoder = Callable[[bytes, Message], Any]  # Any: a payload, whatever it is, or a Decoded
"""Reads one message. The first argument is the body without its compression; `Message.body` is as it came.

It returns the payload, or a Decoded. It may raise Reject and Retry as a handler does, or DecodeError(reason, detail);
of any other exception the message is a dead letter, `decoder_failed`, unless its category is transient.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A payload with what its format says about the job. Frozen.

    - `payload`: whatever the handler is to get.
    - `key`: its identity, 1 to 255 UTF-8 bytes: `job.id`, and the key where no header says another one.
    - `message_type`, `user_id`, `scheduled_at`, `timestamp_ms`, `retry_count`: as in a Job.
    - `expires_at`: from then on it is not run, but a dead letter, `expired`; with a zone.
    """

    payload: Any  # Any: as above
    key: str | None = None
    message_type: str = ""
    user_id: str | None = None
    scheduled_at: datetime | None = None
    timestamp_ms: int | None = None
    retry_count: int = 0
    expires_at: datetime | None = None


def job_of(decoded: Any, now: datetime) -> Job:  # Any: what a decoder returned
    """Return the job of what a decoder gave. DecodeError where it has expired, or where a field is none of a job's."""
    if not isinstance(decoded, Decoded):
        return Job(id=None, payload=decoded)
    try:
        if decoded.expires_at is not None and decoded.expires_at.utcoffset() is None:
            raise DecodeError("bad_field", f"expires_at: a time with a zone, not {decoded.expires_at.isoformat()}")
        if decoded.expires_at is not None and decoded.expires_at <= now:
            raise DecodeError("expired", f"its producer wanted it to run before {decoded.expires_at.isoformat()}")
        return Job(
            id=decoded.key,
            user_id=decoded.user_id,
            message_type=decoded.message_type,
            scheduled_at=decoded.scheduled_at,
            timestamp_ms=decoded.timestamp_ms,
            retry_count=decoded.retry_count,
            payload=decoded.payload,
        )
    except (ValueError, TypeError, AttributeError) as error:  # a field of another type than it should have
        raise DecodeError("bad_field", str(error)) from None
