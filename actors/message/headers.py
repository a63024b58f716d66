"""Names of the headers and content types that we write and read, and the bounds of what they may cause. Pure.

Producers can write all of them: whoever reads one clamps it, and a copy carries what was read, never what was written.
A time in the future counts as now.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

OURS: Final = "x-rabbitray-"  # all of our own begin so

KEY: Final = "x-rabbitray-key"  # idempotency key, text
ATTEMPT: Final = "x-rabbitray-attempt"  # charged runs before this one, int
FIRST_SEEN: Final = "x-rabbitray-first-seen"  # Unix ms
SPARED: Final = "x-rabbitray-spared"  # how many of its failures, in outages, charged no attempt, int
PUBLISHED: Final = "x-rabbitray-published"  # Unix ms, when the producer's publisher sent it
DUE: Final = "x-rabbitray-due"  # Unix ms, not to be run before; see `latest_due_ms`
HOPS: Final = "x-rabbitray-hops"  # how often it was put back without a charge, int
ERROR: Final = "x-rabbitray-error"
ERROR_CLASS: Final = "x-rabbitray-error-class"
CATEGORY: Final = "x-rabbitray-category"
REASON: Final = "x-rabbitray-reason"
ORIGIN: Final = "x-rabbitray-origin"  # the queue it was worked from
REPLAYS: Final = "x-rabbitray-replays"  # how often it came back from the dead letters
REPLAYED: Final = "x-rabbitray-replayed"  # Unix ms, when it did so last
RECORDS: Final = "x-rabbitray-records"  # how many records a packed message holds; for people: the body is counted
USER_ID: Final = "x-rabbitray-user-id"  # the property of the message that this is a copy of
EXCHANGE: Final = "x-rabbitray-exchange"  # that the producer sent it to; copies come by other ways
ROUTING_KEY: Final = "x-rabbitray-routing-key"  # that the producer sent it with
EXPIRES: Final = "x-rabbitray-expires"  # Unix ms, when its producer wanted it to expire; no copy has an expiration
CONVERTED_ID: Final = "x-message-id"  # RabbitMQ 4: an AMQP 1.0 message id that fits no property: bytes, a long text
PRIORITY: Final = "x-rabbitray-priority"  # of a dead letter: the one of its message, below 0 for none
HEADERS_CUT: Final = "x-rabbitray-headers-cut"  # how many headers and properties of the producer it left behind
COMPRESSION: Final = "compression"  # kombu's: how it compressed the body, see `with_compression`
TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

MSGPACK: Final = "application/msgpack"
JSON: Final = "application/json"
PACKED: Final = "application/x-rabbitray-packed+msgpack"

MARK: Final = "form=rabbitray"
"""The parameter of a content type that says: this document is a job in the report's form."""
JOB_MSGPACK: Final = f"{MSGPACK}; {MARK}"
JOB_JSON: Final = f"{JSON}; {MARK}"

DELIVERY_COUNTS: Final = ("x-delivery-count", "x-acquired-count")  # RabbitMQ's own; the second from 4.3 on
ROUTING: Final = ("CC", "BCC")  # RabbitMQ would route a copy to the queues that the producer named here, too

DEATH_PREFIXES: Final = ("x-death", "x-first-death-", "x-last-death-", *DELIVERY_COUNTS)
"""Headers that RabbitMQ adds on dead-lettering; stripped on every republish (<= 3.13 interprets them)."""

SENT: Final = (EXCHANGE, ROUTING_KEY, EXPIRES, USER_ID)
"""What a message was sent with and a copy cannot be sent with, see `sent_with`."""

_REMADE: Final = frozenset((*ROUTING, *SENT))

_OURS: Final = frozenset(
    [
        *(KEY, ATTEMPT, FIRST_SEEN, SPARED, PUBLISHED, DUE, HOPS, ERROR, ERROR_CLASS, CATEGORY, REASON, ORIGIN),
        *(REPLAYS, REPLAYED, RECORDS, HEADERS_CUT, PRIORITY, *ROUTING),
        *SENT,
    ]
)

Headers = dict[str, Any]  # Any: AMQP header values

MAX_TEXT = 255
MAX_COUNT: Final = 1_000
MAX_HOPS: Final = 10**9
WAIT_MOST_MS: Final = 30 * 86_400_000
"""A message is put back without a charge for 30 days after it was first seen, or replayed; then it runs."""

DEATHS: Final = "x-death"
SECONDS_MOST: Final = 0xFFFFFFFF
"""A time stamp above (as seconds: the year 2106) was written in milliseconds, or finer."""
EARLIEST_MS: Final = 946_684_800_000  # the year 2000
AHEAD_MOST_MS: Final = 86_400_000  # a clock may be wrong, or its time zone; a day is neither
_FINER: Final = (1, 1_000, 1_000_000)  # milliseconds, microseconds, nanoseconds
_LONG_HEAD = 5  # bytes before a text, list or table: its type and its length
_SCALAR = 9  # the largest number: its type and 8 bytes


def text_of(raw: bytes) -> str:
    """A text, also where it is no UTF-8: then each byte is a character (Latin-1).

    Texts are identities. With a replacement character for every odd byte two binary ids would be one, and the second
    job a duplicate.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def travels(name: str) -> bool:
    """Whether a header stays on a copy as it is: no death record of RabbitMQ, and none of ours: they are made again."""
    return name not in _OURS and not name.startswith(DEATH_PREFIXES)


def travels_alone(name: str) -> bool:
    """The same, on the copy of one record of a packed message, which is not compressed any more."""
    return travels(name) and name != COMPRESSION


@functools.lru_cache(maxsize=64)  # asked several times for each message, of the same few texts
def content_kind(content_type: str | None) -> str:
    """The content type without its parameters, in small letters; empty where there is none."""
    return (content_type or "").partition(";")[0].strip().lower()


@functools.lru_cache(maxsize=64)  # likewise
def is_marked(content_type: str | None) -> bool:
    """Whether a content type has our mark among its parameters; case, order and quotes do not matter."""
    _, *parameters = (content_type or "").lower().replace('"', "").split(";")
    return any(parameter.strip() == MARK for parameter in parameters)


def stays_whole(name: str) -> bool:
    """Whether a header stays on a copy that is to be the same message: ours too, but nothing of RabbitMQ's."""
    return name not in _REMADE and not name.startswith(DEATH_PREFIXES)


def stays_dropped(name: str) -> bool:
    """The same, of a message that RabbitMQ dropped: its death records say why."""
    return name not in _REMADE and not name.startswith(DELIVERY_COUNTS)


def stays_dead(name: str) -> bool:
    """The same, of a dead letter that is put back among the others."""
    return stays_dropped(name) and name != PRIORITY


def newest_death(table: Mapping[str, Any] | None) -> Mapping[str, Any]:  # Any: AMQP header values
    """RabbitMQ's record of the last time that it dead-lettered a message; empty where there is none."""
    deaths = (table or {}).get(DEATHS)
    newest = deaths[0] if isinstance(deaths, list) and deaths else None
    return newest if isinstance(newest, Mapping) else {}


def delivery_count(table: Mapping[str, Any]) -> int:  # Any: AMQP header values
    """How often RabbitMQ says that it was delivered before; a quorum queue with a limit drops by this number."""
    count = table.get(DELIVERY_COUNTS[0])
    return count if isinstance(count, int) else 0


def clean_headers(table: Mapping[str, Any]) -> Headers:  # Any: AMQP header values
    """The headers that travel: the producer's, and those of later versions of us."""
    return {name: value for name, value in table.items() if travels(name)}


def carried_headers(table: Mapping[str, Any], now_ms: int) -> Headers:  # Any: AMQP header values
    """Our own headers that a copy carries on, clamped as they are read; what is not of its type stays behind."""
    most = dict.fromkeys((SPARED, REPLAYS, RECORDS, HEADERS_CUT), MAX_COUNT) | {HOPS: MAX_HOPS}
    most |= dict.fromkeys((FIRST_SEEN, REPLAYED), now_ms)
    numbers = {name: header_number(table.get(name), 0, bound) for name, bound in most.items()}
    numbers[PUBLISHED] = moment_ms(table.get(PUBLISHED), now_ms)
    texts = {KEY: header_text(table.get(KEY)), ORIGIN: cut_text(header_text(table.get(ORIGIN)) or "", MAX_TEXT)}
    return {name: value for name, value in (numbers | texts).items() if value}


def header_number(value: object, least: int, most: int) -> int:
    """An integer header clamped to its range; anything else counts as absent (`least`)."""
    if isinstance(value, bool) or not isinstance(value, int):
        return least
    return min(max(value, max(least, 0)), most)


def moment_ms(value: object, now_ms: int) -> int:
    """When a producer says that something was, Unix ms; 0 for what is no time of this age: before 2000, or more than
    a day ahead. What is ahead by less counts as now.

    AMQP means seconds. Milliseconds, microseconds and nanoseconds are told from them by their size: no number is a
    time of this age in two of these units.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    if EARLIEST_MS <= value <= now_ms:  # ours
        return value
    moment = value * 1_000 if value <= SECONDS_MOST else value
    for unit in _FINER:
        if EARLIEST_MS <= moment // unit <= now_ms + AHEAD_MOST_MS:
            return min(moment // unit, now_ms)
    return 0


def header_text(value: object) -> str | None:
    """A text header of 1 to MAX_TEXT characters; None for anything else."""
    if isinstance(value, bytes | bytearray):
        value = text_of(bytes(value))
    return value if isinstance(value, str) and 0 < len(value) <= MAX_TEXT else None


def cut_text(text: str, most: int) -> str:
    """As much of a text as `most` bytes of UTF-8 hold; what has no UTF-8 form becomes a question mark."""
    if len(text) <= most and text.isascii():
        return text
    return text[:most].encode("utf-8", "replace")[:most].decode("utf-8", "ignore")


def latest_due_ms(table: Mapping[str, Any], first_seen_ms: int, now_ms: int) -> int:  # Any: AMQP header values
    """Until when a message may wait at no charge (Unix ms), whatever its headers say.

    `first_seen_ms`: as read, 0 when it is seen now for the first time.
    """
    since_ms = min(first_seen_ms or now_ms, now_ms)
    return max(since_ms, header_number(table.get(REPLAYED), 0, now_ms)) + WAIT_MOST_MS


def table_bytes(value: object, most: int) -> int:
    """How many bytes a header value takes in its frame, or a few more; stops counting beyond `most`."""
    if isinstance(value, str):
        return _LONG_HEAD + (len(value) if value.isascii() else len(value.encode("utf-8", "replace")))
    if isinstance(value, bytes | bytearray):
        return _LONG_HEAD + len(value)
    if isinstance(value, Mapping):
        items: list[object] = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple):
        items = list(value)
    else:
        return _SCALAR
    total = _LONG_HEAD
    for item in items:
        total += table_bytes(item, most - total)
        if total > most:
            break
    return total
