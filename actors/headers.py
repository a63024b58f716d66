"""Names of the headers and content types that we write and read. Pure.

Producers can write all of them: whoever reads one clamps it.
"""

from __future__ import annotations

from typing import Final

OURS: Final = "x-rabbitray-"  # all of our own begin so

KEY: Final = "x-rabbitray-key"  # idempotency key, text
ATTEMPT: Final = "x-rabbitray-attempt"  # charged runs before this one, int
FIRST_SEEN: Final = "x-rabbitray-first-seen"  # Unix ms
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
