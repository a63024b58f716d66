"""Reads what the router needs of a delivered message: identity and headers, never the body. Pure.

Headers are the producer's to write, so everything is clamped here, once.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, cast

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.headers import MAX_TEXT, table_bytes
from rabbitray.actors.message.parcel import MAX_ATTEMPT, Parcel
from rabbitray.actors.message.wire import MessageLimits, count_records, plain_size
from rabbitray.actors.router.delivery import Delivery

if TYPE_CHECKING:
    from aiormq.abc import DeliveredMessage
    from pamqp.commands import Basic

_COUNTED_AT_MOST = 20  # times what a table took in its frame, where a value may be 1 byte and a name 1 byte more
UNREADABLE_HEADERS = "unreadable_headers"
"""The reason of a dead letter whose headers or properties could not be read, or not all of them."""

FAR_FUTURE_MS = 32_503_680_000_000  # the year 3000: beyond it a time stamp is noise
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

Table = Mapping[str, object]
_EMPTY: Table = {}


class PropertiesLike(Protocol):
    """The basic properties that are read, as pamqp or the scanner has them."""

    content_type: str | None
    content_encoding: str | None
    headers: Any  # Any: an AMQP field table or None
    message_id: str | None
    timestamp: Any  # Any: datetime, or Unix seconds


def read_delivery(message: DeliveredMessage, *, generation: int, consumer: int, limits: MessageLimits) -> Delivery:
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
) -> Delivery:
    """The Delivery of one AMQP message; costs a few microseconds and raises nothing on any input."""
    table: Table = properties.headers or _EMPTY
    kind = properties.content_type
    return Delivery(
        parcel=Parcel(
            body=body,
            content_type=kind or "",
            content_encoding=properties.content_encoding or "",
            message_id=properties.message_id or None,
            key=_text(table.get(h.KEY)),
            attempt=_number(table.get(h.ATTEMPT), -1, MAX_ATTEMPT),
            first_seen_ms=_number(table.get(h.FIRST_SEEN), 0, FAR_FUTURE_MS),
            published_ms=_number(table.get(h.PUBLISHED), 0, FAR_FUTURE_MS) or _stamp(properties.timestamp),
            received_ms=int(time.time() * 1000),
            traceparent=_traceparent(table.get(h.TRACEPARENT)),
            tracestate=_text(table.get(h.TRACESTATE)),
        ),
        properties=properties,
        generation=generation,
        tag=tag,
        consumer=consumer,
        size=plain_size(body, properties.content_encoding, limits) if properties.content_encoding else len(body),
        records=count_records(body, kind, properties.content_encoding, max_records=limits.max_records),
        arrived_at=time.monotonic(),
        redelivered=redelivered,
        refused=_refused(body, properties, limits),
        returned=h.ATTEMPT in table or h.DUE in table,
        due_ms=_number(table.get(h.DUE), 0, FAR_FUTURE_MS),
        replays=_number(table.get(h.REPLAYS), 0, MAX_ATTEMPT),
    )


def _refused(body: bytes, properties: PropertiesLike, limits: MessageLimits) -> str | None:
    if len(body) > limits.max_message_bytes:
        return f"too_large: body of {len(body):,} bytes, at most {limits.max_message_bytes:,}"
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


def _number(value: object, least: int, most: int) -> int:
    """An integer header clamped to its range; anything else counts as absent (`least`)."""
    if isinstance(value, bool) or not isinstance(value, int):
        return least
    return min(max(value, max(least, 0)), most)


def _text(value: object) -> str | None:
    if isinstance(value, bytes | bytearray):
        value = bytes(value).decode("utf-8", "replace")
    return value if isinstance(value, str) and 0 < len(value) <= MAX_TEXT else None


def _traceparent(value: object) -> str | None:
    text = value if isinstance(value, str) else _text(value)
    return text if text is not None and _TRACEPARENT.fullmatch(text) else None


def _stamp(value: object) -> int:
    """Unix ms of the timestamp property: a datetime from pamqp, whole seconds from the scanner; 0 for noise."""
    if isinstance(value, datetime):
        value = int(value.timestamp()) if value.tzinfo is not None else 0
    return _number(value, 0, FAR_FUTURE_MS // 1000) * 1000
