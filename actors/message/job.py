"""Job: one unit of work, as producers write it and handlers get it; uuid7: an id that sorts by time. Pure."""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Generic

import msgspec

from rabbitray.actors.message.running import RUNNING

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # its default: `Job` alone is `Job[Any]`

    P = TypeVar("P", covariant=True, default=Any)
else:
    from typing import TypeVar

    P = TypeVar("P", covariant=True)

MAX_TEXT_BYTES: Final = 255
"""Longest id, user id, message type and key: what an AMQP short string holds."""

MAX_RETRY_COUNT: Final = 1_000_000

_SURELY_FITS: Final = MAX_TEXT_BYTES // 4  # characters: UTF-8 needs at most 4 bytes for each


def uuid7() -> str:
    """Return a new UUIDv7 as text of 36 characters, unique across threads, processes and forks.

    Sorts by creation time to about 250 ns within one machine: the 12 bits after the millisecond hold its
    fraction (RFC 9562, section 6.2, method 3), the last 62 bits are random and read from the system for each
    id, so a forked child never repeats its parent.
    """
    ms, rest_ns = divmod(time.time_ns(), 1_000_000)
    fraction = (rest_ns << 12) // 1_000_000
    low = int.from_bytes(os.urandom(8), "big") & 0x3FFF_FFFF_FFFF_FFFF
    number = (ms & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | fraction << 64 | 0x2 << 62 | low
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Job(msgspec.Struct, Generic[P], frozen=True, kw_only=True, omit_defaults=True):
    """One unit of work, as producers send it and handlers get it. Frozen. `Job[Order]` is one with such a payload.

    - `id`: 1 to 255 UTF-8 bytes, kept as it is; a new UUIDv7 unless given; None only on a received message that
      carries no id.
    - `user_id`, `message_type` (e.g. `BIRTHDAY`): at most 255 UTF-8 bytes each, the type printable.
    - `scheduled_at`: a datetime with a time zone, or None.
    - `timestamp_ms`: when the producer made it, Unix milliseconds.
    - `retry_count`: 0 to 1,000,000.
    - `payload`: any value that msgpack can carry; checked when the job is encoded, not here.
    - `key`: the idempotency key, unique for each queue; filled in on receipt.
    - `attempt`: how many charged runs came before this one, 0 on the first; filled in on receipt.

    Raises ValueError that names the field, once, when the job is made.

    While a handler runs it, `progress` tells how far it is, and `deadline` is when it would be ended.
    """

    id: str | None = msgspec.field(default_factory=uuid7)
    user_id: str | None = None
    message_type: str = ""
    scheduled_at: datetime | None = None
    timestamp_ms: int | None = None
    retry_count: int = 0
    payload: P = None  # type: ignore[assignment] # a job may have none, whatever its type says
    key: str | None = None
    attempt: int = 0

    def progress(self, fraction: float, text: str = "") -> None:
        """Tells how far this run is: `fraction` from 0 to 1, and a line of at most 200 characters.

        It is seen in `rabbitray top`, `status` and `trace`, and the job counts as alive: `handler_timeout_s` begins
        again, up to `max_run_s` in all. From any thread, as often as is handy: what is told within a second travels
        together. Nothing where no worker runs the job. Raises ValueError for a fraction that is none.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"progress: a fraction from 0 to 1, not {fraction!r}")
        for running in RUNNING:
            if running.progress(self, float(fraction), str(text)):
                return

    @property
    def deadline(self) -> datetime | None:
        """When this run is ended unless it ends or tells progress before, with the zone UTC; None outside a run."""
        found = (running.deadline(self) for running in RUNNING)
        return next((moment for moment in found if moment is not None), None)

    def __post_init__(self) -> None:
        identity, user, kind = self.id, self.user_id, self.message_type
        if identity is not None and (type(identity) is not str or not 0 < len(identity) <= _SURELY_FITS):
            _require_text("id", identity, empty=False)
        if user is not None and (type(user) is not str or len(user) > _SURELY_FITS):
            _require_text("user_id", user)
        if type(kind) is not str or len(kind) > _SURELY_FITS:
            _require_text("message_type", kind)
        if not kind.isprintable():
            raise ValueError(f"message_type: control characters in {kind!r}")
        if type(self.retry_count) is not int or not 0 <= self.retry_count <= MAX_RETRY_COUNT:
            raise ValueError(f"retry_count: an int from 0 to {MAX_RETRY_COUNT}, not {self.retry_count!r}")
        if self.timestamp_ms is not None or self.scheduled_at is not None:
            _require_times(self.scheduled_at, self.timestamp_ms)


def _require_text(field: str, value: object, *, empty: bool = True) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{field}: text, not {type(value).__name__}")
    if not value and not empty:
        raise ValueError(f"{field}: must not be empty")
    size = len(value.encode("utf-8", "surrogatepass"))
    if size > MAX_TEXT_BYTES:
        raise ValueError(f"{field}: {size} UTF-8 bytes, at most {MAX_TEXT_BYTES}")


def _require_times(scheduled_at: object, timestamp_ms: object) -> None:
    if scheduled_at is not None:
        offset = scheduled_at.utcoffset() if isinstance(scheduled_at, datetime) else None
        if offset is None or offset.microseconds:
            raise ValueError(f"scheduled_at: a datetime with a zone of whole seconds, not {scheduled_at!r}")
    if timestamp_ms is not None and (type(timestamp_ms) is not int or not -(2**63) <= timestamp_ms < 2**63):
        shown = f"one of {timestamp_ms.bit_length()}" if type(timestamp_ms) is int else type(timestamp_ms).__name__
        raise ValueError(f"timestamp_ms: Unix milliseconds as an int of 64 bits, not {shown}")
