"""What a message was sent with: as its delivery says, or as our copy says, which is believed within bounds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.message import Envelope, message_of
from rabbitray.actors.message.properties import fields as f
from rabbitray.actors.message.properties.route import read_route, route_of, route_of_death
from rabbitray.actors.message.properties.sent_with import EXPIRATION_MOST_MS, SentWith, dropped_route, sent_with
from tests.kit.deliveries import as_it_came, delivery
from tests.kit.raw_amqp import short

NOW_MS = 1_767_312_000_000
ROUTE = route_of("shop", "order.created")
COPY = {h.EXCHANGE: "", h.ROUTING_KEY: "first", h.USER_ID: "alice", h.EXPIRES: NOW_MS - 5}


def found(
    table: dict[str, Any] | None = None, *, copied: bool = True, route: bytes = ROUTE, **fields: bytes
) -> SentWith:
    given_ = {getattr(f, name.upper()): short(text) for name, text in fields.items()}
    return sent_with(given_, table or {}, route, copied=copied, received_ms=NOW_MS)


def test_a_first_delivery_says_it_all() -> None:
    assert found(user_id=b"bob", expiration=b"600000") == (b"shop", b"order.created", b"bob", NOW_MS + 600_000)
    assert found() == (b"shop", b"order.created", None, None)
    assert found(route=b"").headers() == {}, "of a dead letter of an earlier version nothing is known"


def test_a_copy_says_what_its_message_was_sent_with_and_the_next_copy_says_it_again() -> None:
    sent = found(COPY, route=route_of("", "jobs"))
    assert sent == (b"", b"first", b"alice", NOW_MS - 5), "an empty exchange is one, too"
    assert sent.headers() == COPY


def test_the_user_whom_rabbitmq_has_checked_goes_before_the_one_in_a_header() -> None:
    assert found(COPY, user_id=b"bob").user_id == b"bob"


def test_what_came_by_another_way_than_copies_do_is_no_copy() -> None:
    assert found(COPY, copied=False, user_id=b"bob") == found(user_id=b"bob")
    assert found(COPY, copied=False) == (b"shop", b"order.created", None, None)


@pytest.mark.parametrize("value", ["x" * 256, 7, None, True, [], {"a": 1}, "ä" * 200])
def test_what_no_route_can_be_is_not_believed(value: object) -> None:
    assert found(dict.fromkeys((h.EXCHANGE, h.ROUTING_KEY, h.USER_ID), value)) == found()


@pytest.mark.parametrize(
    ("value", "read"),
    [(NOW_MS, NOW_MS), (2**62, NOW_MS + EXPIRATION_MOST_MS), (-5, None), (0, None), ("7", None), (True, None)],
)
def test_an_expiry_is_at_most_what_rabbitmq_would_take(value: object, read: int | None) -> None:
    assert found({h.EXPIRES: value}).expires_ms == read


@pytest.mark.parametrize(("text", "lasts"), [(b"0", 0), (b"9" * 255, EXPIRATION_MOST_MS), (b"", None), (b"-1", None)])
def test_an_expiration_is_a_number_of_milliseconds(text: bytes, lasts: int | None) -> None:
    assert found(expiration=text).expires_ms == (None if lasts is None else NOW_MS + lasts)


@pytest.mark.parametrize(("reason", "expires"), [("expired", NOW_MS - 60_000), ("maxlen", NOW_MS - 55_000)])
def test_of_what_rabbitmq_dropped_its_record_tells_the_expiry_and_the_way(reason: str, expires: int) -> None:
    death = {
        "reason": reason, "time": datetime.fromtimestamp(NOW_MS / 1_000 - 60, UTC), "original-expiration": "5000",
        "exchange": "shop", "routing-keys": ["order.created"],
    }  # fmt: skip
    assert found({h.DEATHS: [death]}).expires_ms == expires
    assert dropped_route({h.DEATHS: [death]}, b"other") == ROUTE


odd = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=300)
    | st.binary(max_size=300)
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=4,
)
deaths = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("reason", "time", "original-expiration", "exchange", "routing-keys"), odd)
)


@given(st.dictionaries(st.sampled_from([*h.SENT, h.DEATHS]), odd | st.lists(odd | deaths, max_size=2)), st.booleans())
def test_whatever_is_written_there_is_bounded_and_stays_the_same_from_copy_to_copy(
    table: dict[str, Any], copied: bool
) -> None:
    first = found(table, copied=copied)
    assert all(len(raw) <= 255 for raw in first[:3] if raw is not None)
    assert first.expires_ms is None or 0 <= first.expires_ms <= NOW_MS + 2 * EXPIRATION_MOST_MS
    again = found(first.headers(), route=b"")
    assert again[:3] == first[:3]
    route = dropped_route(table, ROUTE)
    assert all(len(part.encode()) <= 3 * 255 for part in read_route(route))


def test_a_record_of_a_death_without_a_way_says_nothing() -> None:
    assert route_of_death({}) is None
    assert route_of_death({"exchange": "a", "routing-keys": ["x" * 256]}) is None
    assert read_route(route_of_death({"exchange": b"\xff", "routing-keys": ["k"]}) or b"") == ("\ufffd", "k")


def test_a_handler_is_told_what_the_message_was_sent_with() -> None:
    """By a worker's envelope, of a copy and of what only says that it is one."""
    properties = as_it_came(COPY | {"tenant": "a"}, message_id="m")
    one = delivery(1, properties=properties, route=route_of("", "jobs"))
    envelope = one.with_envelope({route_of("", "jobs")}).envelope
    assert envelope is not None
    told = message_of(envelope, b"{}", NOW_MS)
    assert (told.exchange, told.routing_key, told.user_id) == ("", "first", "alice")
    assert told.expires_at == datetime.fromtimestamp((NOW_MS - 5) / 1_000, UTC)
    assert told.headers == {"tenant": "a"}
    forged = message_of(Envelope(raw=properties.raw, route=ROUTE, redelivered=False, copied=False), b"{}", NOW_MS)
    assert (forged.exchange, forged.routing_key, forged.user_id) == ("shop", "order.created", None)
    assert (forged.expires_at, forged.headers) == (None, {"tenant": "a"})
