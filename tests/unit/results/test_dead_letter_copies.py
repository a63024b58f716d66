"""When the copy of a dead letter would be the same message, and how often the broker delivered it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.properties.fields import (
    DELIVERY_MODE,
    EXPIRATION,
    HEADERS,
    PRIORITY,
    USER_ID,
    fields_of,
)
from rabbitray.actors.message.properties.property_list import from_raw, priority_of
from rabbitray.actors.publisher import EncodedMessage
from rabbitray.actors.publisher.amqp import frames
from rabbitray.cluster.results.dead_letter_replay import (
    LOOKED_AT_MOST,
)
from rabbitray.cluster.results.dead_letter_selection import (
    DeadLetter,
    deliveries,
    replay_copy,
    unchanged,
)
from tests.kit.dead_letters import AT, DEAD, dead_letter, headers_sent, properties_sent
from tests.kit.raw_amqp import BEYOND, ONE_OF_EACH, properties, scalar, table

OF_A_DEAD_LETTER = {h.PRIORITY: -1}

# pure


def came_back(copy: EncodedMessage) -> DeadLetter:
    """The copy, as it is got from the dead letters."""
    return DeadLetter(copy.body, properties_sent(copy))


def dead(headers: dict[str, Any] | None = None, **changes: Any) -> DeadLetter:
    """A dead letter of ours."""
    return dead_letter(headers or {}, **{"content_type": "application/json", "timestamp": AT, **changes})


def test_an_unchanged_copy_has_all_but_the_brokers_counts() -> None:
    table = {h.KEY: "k", h.ERROR: "no", "x-death": [1], "x-delivery-count": 7, "x-acquired-count": 9}
    letter = dead(table)
    copy = unchanged(letter, DEAD)
    assert copy is not None
    assert headers_sent(copy) == {h.KEY: "k", h.ERROR: "no", "x-death": [1]} | OF_A_DEAD_LETTER
    assert (copy.message_id, copy.routing_key) == ("m1", DEAD)
    assert properties_sent(copy).timestamp == int(AT.timestamp())
    again = unchanged(came_back(copy), DEAD)
    assert again is not None
    assert properties_sent(again).raw == properties_sent(copy).raw, "from now on not a byte changes"


@pytest.mark.parametrize(
    "changes",
    [
        {"message_id": None},
        {"headers": {"CC": ["elsewhere"]}},
    ],
)
def test_what_a_copy_would_change_is_not_copied(changes: dict[str, Any]) -> None:
    assert unchanged(dead(**changes), DEAD) is None


@pytest.mark.parametrize("raw", [b"", b"\x00", b"\x00\x81\x01m", b"\x00\x80\x01m\x00", b"\x00\xc0\x01m\x00"])
def test_properties_that_cannot_be_told_apart_are_not_copied(raw: bytes) -> None:
    assert unchanged(DeadLetter(b"x", from_raw(raw)), DEAD) is None


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
    assert (copy.entries, copy.headers) == (headers[4:], OF_A_DEAD_LETTER)


def test_texts_that_are_no_utf_8_are_put_back_as_they_are() -> None:
    raw = b"\xb0\xc0" + properties(table({}), b"\xff")[2:] + (5).to_bytes(8, "big")
    copy = unchanged(DeadLetter(b"x", from_raw(raw)), DEAD)
    assert copy is not None
    assert fields_of(properties_sent(copy).raw, ) == (fields_of(raw) or {}) | {
        PRIORITY: b"\0", HEADERS: frames.table(OF_A_DEAD_LETTER)
    }  # fmt: skip


@pytest.mark.parametrize("headers", [{}, {"a": 1}])
@pytest.mark.parametrize("priority", [None, 0, 9])
def test_a_dead_letter_lies_at_priority_0_and_comes_back_with_its_own(
    headers: dict[str, Any], priority: int | None
) -> None:
    """None is not 0 for RabbitMQ 4.3, where it lies before it; aio-pika always writes one. A letter of an earlier
    version still has its own."""
    letter = dead(headers, priority=priority, delivery_mode=2)
    assert priority_of(properties_sent(replay_copy(letter, "jobs"))) == priority
    for _ in range(2):
        copy = unchanged(letter, DEAD)
        assert copy is not None
        assert headers_sent(copy) == headers | {h.PRIORITY: -1 if priority is None else priority}
        assert priority_of(properties_sent(copy)) == 0
        letter = came_back(copy)
        replayed = replay_copy(letter, "jobs")
        assert priority_of(properties_sent(replayed)) == priority
        assert h.PRIORITY not in headers_sent(replayed)


@pytest.mark.parametrize(("forged", "given"), [("x", 7), (True, 7), (None, 7), (2**62, 255), (-5, None)])
def test_a_forged_priority_is_one_at_most(forged: object, given: int | None) -> None:
    letter = dead({h.PRIORITY: forged}, priority=7)
    assert priority_of(properties_sent(replay_copy(letter, "jobs"))) == given


def test_a_replay_keeps_the_message() -> None:
    own = {h.EXCHANGE: "shop", h.ROUTING_KEY: "order.created", h.USER_ID: "alice", h.EXPIRES: 1_767_312_000_000}
    texts = {
        "correlation_id": "c",
        "reply_to": "r",
        "message_type": "order",
        "app_id": "shop",
        "content_encoding": "gzip",
    }
    letter = dead(own | {"tenant": "a"}, **texts)
    for copy in (replay_copy(letter, "jobs"), unchanged(letter, DEAD)):
        assert copy is not None
        found = fields_of(properties_sent(copy).raw) or {}
        came = fields_of(letter.properties.raw) or {}
        apart = (HEADERS, PRIORITY, DELIVERY_MODE)
        assert {flag: raw for flag, raw in found.items() if flag not in apart} == {
            flag: raw for flag, raw in came.items() if flag not in apart
        }
        assert (own | {"tenant": "a"}).items() <= headers_sent(copy).items()


def test_a_strangers_dead_letter_that_expires_is_put_back_without_an_expiration() -> None:
    letter = dead(expiration="600000", user_id="alice")
    copy = unchanged(letter, DEAD)
    assert copy is not None
    assert not {EXPIRATION, USER_ID} & (fields_of(properties_sent(copy).raw) or {}).keys()
    assert copy.headers[h.USER_ID] == "alice"
    assert 0 <= copy.headers[h.EXPIRES] - time.time() * 1_000 - 600_000 + 5_000 <= 5_000
