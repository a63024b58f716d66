"""The ordinary message: 2 KiB of JSON, the type that it is decoded into, and a handler that returns ten fields.

Both sides of the throughput bench use it, in processes of their own: neither Ray nor a broker is needed here.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

BODY_BYTES: Final = 2_048
CONTENT_TYPE: Final = "application/json"
HANDLER: Final = "bench.ordinary:handle"


@dataclass
class Line:
    sku: str
    title: str
    quantity: int
    unit_price: float
    tax_rate: float


@dataclass
class Customer:
    id: str
    name: str
    email: str


@dataclass
class Address:
    street: str
    postcode: str
    city: str
    country: str


@dataclass
class Order:
    id: str
    placed_at: datetime
    currency: str
    customer: Customer
    ship_to: Address
    lines: list[Line]
    coupon: str | None
    note: str


def handle(order: Order) -> dict[str, Any]:  # Any: JSON values
    """What is known of an order: ten fields."""
    net = sum(line.quantity * line.unit_price for line in order.lines)
    tax = sum(line.quantity * line.unit_price * line.tax_rate for line in order.lines)
    return {
        "order": order.id,
        "placed_on": order.placed_at.date().isoformat(),
        "customer": order.customer.id,
        "country": order.ship_to.country,
        "currency": order.currency,
        "lines": len(order.lines),
        "pieces": sum(line.quantity for line in order.lines),
        "net": round(net, 2),
        "tax": round(tax, 2),
        "total": round(net + tax, 2),
    }


def documents(count: int) -> Iterator[tuple[str, bytes]]:
    """So many orders: the id of each, no other has it, and its body of BODY_BYTES bytes."""
    series = uuid.uuid4().hex[:12]
    for number in range(count):
        order_id = f"{series}-{number:08}"
        yield order_id, _TEMPLATE.replace(_NO_ID, order_id.encode(), 1)


_NO_ID: Final = b"#" * 21


def _template() -> bytes:
    """A body whose id is to be filled in."""
    document = {
        "id": _NO_ID.decode(),
        "placed_at": "2026-01-02T12:00:00Z",
        "currency": "EUR",
        "customer": {"id": "c-20418", "name": "Ada Example", "email": "ada@example.org"},
        "ship_to": {"street": "12 Station Road", "postcode": "10115", "city": "Berlin", "country": "DE"},
        "lines": [_line(number) for number in range(14)],
        "coupon": None,
        "note": "",
    }
    missing = BODY_BYTES - len(_json(document))
    return _json(document | {"note": ("Leave it with the neighbours. " * missing)[:missing]})


def _line(number: int) -> dict[str, Any]:  # Any: JSON values
    return {
        "sku": f"SKU-{number:06}",
        "title": f"Article number {number}",
        "quantity": 1 + number % 3,
        "unit_price": 4.95 + number,
        "tax_rate": 0.19,
    }


def _json(document: dict[str, Any]) -> bytes:  # Any: JSON values
    return json.dumps(document, separators=(",", ":")).encode()


_TEMPLATE: Final = _template()
