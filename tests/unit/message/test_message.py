"""Message: what AMQP says beside the body, and in a copy of ours what the first message said."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from rabbitray import Message
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.message import Envelope, message_of
from rabbitray.actors.message.properties.route import read_route, route_of
from rabbitray.actors.testing.properties import properties_of

NOW_MS = 1_767_355_200_000


def read(sent: Message, *, exchange: str = "shop", routing_key: str = "orders", redelivered: bool = False) -> Message:
    envelope = Envelope(raw=properties_of(sent), route=route_of(exchange, routing_key), redelivered=redelivered)
    return message_of(envelope, sent.body, NOW_MS)


def test_a_message_without_properties_has_none() -> None:
    assert read(Message(body=b"x"), exchange="", routing_key="") == Message(body=b"x")


def test_the_way_is_the_deliverys_own() -> None:
    found = read(Message(body=b""), redelivered=True)
    assert (found.exchange, found.routing_key, found.redelivered) == ("shop", "orders", True)


def test_of_a_copy_what_travels_in_headers_of_ours_is_put_back() -> None:
    headers = {
        h.EXCHANGE: "first",
        h.ROUTING_KEY: "",
        h.USER_ID: "alice",
        h.EXPIRES: NOW_MS + 5_000,
        h.KEY: "k",
        "own": 1,
    }
    found = read(Message(body=b"", headers=headers))
    assert (found.exchange, found.routing_key, found.user_id) == ("first", "", "alice")
    assert found.expires_at == datetime(2026, 1, 2, 12, 0, 5, tzinfo=UTC)
    assert found.headers == {"own": 1}


def test_what_rabbitmq_adds_is_no_header_of_the_producer() -> None:
    headers = {"x-death": [{"queue": "q"}], "x-first-death-reason": "expired", "x-delivery-count": 3, "CC": ["a"]}
    found = read(Message(body=b"", headers=headers))
    assert (found.headers, found.delivery_count) == ({}, 3)


@pytest.mark.parametrize("forged", [True, "soon", -(2**62), 1.5])
def test_a_forged_time_hurts_nobody(forged: Any) -> None:
    assert read(Message(body=b"", headers={h.EXPIRES: forged})).expires_at is None


@pytest.mark.parametrize("text", ["", "soon", "-1", "1.5", "²"])
def test_an_expiration_that_is_no_number_is_none(text: str) -> None:
    raw = b"\x01\x00" + bytes((len(text.encode()),)) + text.encode()
    assert message_of(Envelope(raw=raw, route=b"", redelivered=False), b"", NOW_MS).expires_at is None


def test_an_expiration_counts_from_the_delivery() -> None:
    envelope = Envelope(raw=b"\x01\x00\x045000", route=b"", redelivered=False)
    assert message_of(envelope, b"", NOW_MS).expires_at == datetime(2026, 1, 2, 12, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize("raw", [b"", b"\xff", b"\xff\xff", b"\x80\x00\xffshort", b"\x20\x00\x00\x00\x00\xffx"])
def test_properties_that_cannot_be_read_raise_nothing(raw: bytes) -> None:
    found = message_of(Envelope(raw=raw, route=b"\xff\xff", redelivered=False), b"body", NOW_MS)
    assert (found.body, found.headers) == (b"body", {})


def test_a_route_is_read_as_it_was_written() -> None:
    assert read_route(route_of("ä" * 100, "")) == ("ä" * 100, "")
