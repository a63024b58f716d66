"""When the copy of a dead letter would be the same message, and how often the broker delivered it."""

from __future__ import annotations

from typing import Any

import pytest

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.properties.property_list import from_raw
from rabbitray.cluster.results.dead_letter_replay import (
    LOOKED_AT_MOST,
)
from rabbitray.cluster.results.dead_letter_selection import DeadLetter, deliveries, replay_copy, unchanged
from tests.kit.dead_letters import AT, DEAD, dead_letter, headers_sent
from tests.kit.raw_amqp import BEYOND, ONE_OF_EACH, properties, scalar, table

# pure


def dead(headers: dict[str, Any] | None = None, **changes: Any) -> DeadLetter:
    """A dead letter of ours."""
    return dead_letter(headers or {}, **{"content_type": "application/json", "timestamp": AT, **changes})


def test_an_unchanged_copy_has_all_but_the_brokers_counts() -> None:
    table = {h.KEY: "k", h.ERROR: "no", "x-death": [1], "x-delivery-count": 7, "x-acquired-count": 9}
    copy = unchanged(dead(table), DEAD)
    assert copy is not None
    assert headers_sent(copy) == {h.KEY: "k", h.ERROR: "no", "x-death": [1]}
    assert (copy.message_id, copy.routing_key, copy.timestamp_s) == ("m1", DEAD, int(AT.timestamp()))


@pytest.mark.parametrize(
    "changes",
    [
        {"message_id": None},
        {"timestamp": None},
        {"correlation_id": "c"},
        {"reply_to": "r"},
        {"headers": {"CC": ["elsewhere"]}},
    ],
)
def test_what_a_copy_would_change_is_not_copied(changes: dict[str, Any]) -> None:
    assert unchanged(dead(**changes), DEAD) is None


@pytest.mark.parametrize(
    ("headers", "count"),
    [
        ({}, 0),
        ({"x-delivery-count": 3}, 3),
        ({"x-delivery-count": 0, "x-acquired-count": LOOKED_AT_MOST}, LOOKED_AT_MOST),
        ({"x-delivery-count": "forged"}, 0),
    ],
)
def test_deliveries_are_what_the_broker_counted(headers: dict[str, Any], count: int) -> None:
    assert deliveries(dead(headers)) == count


def test_an_unchanged_copy_has_every_header_as_it_stood() -> None:
    headers = table(ONE_OF_EACH | {b"when": scalar("T", BEYOND[0]), b"\xff": scalar("V")})
    raw = b"\xb0\xc0" + properties(headers)[2:] + (5).to_bytes(8, "big")
    copy = unchanged(DeadLetter(b"x", from_raw(raw)), DEAD)
    assert copy is not None
    assert (copy.entries, copy.headers) == (headers[4:], {})


def test_a_message_whose_id_is_no_text_is_not_copied() -> None:
    raw = b"\xb0\xc0" + properties(table({}), b"\xff")[2:] + (5).to_bytes(8, "big")
    assert unchanged(DeadLetter(b"x", from_raw(raw)), DEAD) is None


@pytest.mark.parametrize("headers", [{}, {"a": 1}])
@pytest.mark.parametrize("priority", [None, 0, 9])
def test_a_copy_has_the_priority_of_its_message(headers: dict[str, Any], priority: int | None) -> None:
    """None is not 0 for RabbitMQ 4.3, where it lies before it; aio-pika always writes one."""
    letter = dead(headers, priority=priority, delivery_mode=2)
    copy = unchanged(letter, DEAD)
    assert copy is not None
    assert headers_sent(copy) == headers
    assert (copy.priority, replay_copy(letter, "jobs").priority) == (priority, priority)
