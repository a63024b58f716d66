"""Reads what the router needs of a delivered message: identity and headers, never the body. Pure.

Headers are the producer's to write, so everything is clamped here, once. A time in the future counts as now; when a
message was published is not known where that is nonsense, see `moment_ms`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, cast

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.headers import header_number, header_text, latest_due_ms, moment_ms, table_bytes
from rabbitray.actors.message.keys import DEFAULT_RULE, KeyRule, converted_id, key_in_delivery
from rabbitray.actors.message.parcel import MAX_ATTEMPT, Parcel
from rabbitray.actors.message.wire import MessageLimits, count_records, plain_size, with_compression
from rabbitray.actors.router.delivery import Delivery

if TYPE_CHECKING:
    from aiormq.abc import DeliveredMessage
    from pamqp.commands import Basic

    from rabbitray.actors.router.spool import SpooledBody

_COUNTED_AT_MOST = 20  # times what a table took in its frame, where a value may be 1 byte and a name 1 byte more
UNREADABLE_HEADERS = "unreadable_headers"
"""The reason of a dead letter whose headers or properties could not be read, or not all of them."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

Table = Mapping[str, object]
_EMPTY: Table = {}


class PropertiesLike(Protocol):
    """The basic properties that are read, as pamqp or the scanner has them."""

    content_type: str | None
    content_encoding: str | None
    headers: Any  # Any: an AMQP field table or None
    message_id: str | None
    timestamp: Any  # Any: datetime, or what the producer wrote for Unix seconds


def read_delivery(
    message: DeliveredMessage,
    *,
    generation: int,
    consumer: int,
    limits: MessageLimits,
    rule: KeyRule = DEFAULT_RULE,
) -> Delivery:
    """The Delivery of a message as aiormq has it, see `read_message`."""
    deliver = cast("Basic.Deliver", message.delivery)
    return read_message(
        message.header.properties,
        message.body,
        tag=deliver.delivery_tag or 0,
        redelivered=bool(deliver.redelivered),
        generation=generation,
        consumer=consumer,
        limits=limits,
        rule=rule,
    )


def read_message(
    properties: PropertiesLike,
    body: bytes,
    *,
    tag: int,
    redelivered: bool,
    generation: int,
    consumer: int,
    limits: MessageLimits,
    spooled: SpooledBody | None = None,
    rule: KeyRule = DEFAULT_RULE,
) -> Delivery:
    """The Delivery of one AMQP message; costs a few microseconds and raises nothing on any input.

    `spooled`: where its body is, when it is not in `body`. `rule`: where its key is.
    """
    table: Table = properties.headers or _EMPTY
    kind, encoding = properties.content_type, properties.content_encoding or ""
    if h.COMPRESSION in table:
        encoding = with_compression(encoding, table[h.COMPRESSION])
    now_ms = int(time.time() * 1000)
    first_seen_ms = header_number(table.get(h.FIRST_SEEN), 0, now_ms)
    returned = h.ATTEMPT in table or h.DUE in table
    replays = header_number(table.get(h.REPLAYS), 0, MAX_ATTEMPT)
    stamp = table.get(h.PUBLISHED)
    published_ms = moment_ms(stamp, now_ms) or _stamp(properties.timestamp, now_ms)
    ahead_ms = _ahead_ms(stamp, properties.timestamp, now_ms) if published_ms == now_ms else 0
    message_id = properties.message_id or (converted_id(table) if h.CONVERTED_ID in table else None)
    if rule.place == "default":
        key, missing = header_text(table.get(h.KEY)), ""
    else:
        found = key_in_delivery(rule, table, properties, message_id)
        key, missing = found.key, found.missing
    return Delivery(
        parcel=Parcel(
            body=body,
            content_type=kind or "",
            content_encoding=encoding,
            message_id=message_id,
            key=key,
            attempt=header_number(table.get(h.ATTEMPT), -1, MAX_ATTEMPT),
            first_seen_ms=first_seen_ms,
            published_ms=_counts_from(table, published_ms, now_ms) if replays else published_ms,
            received_ms=now_ms,
            traceparent=_traceparent(table.get(h.TRACEPARENT)),
            tracestate=header_text(table.get(h.TRACESTATE)),
            again=redelivered or returned or first_seen_ms > 0,
            stamped=stamp is not None,
            missing=missing,
        ),
        properties=properties,
        generation=generation,
        tag=tag,
        consumer=consumer,
        size=plain_size(body, encoding, limits) if encoding else len(body),
        records=count_records(body, kind, encoding, max_records=limits.max_records),
        arrived_at=time.monotonic(),
        redelivered=redelivered,
        refused=_refused(len(body) if spooled is None else spooled.size, properties, limits),
        returned=returned,
        ahead_ms=ahead_ms,
        due_ms=_due(table, first_seen_ms, now_ms) if h.DUE in table else 0,
        replays=replays,
        spooled=spooled,
    )


def _ahead_ms(stamp: object, timestamp: object, now_ms: int) -> int:
    """By how much a message was published later than now, which its `published_ms` does not say."""
    latest_ms = now_ms + h.AHEAD_MOST_MS
    return (moment_ms(stamp, latest_ms) or _stamp(timestamp, latest_ms)) - now_ms


def _due(table: Table, first_seen_ms: int, now_ms: int) -> int:
    return header_number(table[h.DUE], 0, latest_due_ms(table, first_seen_ms, now_ms))


def _counts_from(table: Table, published_ms: int, now_ms: int) -> int:
    """A replayed message waits since its replay, not since its producer sent it."""
    return max(published_ms, moment_ms(table.get(h.REPLAYED), now_ms))


def _refused(size: int, properties: PropertiesLike, limits: MessageLimits) -> str | None:
    if size > limits.max_message_bytes:
        return f"too_large: body of {size:,} bytes, at most {limits.max_message_bytes:,}"
    in_frame: int = getattr(properties, "header_bytes", 0)  # pamqp's properties have none
    if (in_frame or properties.headers) and not _headers_fit(properties.headers, in_frame, limits.max_header_bytes):
        return f"too_large: headers of more than {limits.max_header_bytes:,} bytes"
    unreadable: str | None = getattr(properties, "unreadable", None)
    return unreadable and f"{UNREADABLE_HEADERS}: {unreadable}"


def _headers_fit(table: Table | None, in_frame: int, most: int) -> bool:
    """Whether the table is small enough, by the count that its values take in memory.

    Ours knows how long the table was in its frame. Where that is small there is nothing to count.
    """
    if in_frame > most:
        return False
    return 0 < in_frame * _COUNTED_AT_MOST <= most or table_bytes(table, most) <= most


def _traceparent(value: object) -> str | None:
    text = value if isinstance(value, str) else header_text(value)
    return text if text is not None and _TRACEPARENT.fullmatch(text) else None


def _stamp(value: object, now_ms: int) -> int:
    """Unix ms of the timestamp property: a datetime from pamqp, a whole number from the scanner; 0 for noise."""
    if value is None:
        return 0
    if isinstance(value, datetime):
        value = (value - _EPOCH) // _MILLISECOND if value.tzinfo is not None else 0
        return moment_ms(value, now_ms) if value > h.SECONDS_MOST else 0
    return moment_ms(value, now_ms)
