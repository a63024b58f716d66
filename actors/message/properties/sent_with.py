"""What a message was sent with that its copies cannot be sent with, and carry in headers of ours. Pure.

A copy goes through other exchanges under other routing keys; RabbitMQ checks a user id against the login of whoever
publishes, and deletes what has an expiration, also from a queue of dead letters.

Producers can write these headers, too. So they are believed only of what came the way that copies come, and within the
bounds that RabbitMQ sets to what they stand for.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.properties import fields as f
from rabbitray.actors.message.properties.route import cut_route, route_of_death

EXPIRATION_MOST_MS: Final = 0xFFFFFFFF
"""The longest that RabbitMQ takes: 49 days."""

_SHORT_MOST: Final = 255


class SentWith(NamedTuple):
    """As it stood in the message: `exchange`, `routing_key` (None: not known), `user_id`. `expires_ms`: Unix ms."""

    exchange: bytes | None
    routing_key: bytes | None
    user_id: bytes | None
    expires_ms: int | None

    def headers(self) -> h.Headers:
        """What a copy carries of it."""
        texts = ((h.EXCHANGE, self.exchange), (h.ROUTING_KEY, self.routing_key), (h.USER_ID, self.user_id))
        found: h.Headers = {name: _value(raw) for name, raw in texts if raw is not None}
        return found if self.expires_ms is None else found | {h.EXPIRES: self.expires_ms}


def sent_with(
    fields: Mapping[int, bytes],
    table: Mapping[str, Any],  # Any: AMQP header values
    route: bytes,
    *,
    copied: bool,
    received_ms: int,
) -> SentWith:
    """What this message was sent with. `route`: of its delivery, empty where that says nothing.

    `copied`: it came the way that copies come. The user id that RabbitMQ has checked goes before one in a header.
    """
    given: Mapping[str, Any] = table if copied else {}  # Any: AMQP header values
    exchange, routing_key = cut_route(route) if route else (None, None)
    kept_exchange, kept_key = _short(given.get(h.EXCHANGE)), _short(given.get(h.ROUTING_KEY))
    return SentWith(
        exchange=exchange if kept_exchange is None else kept_exchange,
        routing_key=routing_key if kept_key is None else kept_key,
        user_id=fields.get(f.USER_ID, b"\0")[1:] or _short(given.get(h.USER_ID)) or None,
        expires_ms=_expires_ms(fields, table, given, received_ms),
    )


def dropped_route(table: Mapping[str, Any], route: bytes) -> bytes:  # Any: AMQP header values
    """The route of a message before RabbitMQ dead-lettered it; `route` where its headers do not say."""
    found = route_of_death(h.newest_death(table))
    return route if found is None else found


def _expires_ms(
    fields: Mapping[int, bytes],
    table: Mapping[str, Any],  # Any: AMQP header values
    given: Mapping[str, Any],
    received_ms: int,
) -> int | None:
    """Counted from now, where no copy has counted before."""
    if carried := h.header_number(given.get(h.EXPIRES), 0, received_ms + EXPIRATION_MOST_MS):
        return carried
    if f.EXPIRATION in fields:
        lasts_ms = _milliseconds(fields[f.EXPIRATION][1:])
        return None if lasts_ms is None else received_ms + lasts_ms
    return _expired_ms(h.newest_death(table), received_ms) if h.DEATHS in table else None


def _expired_ms(death: Mapping[str, object], received_ms: int) -> int | None:
    """Of what RabbitMQ dead-lettered, and took the expiration from."""
    lasts_ms, died = _milliseconds(_short(death.get("original-expiration")) or b""), death.get("time")
    if lasts_ms is None or not isinstance(died, datetime) or died.tzinfo is None:
        return None
    died_ms = h.moment_ms(int(died.timestamp()), received_ms) or received_ms
    return died_ms if death.get("reason") == "expired" else died_ms + lasts_ms


def _milliseconds(text: bytes) -> int | None:
    return min(int(text), EXPIRATION_MOST_MS) if text.isdigit() else None


def _short(value: object) -> bytes | None:
    """A text of a header, as a short text has it; None for anything else."""
    raw = value.encode("utf-8", "replace") if isinstance(value, str) else value
    return bytes(raw) if isinstance(raw, bytes | bytearray) and len(raw) <= _SHORT_MOST else None


def _value(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw
