"""From what a handler did to where the message goes: Outcome -> Settlement. Pure.

The worker judges (an exception becomes an outcome), the router settles (an outcome becomes an ack, a rung or a
dead letter). Crashes, node loss and drains never come here: they use up no attempt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from actors.categories import Categories, Category, text_of
from actors.errors import Reject, Retry
from actors.secret import redact

ERROR_TEXT_MOST = 2_000
LADDER_BASE_MS = 2_000
AFTER_MOST_S = 30 * 86_400.0  # longest wait that a handler may ask for


class Failure(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A job that did not end DONE. `position`: of its message in the batch; `record`: index in that message."""

    position: int
    record: int = 0
    verdict: Literal["retry", "dead"]
    reason: str  # short stable code: exception, retry_requested, rejected, permanent, bad_msgpack, ...
    error: str
    error_class: str
    category: Category
    after_s: float | None = None
    attempt: int = 0  # charged runs before this one
    key: str | None = None
    message_id: str | None = None
    message_type: str | None = None
    body: bytes | None = None  # the record alone, encoded; None: the whole message failed
    content_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The ladder. `rungs_ms` ascending; a job runs at most `max_retries` + 1 times."""

    rungs_ms: tuple[int, ...] = (2_000, 4_000, 8_000, 16_000, 32_000, 60_000)
    max_retries: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """Publish a copy into the retry queue of `delay_ms`, with this attempt; `due_ms` (Unix ms) when it is later."""

    delay_ms: int
    attempt: int
    due_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Park:
    """Publish into the dead-letter queue and append to `dead_letters`."""

    reason: str


Settlement = Rung | Park


def ladder(base_ms: int, most_ms: int, *, exponential: bool = True) -> tuple[int, ...]:
    """The distinct delays: base, twice, four times ... up to and including the cap (report 4.1)."""
    if not exponential or base_ms >= most_ms:
        return (min(base_ms, most_ms),)
    delays = [base_ms]
    while delays[-1] * 2 < most_ms:
        delays.append(delays[-1] * 2)
    return (*delays, most_ms)


def settlement(failure: Failure, limits: Limits, now_ms: int) -> Settlement:
    """Where a failed job goes now."""
    match failure:
        case Failure(verdict="dead"):
            return Park(reason=failure.reason)
        case Failure(attempt=attempt) if attempt >= limits.max_retries or not limits.rungs_ms:
            return Park(reason="max_retries" if limits.max_retries else failure.reason)
        case Failure(after_s=None, attempt=attempt):
            return Rung(delay_ms=limits.rungs_ms[min(attempt, len(limits.rungs_ms) - 1)], attempt=attempt + 1)
        case Failure(after_s=after_s, attempt=attempt):
            due_ms = now_ms + round((after_s or 0) * 1000)
            return wait_until(due_ms, limits.rungs_ms, now_ms, attempt + 1)


def wait_until(due_ms: int, rungs_ms: tuple[int, ...], now_ms: int, attempt: int) -> Rung:
    """The shortest rung that is long enough; beyond the longest, that one and a due time to re-enter with."""
    wait_ms = due_ms - now_ms
    for rung in rungs_ms:
        if rung >= wait_ms:
            return Rung(delay_ms=rung, attempt=attempt)
    return Rung(delay_ms=rungs_ms[-1], attempt=attempt, due_ms=due_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What an exception means for its job."""

    verdict: Literal["retry", "dead"]
    reason: str
    category: Category
    after_s: float | None = None


def judge(error: BaseException, categories: Categories) -> Judgement:
    """The verdict on one exception: what the handler asked for, else what the category of the error says."""
    match error:
        case Retry():
            after_s = seconds(error.after_s)
            return Judgement(verdict="retry", reason="retry_requested", category="transient", after_s=after_s)
        case Reject():
            return Judgement(verdict="dead", reason="rejected", category="permanent")
    category = categories.of(error)
    if category == "permanent":
        return Judgement(verdict="dead", reason="permanent", category=category)
    return Judgement(verdict="retry", reason="exception", category=category)


def seconds(asked: object) -> float | None:
    """A wait as a handler gave it, within 0 and 30 days; None (the ladder decides) for what is no number."""
    if isinstance(asked, bool) or not isinstance(asked, int | float) or asked != asked:  # NaN
        return None
    return float(min(max(asked, 0), AFTER_MOST_S))


def describe(error: BaseException) -> tuple[str, str]:
    """(class name, text) of an exception: bounded in length, encodable as UTF-8, and without the passwords of URLs,
    since it is kept in rows and headers and shown in many places.
    """
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    text = redact(text_of(error)) or name
    return name, text[:ERROR_TEXT_MOST].encode("utf-8", "replace").decode()
