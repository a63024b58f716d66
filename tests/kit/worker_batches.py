"""Batches for a Worker, and all that it answers to them."""

from __future__ import annotations

from typing import Any

from rabbitray import Job
from rabbitray.actors.message.parcel import Parcel, Shipment, pack_parcels
from rabbitray.actors.message.reply import Part, decode_part, encode_part
from rabbitray.actors.message.wire import encode
from rabbitray.actors.worker.worker import Worker
from tests.kit.deliveries import parcel

Rows = list[dict[str, Any]]


def buffer(*payloads: Any, **changes: Any) -> Shipment:
    return parcels(*(single(n, payload, **changes) for n, payload in enumerate(payloads)))


def single(n: int, payload: Any, **changes: Any) -> Parcel:
    body, content_type = encode(Job(id=f"j{n}", payload=payload))
    return parcel(body, **{"content_type": content_type, "message_id": f"m{n}"} | changes)


def parcels(*items: Parcel) -> Shipment:
    return pack_parcels(items)


async def whole(worker: Worker, body: bytes, name: str = "b") -> tuple[list[Part], Rows]:
    """All parts of a batch, as they cross to the router, and all rows."""
    part, table = await worker.run(name, body)
    found, rows = [decode_part(encode_part(part))], table.to_pylist()
    while part.open:
        part, table = await worker.more(name)
        found.append(decode_part(encode_part(part)))
        rows += table.to_pylist()
    return found, rows
