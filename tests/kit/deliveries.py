"""Parcels, deliveries and received messages with plausible values."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

from aiormq.abc import DeliveredMessage
from pamqp import commands as spec

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.parcel import Parcel
from rabbitray.actors.message.properties.fields import fields_of
from rabbitray.actors.message.properties.property_list import Properties, from_raw
from rabbitray.actors.publisher.amqp import frames
from rabbitray.actors.router.delivery import Delivery


def parcel(body: bytes = b"{}", **changes: Any) -> Parcel:
    """A parcel with plausible values."""
    plain: dict[str, Any] = {
        "content_type": h.JSON,
        "content_encoding": "",
        "message_id": "m-1",
        "key": None,
        "attempt": -1,
        "first_seen_ms": 0,
        "published_ms": 0,
        "received_ms": time.time_ns() // 1_000_000,
        "traceparent": None,
        "tracestate": None,
    }
    return Parcel(body=body, **(plain | changes))


def as_it_came(headers: Mapping[str, Any] | None = None, **own: Any) -> Properties:
    """Properties as the intake reads them. `own`: AMQP basic properties, as pamqp has them."""
    fields = fields_of(spec.Basic.Properties(**own).marshal())
    assert fields is not None
    return from_raw(frames.copied_header(0, fields, frames.table(headers or {}))[frames.CONTENT_BYTES :])


def delivery(tag: int = 1, body: bytes = b"{}", **changes: Any) -> Delivery:
    """A delivery with plausible values; names of parcel fields go to its parcel."""
    inner = {name: changes.pop(name) for name in list(changes) if name in Parcel.__struct_fields__}
    inner.setdefault("message_id", f"m-{tag}")
    if "properties" not in changes:
        changes["properties"] = as_it_came(
            message_id=inner["message_id"], content_type=inner.get("content_type", h.JSON)
        )
    plain: dict[str, Any] = {
        "generation": 1,
        "tag": tag,
        "consumer": 1,
        "size": len(body),
        "records": 1,
        "arrived_at": 0.0,
        "redelivered": False,
    }
    return Delivery(parcel=parcel(body, **inner), **(plain | changes))


def received(
    body: bytes = b"{}",
    headers: Mapping[str, Any] | None = None,
    *,
    tag: int = 1,
    redelivered: bool = False,
    **own: Any,
) -> DeliveredMessage:
    """A message as aiormq hands it to a consumer; `own`: AMQP basic properties."""
    properties = spec.Basic.Properties(headers=dict(headers) if headers else None, **own)
    deliver = spec.Basic.Deliver(
        consumer_tag="c", delivery_tag=tag, redelivered=redelivered, exchange="", routing_key="q"
    )
    return cast(
        DeliveredMessage,
        SimpleNamespace(body=body, header=SimpleNamespace(properties=properties), delivery=deliver),
    )
