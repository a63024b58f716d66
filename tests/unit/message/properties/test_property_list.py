"""Properties are read as pamqp reads them; whatever the bytes are, none raises, and all of them are kept."""

from __future__ import annotations

import datetime as dt
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands as spec

from rabbitray.actors.message.properties.property_list import (
    MOST_TABLE_BYTES,
    Properties,
    from_raw,
    header_names,
    headers_where,
    is_plain,
    priority_of,
    read_properties,
)
from tests.kit.raw_amqp import BEYOND, ONE_OF_EACH, entry, long, properties, scalar, table, tables

POISON = {b"a": scalar("f", 0.1), b"when": scalar("T", BEYOND[0]), b"\xff": scalar("V"), b"z": scalar("l", 5)}
short = st.none() | st.text(min_size=1, max_size=20)


@given(
    st.fixed_dictionaries(
        {
            **dict.fromkeys(
                ["content_type", "content_encoding", "correlation_id", "reply_to", "expiration", "message_id"], short
            ),
            **dict.fromkeys(["message_type", "user_id", "app_id"], short),
            "headers": st.none() | st.dictionaries(st.text(max_size=5), st.integers(0, 9) | st.booleans(), max_size=3),
            "delivery_mode": st.sampled_from([None, 1, 2]),
            "priority": st.none() | st.integers(0, 9),
            "timestamp": st.none() | st.integers(0, 2**32 - 1).map(lambda stamp: datetime.fromtimestamp(stamp, UTC)),
        }
    ),
    st.data(),
)
def test_properties_are_read_as_pamqp_wrote_them(given_: dict[str, Any], data: st.DataObject) -> None:
    sent = spec.Basic.Properties(**given_)
    raw = sent.marshal()
    found = read_properties(bytearray(b"before" + raw + b"behind"), 8, 6 + len(raw), int.from_bytes(raw[:2], "big"))
    assert found == from_raw(raw)
    assert (found.raw, found.unreadable) == (raw, None)
    names = ("content_type", "content_encoding", "message_id")
    assert [getattr(found, name) for name in names] == [getattr(sent, name) for name in names]
    assert (found.headers or {}) == (sent.headers or {})
    assert found.timestamp == (sent.timestamp and int(sent.timestamp.timestamp()))
    cut = raw[: data.draw(st.integers(0, len(raw)))]
    assert from_raw(cut).raw == cut


@given(
    st.fixed_dictionaries(
        {
            **dict.fromkeys(["content_type", "content_encoding", "message_id"], short),
            **dict.fromkeys(["reply_to", "app_id"], st.none() | st.just("x")),
            "headers": st.sampled_from([None, {"a": 1}]),
            "delivery_mode": st.sampled_from([None, 2]),
            "priority": st.sampled_from([None, 0, 3]),
            "timestamp": st.sampled_from([None, dt.datetime(2026, 1, 2, tzinfo=dt.UTC)]),
        }
    ),
    st.booleans(),
)
def test_what_no_column_of_a_dead_letter_holds_is_known(given_: dict[str, Any], stamped: bool) -> None:
    found = from_raw(spec.Basic.Properties(**given_).marshal())
    more = [given_["reply_to"], given_["app_id"], given_["priority"] is not None, given_["timestamp"] and not stamped]
    assert is_plain(found, stamped=stamped) == (not any(more))
    assert priority_of(found) == given_["priority"]


@given(st.binary(max_size=80))
def test_any_bytes_are_properties_of_some_kind(raw: bytes) -> None:
    found = from_raw(raw)
    assert found.raw == raw
    kept, _ = headers_where(found, lambda name: True)
    assert kept in raw
    assert is_plain(found, stamped=True) in (True, False)
    assert priority_of(found) in (None, *range(256))


@given(tables)
def test_every_header_can_be_kept_as_it_stood(written: bytes) -> None:
    found = from_raw(properties(written, b"m"))
    assert (found.message_id, found.content_type) == ("m", "application/json")
    assert headers_where(found, lambda name: True) == (written[4:], 0)
    assert headers_where(found, lambda name: False) == (b"", 0)
    kept, left = headers_where(found, lambda name: True, readable=True)
    assert (left > 0) == (found.unreadable is not None)
    assert from_raw(properties(len(kept).to_bytes(4, "big") + kept)).headers == (found.headers if kept else None)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_header_of_every_type_is_kept_with_its_type(name: bytes) -> None:
    found = from_raw(properties(table(ONE_OF_EACH)))
    assert found.unreadable is None
    assert headers_where(found, lambda one: one == name.decode()) == (entry(name, ONE_OF_EACH[name]), 0)


def test_what_cannot_be_read_is_kept_or_left_out_as_asked() -> None:
    found = from_raw(properties(table(POISON)))
    assert found.headers == {"a": pytest.approx(0.1), "z": 5}
    assert found.unreadable == f"header 'when': the time stamp {BEYOND[0]}, beyond the year 9999"
    assert header_names(found) == ["a", "when", "\udcff", "z"]
    assert headers_where(found, lambda name: name != "z") == (table(POISON)[4 : -len(entry(b"z", POISON[b"z"]))], 0)
    readable = entry(b"a", POISON[b"a"]) + entry(b"z", POISON[b"z"])
    assert headers_where(found, lambda name: True, readable=True) == (readable, 2)


def test_names_that_stand_there_twice_are_all_kept() -> None:
    twice = [entry(b"a", scalar("b", 1)), entry(b"a", scalar("b", 2))]
    found = from_raw(properties(table(twice)))
    assert found.headers == {"a": 2}
    assert headers_where(found, lambda name: True) == (b"".join(twice), 0)
    assert headers_where(found, lambda name: name != "a") == (b"", 0)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "the properties end too early"),
        (b"\x80", "the properties end too early"),
        (b"\x80\x00\x05text", "the properties end too early"),
        (b"\x20\x00\x00\x00", "the properties end too early"),
        (b"\x10\x00", "the properties end too early"),
        (b"\x20\x00\x00\x00\x00\x09\x01aV", "a header table that goes beyond its frame"),
        (b"\x00\x01\x00\x00", "properties that AMQP does not know"),
        (properties(table([b"\0S" + (MOST_TABLE_BYTES).to_bytes(4, "big") + bytes(MOST_TABLE_BYTES)])), None),
    ],
)
def test_a_damaged_property_list_is_told(raw: bytes, told: str | None) -> None:
    found = from_raw(raw)
    assert found.unreadable == (told or f"a header table of {MOST_TABLE_BYTES + 6:,} bytes")
    assert not found.headers


def test_properties_without_their_bytes_have_no_headers_to_keep() -> None:
    assert headers_where(Properties(headers={"a": 1}), lambda name: True) == (b"", 0)


def test_texts_that_are_not_utf_8_are_read_all_the_same() -> None:
    found = from_raw(properties(table({b"a": long("S", b"\xff")}), b"\xff\xfe"))
    assert (found.message_id, found.headers, found.unreadable) == ("\u00ff\u00fe", {"a": b"\xff"}, None)
