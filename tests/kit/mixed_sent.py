"""What the producers of the mixed messages sent, by id: read from RabbitMQ's own copies, with pamqp and the libraries
of the formats; nothing of rabbitray is asked.
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import dramatiq
import msgpack
from pamqp.commands import Basic

from tests.kit.mixed_handler import named_in, record_of
from tests.kit.mixed_producers import Shop
from tests.kit.recorded import raw_channel, reading_raw

_FIELDS = ("content_type", "content_encoding", "headers", "message_id", "correlation_id", "reply_to", "app_id")
_MORE_FIELDS = ("user_id", "priority")
_QUIET_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One message. `record`: see `record_of`; `expiration_ms`: None for none."""

    record: dict[str, str]
    expiration_ms: int | None = None


def through_the_tap(url: str, shop: Shop) -> dict[str, Sent]:
    """All that came through the producers' exchanges; empties the tap."""
    found: dict[str, Sent] = {}
    with reading_raw(), raw_channel(url) as channel:
        for method, properties, body in channel.consume(shop.tap, auto_ack=True, inactivity_timeout=_QUIET_S):
            if method is None:
                return found
            told = _told(properties.raw)
            told |= {"exchange": method.exchange, "routing_key": method.routing_key, "timestamp": properties.timestamp}
            payload = payload_of(body, told)
            expiration_ms = told.pop("expiration")
            name, _ = named_in(payload)
            assert name not in found, f"{name} was sent twice"
            found[name] = Sent(
                record=record_of(told, body, payload),
                expiration_ms=None if expiration_ms is None else int(expiration_ms),
            )
    raise AssertionError("the tap is open until it is quiet")


def by_dramatiq_itself(messages: Iterable[dramatiq.Message[Any]], shop: Shop) -> dict[str, Sent]:
    """What Dramatiq says that it sent: to the default exchange, with a priority and no other property."""
    nothing = dict.fromkeys((*_FIELDS, *_MORE_FIELDS, "type", "timestamp"))
    found = {}
    for message in messages:
        own = {"exchange": "", "routing_key": shop.queue, "priority": message.options.get("broker_priority")}
        body = message.encode()
        found[message.kwargs["id"]] = Sent(record=record_of(nothing | own, body, json.loads(body)))
    return found


def _told(raw: bytes) -> dict[str, Any]:
    """The properties under the names of a Message; pika, which took them, cuts the fraction off a float."""
    read = Basic.Properties()
    read.unmarshal(struct.unpack_from(">H", raw)[0], raw[2:])
    found = {name: getattr(read, name) for name in (*_FIELDS, *_MORE_FIELDS, "expiration")}
    return found | {"type": read.message_type}


def payload_of(body: bytes, properties: Mapping[str, Any]) -> Any:
    """What the body means by its content type."""
    if properties["content_encoding"] == "gzip":
        body = gzip.decompress(body)
    if (properties["headers"] or {}).get("compression") == "application/x-gzip":
        body = zlib.decompress(body)  # as kombu means it
    match (properties["content_type"] or "application/json").partition(";")[0]:
        case "application/json":
            return json.loads(body)
        case "application/msgpack" | "application/x-msgpack":
            return msgpack.unpackb(body)
        case "text/plain":
            return body.decode("latin-1" if "latin-1" in properties["content_type"] else "utf-8")
    return body
