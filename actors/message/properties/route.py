"""The way of a message: exchange and routing key, as a Basic.Deliver frame has them. Pure."""

from __future__ import annotations

from collections.abc import Mapping


def route_of(exchange: str, routing_key: str) -> bytes:
    """Exchange and routing key as they stand in a Basic.Deliver frame: two short texts."""
    return short_text(exchange) + short_text(routing_key)


def read_route(route: bytes | bytearray) -> tuple[str, str]:
    """The exchange and the routing key of `route_of`; what is no UTF-8 in it is replaced."""
    exchange, routing_key = cut_route(route)
    return exchange.decode("utf-8", "replace"), routing_key.decode("utf-8", "replace")


def cut_route(route: bytes | bytearray) -> tuple[bytes, bytes]:
    """The same two as they stand there."""
    exchange, rest = _cut(route)
    return exchange, _cut(rest)[0]


def route_of_death(death: Mapping[str, object]) -> bytes | None:
    """By which way a message had come into the queue that it died in; None where RabbitMQ's record does not say."""
    keys = death.get("routing-keys")
    parts = (death.get("exchange"), keys[0] if isinstance(keys, list) and keys else None)
    raw = [part.encode("utf-8", "replace") if isinstance(part, str) else part for part in parts]
    if not all(isinstance(part, bytes | bytearray) and len(part) <= _MOST for part in raw):
        return None
    return b"".join(bytes((len(part),)) + part for part in raw if isinstance(part, bytes | bytearray))


def short_text(text: str) -> bytes:
    """A text as AMQP has it: a byte with its length, then its UTF-8, at most 255 bytes of it."""
    raw = text.encode()
    return bytes((len(raw),)) + raw


_MOST = 255


def _cut(data: bytes | bytearray) -> tuple[bytes, bytes | bytearray]:
    length = data[0] if data else 0
    return bytes(data[1 : 1 + length]), data[1 + length :]
