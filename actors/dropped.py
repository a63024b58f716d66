"""What the broker itself dead-lettered from the main queue: expired, over the delivery limit, or over its length. Pure.

RabbitMQ moves such a message without asking us; its reason stands in the `x-death` header. The collector turns it
into an ordinary dead letter, with a row.
"""

from __future__ import annotations

from collections.abc import Mapping

from actors.delivery import Delivery
from actors.settling import whole
from actors.verdict import Failure


def dropped(delivery: Delivery) -> Failure:
    """The failure of a message from the queue `<queue>.dropped`."""
    death = _newest_death(getattr(delivery.properties, "headers", None))
    reason = str(death.get("reason", "unknown"))
    queue = str(death.get("queue", "?"))
    return whole(delivery, f"broker_{reason}", f"dead-lettered by the broker from {queue}: {reason}", "BrokerDrop")


def _newest_death(table: object) -> Mapping[str, object]:
    deaths = table.get("x-death") if isinstance(table, Mapping) else None
    newest = deaths[0] if isinstance(deaths, list) and deaths else None
    return newest if isinstance(newest, Mapping) else {}
