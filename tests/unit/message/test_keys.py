"""Where the key of a message is: what a rule may be, what a value means, and what copies and packed messages carry."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.keys import (
    DEFAULT_RULE,
    KeyRule,
    converted_id,
    key_in_body,
    key_in_delivery,
    key_of_value,
    parse_key_rule,
)
from rabbitray.actors.message.parcel import key_of, missing_key
from tests.kit.deliveries import parcel

BODY = parse_key_rule("body:/order/id")
HEADER = parse_key_rule("header:order-id")
PROPERTY = parse_key_rule("property:correlation_id")
NONE = parse_key_rule("none")

FINITE = st.floats(allow_nan=False, allow_infinity=False, min_value=-(2.0**53) + 1, max_value=2.0**53 - 1)


def name_of(value: object) -> str:
    """Of a value in a test's name: some are long."""
    text = hex(value) if type(value) is int else repr(value)
    return f"{text[:20]}.{len(text)}"


def in_header(value: object, rule: KeyRule = HEADER, **more: object) -> Any:
    return key_in_delivery(rule, {"order-id": value, **more}, SimpleNamespace(), None)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("default", DEFAULT_RULE),
        ("none", KeyRule(text="none", place="none")),
        ("header:order-id", KeyRule(text="header:order-id", place="header", name="order-id")),
        ("header:a:b ", KeyRule(text="header:a:b ", place="header", name="a:b ")),
        ("property:type", KeyRule(text="property:type", place="property", name="type")),
        ("body:", KeyRule(text="body:", place="body")),
        ("body:/a~1b/0", KeyRule(text="body:/a~1b/0", place="body", tokens=("a/b", "0"))),
    ],
)
def test_what_a_rule_may_be(text: str, rule: KeyRule) -> None:
    assert parse_key_rule(text) == rule


@pytest.mark.parametrize(
    "text",
    [
        *("", "order-id", "header", "header:", f"header:{'ä' * 128}", "Header:x", "key:x"),
        *("property:", "property:timestamp", "property:content_type", "None", "none:", "default:"),
        *("body", "body:order/id", "body:#/order", "body:/a~2"),
    ],
)
def test_what_is_no_rule_is_told_in_one_line(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_key_rule(text)
    said = str(caught.value)
    assert said.startswith(f"key {text!r} must be default, header:NAME, property:NAME (message_id, ")
    assert "\n" not in said


def test_a_property_that_is_written_in_another_way_is_known() -> None:
    with pytest.raises(ConfigurationError, match="did you mean property:correlation_id"):
        parse_key_rule("property:correlation-id")


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("order-7", "order-7"),
        (" 7 ", " 7 "),
        ("Ä", "Ä"),
        (7, "7"),
        (-7, "-7"),
        (0, "0"),
        (2**64, "18446744073709551616"),
        (10**254, "1" + "0" * 254),
        (7.0, "7"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (1.5e-7, "0.00000015"),
        (2.0**53 - 1, "9007199254740991"),
        (Decimal("1.50"), "1.5"),
        (Decimal("-0"), "0"),
        (Decimal("1E+3"), "1000"),
        (b"order-7", "order-7"),
        (bytearray("Ä".encode()), "Ä"),
        (b"\xc4", "0xc4"),
        (b"\0\1", "0x0001"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        ("ä" * 127, "ä" * 127),
    ],
    ids=name_of,
)
def test_a_value_is_its_text(value: object, key: str) -> None:
    found = key_of_value(value)
    assert (found.key, type(found.key), found.missing) == (key, str, "")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "null"),
        (True, "true or false"),
        ({"id": 1}, "a map"),
        ([1], "a list"),
        ("", "an empty text"),
        (b"", "an empty text"),
        ("x" * 256, "a text of more than 255 bytes"),
        ("ä" * 128, "a text of more than 255 bytes"),
        ("x" * 2**20, "a text of more than 255 bytes"),
        (b"x" * 256, "bytes of more than 255 bytes"),
        (b"\xff" * 127, "a text of more than 255 bytes"),
        (10**255, "a text of more than 255 bytes"),
        (10**5_000, "a number of more than 255 bytes"),
        (2.0**53, "a number that may have been rounded"),
        (float("inf"), "a number that may have been rounded"),
        (float("nan"), "a number that may have been rounded"),
        (5e-324, "a number of more than 255 bytes"),
        (Decimal("NaN"), "a number that is none"),
        (Decimal("1E+999999"), "a number of more than 255 bytes"),
        (Decimal("1E-999999"), "a number of more than 255 bytes"),
        ("\ud800", "a text that has no UTF-8 form"),
        (datetime(2026, 1, 1, tzinfo=UTC), "a datetime"),
    ],
    ids=name_of,
)
def test_what_is_no_key_is_told_in_words(value: object, words: str) -> None:
    found = key_of_value(value)
    assert (found.key, found.missing) == (None, words)


@given(st.integers() | FINITE, st.integers() | FINITE)
def test_two_numbers_are_two_keys(one: float, other: float) -> None:
    keys = [key_of_value(value).key for value in (one, other)]
    assert None in keys or (keys[0] == keys[1]) == (one == other)


@given(st.binary(max_size=20).filter(lambda raw: not raw.startswith(b"0x")), st.binary(max_size=20))
def test_bytes_are_two_keys_where_neither_is_the_text_of_the_other(one: bytes, other: bytes) -> None:
    keys = [key_of_value(value).key for value in (one, other)]
    hexed = f"0x{one.hex()}".encode()
    assert None in keys or other == hexed or (keys[0] == keys[1]) == (one == other)


VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.decimals() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_whatever_it_is_it_is_a_key_that_a_copy_can_carry_or_none(value: object) -> None:
    found = key_of_value(value)
    assert (found.key is None) == bool(found.missing)
    assert found.key is None or h.header_text(found.key) == found.key
    assert found.key is None or 0 < len(found.key.encode()) <= 255


def test_a_header_says_it_and_a_missing_one_is_named() -> None:
    assert in_header("order-7").key == "order-7"
    assert in_header(7).key == "7"
    assert in_header(False).missing == "header 'order-id' is true or false"
    assert in_header(None).missing == "header 'order-id' is null"
    assert key_in_delivery(HEADER, {}, SimpleNamespace(), "m").missing == "there is no header 'order-id'"


@pytest.mark.parametrize("rule", [HEADER, PROPERTY, BODY], ids=lambda rule: rule.place)
def test_a_copy_of_ours_keeps_its_key_and_a_producer_s_key_header_is_not_asked(rule: KeyRule) -> None:
    properties = SimpleNamespace(correlation_id="c")
    own = key_in_delivery(rule, {h.KEY: "forged", "order-id": "o"}, properties, None)
    assert own.key == {"header": "o", "property": "c", "body": None}[rule.place]
    copied = key_in_delivery(rule, {h.KEY: "k", h.ATTEMPT: 0, "order-id": "o"}, properties, None)
    assert copied.key == "k"
    without = key_in_delivery(rule, {h.ATTEMPT: 1, "order-id": "o"}, properties, None)
    assert without.key == own.key, "a copy of a message whose key nobody knew gets it by the rule"


def test_none_means_none() -> None:
    found = key_in_delivery(NONE, {h.KEY: "k", h.ATTEMPT: 1}, SimpleNamespace(), "m")
    assert found.key is None
    assert key_of(Job(id="own"), parcel(key=None), None, NONE) is None
    assert missing_key(Job(), parcel(missing=found.missing), None, NONE) == "there are no keys; key = none"


def test_the_message_id_as_a_property_is_the_one_that_was_read() -> None:
    rule = parse_key_rule("property:message_id")
    assert key_in_delivery(rule, {}, SimpleNamespace(message_id=None), "0xff").key == "0xff"
    assert key_in_delivery(rule, {}, SimpleNamespace(), None).missing == "there is no property message_id"


def test_an_id_that_rabbitmq_converted_is_one() -> None:
    assert converted_id({h.CONVERTED_ID: bytearray(b"\xff\x01")}) == "0xff01"
    assert converted_id({h.CONVERTED_ID: "x" * 300}) is None
    assert converted_id({}) is None


@pytest.mark.parametrize(
    ("payload", "key", "missing"),
    [
        ({"order": {"id": "o-7"}}, "o-7", ""),
        ({"order": {"id": 7}}, "7", ""),
        ({"order": {"id": None}}, None, "body:/order/id is null"),
        ({"order": {"id": {}}}, None, "body:/order/id is a map"),
        ({"order": {}}, None, "there is no body:/order/id"),
        ({"order": "x"}, None, "there is no body:/order/id"),
        (None, None, "there is no body:/order/id"),
        ("text", None, "there is no body:/order/id"),
    ],
)
def test_the_body_says_it(payload: Any, key: str | None, missing: str) -> None:
    found = key_in_body(BODY, payload)
    assert (found.key, found.missing) == (key, missing)
    job = Job(id="own", payload=payload)
    assert key_of(job, parcel(message_id="m"), None, BODY) == key, "neither its own id nor its message id"
    assert key_of(job, parcel(key="k"), None, BODY) == "k", "a copy says it in a header"
    if key is None:
        assert missing_key(job, parcel(), None, BODY) == f"{missing}; key = body:/order/id"


def test_of_a_packed_message_each_record_has_a_key() -> None:
    jobs = [Job(id=f"own-{n}", payload={"order": {"id": n}}) for n in range(3)]
    packed = parcel(key="k", message_id="m")
    assert [key_of(job, packed, n, BODY) for n, job in enumerate(jobs)] == ["0", "1", "2"]
    assert [key_of(job, packed, n, HEADER) for n, job in enumerate(jobs)] == ["k", "k#1", "k#2"]
    assert [key_of(job, packed, n, DEFAULT_RULE) for n, job in enumerate(jobs)] == ["own-0", "own-1", "own-2"]
    assert [key_of(job, parcel(key=None), n, PROPERTY) for n, job in enumerate(jobs)] == [None] * 3
