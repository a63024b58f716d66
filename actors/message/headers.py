"""Names of the headers and content types that we write and read. Pure.

Producers can write all of them: whoever reads one clamps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

OURS: Final = "x-rabbitray-"  # all of our own begin so

KEY: Final = "x-rabbitray-key"  # idempotency key, text
ATTEMPT: Final = "x-rabbitray-attempt"  # charged runs before this one, int
FIRST_SEEN: Final = "x-rabbitray-first-seen"  # Unix ms
SPARED: Final = "x-rabbitray-spared"  # how many of its failures, in outages, charged no attempt, int
PUBLISHED: Final = "x-rabbitray-published"  # Unix ms, when the producer's publisher sent it
DUE: Final = "x-rabbitray-due"  # Unix ms, not to be run before
ERROR: Final = "x-rabbitray-error"
ERROR_CLASS: Final = "x-rabbitray-error-class"
CATEGORY: Final = "x-rabbitray-category"
REASON: Final = "x-rabbitray-reason"
ORIGIN: Final = "x-rabbitray-origin"  # the queue it was worked from
REPLAYS: Final = "x-rabbitray-replays"  # how often it came back from the dead letters
RECORDS: Final = "x-rabbitray-records"  # how many records a packed message holds; for people: the body is counted
HEADERS_CUT: Final = "x-rabbitray-headers-cut"  # how many headers of the producer this copy had to leave behind
TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

MSGPACK: Final = "application/msgpack"
JSON: Final = "application/json"
PACKED: Final = "application/x-rabbitray-packed+msgpack"

DELIVERY_COUNTS: Final = ("x-delivery-count", "x-acquired-count")  # RabbitMQ's own; the second from 4.3 on
ROUTING: Final = ("CC", "BCC")  # RabbitMQ would route a copy to the queues that the producer named here, too

DEATH_PREFIXES: Final = ("x-death", "x-first-death-", "x-last-death-", *DELIVERY_COUNTS)
"""Headers that RabbitMQ adds on dead-lettering; stripped on every republish (<= 3.13 interprets them)."""


_LEFT_BEHIND: Final = frozenset((ERROR, ERROR_CLASS, CATEGORY, REASON, DUE, ATTEMPT, HEADERS_CUT, *ROUTING))

Headers = dict[str, Any]  # Any: AMQP header values

MAX_TEXT = 255
_LONG_HEAD = 5  # bytes before a text, list or table: its type and its length
_SCALAR = 9  # the largest number: its type and 8 bytes


def travels(name: str) -> bool:
    """Whether a header stays on a copy: not one of RabbitMQ's death records, nor of ours from an earlier round."""
    return not name.startswith(DEATH_PREFIXES) and name not in _LEFT_BEHIND


def content_kind(content_type: str | None) -> str:
    """The content type without its parameters, in small letters; empty where there is none."""
    return (content_type or "").partition(";")[0].strip().lower()


def clean_headers(table: Mapping[str, Any]) -> Headers:  # Any: AMQP header values
    """The headers that travel."""
    return {name: value for name, value in table.items() if travels(name)}


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
