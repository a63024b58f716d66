"""The way of a message: exchange and routing key, as a Basic.Deliver frame has them. Pure."""

from __future__ import annotations


def route_of(exchange: str, routing_key: str) -> bytes:
    """Exchange and routing key as they stand in a Basic.Deliver frame: two short texts."""
    return short_text(exchange) + short_text(routing_key)


def read_route(route: bytes | bytearray) -> tuple[str, str]:
    """The exchange and the routing key of `route_of`; what is no UTF-8 in it is replaced."""
    exchange, rest = _cut(route)
    return exchange, _cut(rest)[0]


def short_text(text: str) -> bytes:
    """A text as AMQP has it: a byte with its length, then its UTF-8, at most 255 bytes of it."""
    raw = text.encode()
    return bytes((len(raw),)) + raw


def _cut(data: bytes | bytearray) -> tuple[str, bytes | bytearray]:
    length = data[0] if data else 0
    return data[1 : 1 + length].decode("utf-8", "replace"), data[1 + length :]
