"""What is shown to people holds nothing that steers a terminal or hides, and any value has a JSON form."""

from __future__ import annotations

import datetime as dt
import json
import sys
import uuid
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.printable import below, json_text, printable
from tests.kit.hostile import FORGED, MSGPACK_VALUES, TEXTS, unfit

DEFAULT_IGNORABLE = {
    chr(code)
    for first, last in [
        *((0x34F, 0x34F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x3164, 0x3164)),
        *((0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xE0100, 0xE01EF), (0x2800, 0x2800)),
    ]
    for code in range(first, last + 1)
}
"""What Unicode calls so of letters and marks, and the empty braille pattern."""

ANY_TEXT = st.one_of(
    st.text(), st.text(st.characters(categories=["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs", "Mn", "Lo"]))
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner),
)
ANYTHING = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(), st.floats(), ANY_TEXT, st.binary(), st.decimals(), st.uuids()),
        *(st.datetimes(), st.dates(), st.times(), st.timedeltas(), st.complex_numbers()),
        *(st.sampled_from([10**4_000, Decimal("1E+999999"), object(), ValueError, range(3)]),),
    ),
    lambda inner: st.one_of(
        st.lists(inner),
        st.tuples(inner, inner),
        st.dictionaries(st.integers() | st.floats() | st.binary() | ANY_TEXT | st.tuples(st.none()), inner),
    ),
)


@given(ANY_TEXT)
def test_what_is_printable_is_seen_and_stays_so(text: str) -> None:
    shown = printable(text)
    assert not unfit(shown)
    assert "\n" not in shown
    assert printable(shown) == shown
    shown.encode()  # no lone surrogate is left


@pytest.mark.parametrize(
    "text", ["", " ", r"\[/x] [b] \n", "order-7", "åäö ß 中文 עברית 😀 ½ €", "".join(map(chr, range(32, 127)))]
)
def test_what_is_seen_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("a\n\r\tb", r"a\n\r\tb"),
        ("\x9b\x85\x7f\x00", r"\x9b\x85\x7f\x00"),
        ("\u202e\u2028\u200b\ufeff", r"\u202e\u2028\u200b\ufeff"),
        ("\ud800\U000e0041", r"\ud800\U000e0041"),
        ("\xa0\u3164\ufe0f\u2800", r"\xa0\u3164\ufe0f\u2800"),
    ],
)
def test_the_rest_is_shown_as_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_of_all_characters_those_are_shown_as_they_are_that_are_seen() -> None:
    """Every code point of Unicode: whatever is passed over at speed is among them."""
    every = [chr(code) for code in range(sys.maxunicode + 1)]
    hidden = unfit("".join(every)) | {"\n"}
    kept = [character for character in every if printable(character) == character]
    assert set(every) - set(kept) == hidden | DEFAULT_IGNORABLE
    assert json.loads(json_text("".join(every[:0xD800]))) == "".join(every[:0xD800])


def test_a_text_below_an_entry_begins_no_line() -> None:
    assert below(f"Traceback\n{FORGED}\x0b\u2028{FORGED}").split("\n") == [
        "  Traceback",
        rf"  {FORGED}\x0b\u2028{FORGED}",
    ]


@given(JSON)
def test_json_gives_back_what_went_in(value: Any) -> None:
    text = json_text(value)
    assert json.loads(text) == value
    assert not unfit(text)
    assert "\n" not in text
    assert json.loads(json_text(value, indent=2)) == value


@given(ANYTHING)
def test_json_fails_for_nothing(value: Any) -> None:
    text = json_text(value)
    assert not unfit(text)
    json.loads(text, parse_constant=pytest.fail)  # NaN and the like are no JSON


@dataclass(frozen=True, slots=True)
class Pair:
    one: object
    other: object = None


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError


def _endless() -> list[object]:
    found: list[object] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), "NaN"),
        ([float("inf"), {"x": float("-inf")}], ["Infinity", {"x": "-Infinity"}]),
        (b"\xff\x00", "/wA="),
        (Decimal("0.1"), 0.1),
        (Decimal("12345678901234567890.123"), "12345678901234567890.123"),
        (Decimal("1E+5"), 100_000),
        (Decimal("NaN"), "NaN"),
        (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "2026-01-02T03:04:05Z"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (uuid.UUID(int=7), str(uuid.UUID(int=7))),
        ({1: 2, None: 3}, {"1": 2, "null": 3}),
        ({b"\xff": 1, (1, 2): 2}, {"/w==": 1, "[1, 2]": 2}),
        (Pair({2}, Pair("x")), {"one": [2], "other": {"one": "x", "other": None}}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (Unspeakable(), "<Unspeakable: RuntimeError>"),
    ],
)
def test_json_says_what_it_has_no_type_for(value: object, said: object) -> None:
    assert json.loads(json_text(value)) == said


def test_an_integer_that_python_does_not_write_is_hexadecimal() -> None:
    assert int(json.loads(json_text([10**5_000]))[0], 16) == 10**5_000


def test_json_ends_where_a_value_does_not() -> None:
    assert json_text(_endless()).count("[") == 200


def test_every_type_of_msgpack_has_a_json_form() -> None:
    found = json.loads(json_text(MSGPACK_VALUES))
    assert [found[text] for text in TEXTS] == list(TEXTS)
    assert (found["nan"], found["bytes"], found["extension"]) == ("NaN", "ABv/", [5, "G1sySv8="])
    assert found["timestamp"].startswith("Timestamp(")


def test_a_long_text_costs_no_more_than_its_length() -> None:
    """Each character is looked at once: ten times as many give ten times as many."""
    assert len(printable("\x1b" * 1_000_000)) == 4_000_000
    assert printable("x" * 1_000_000) == "x" * 1_000_000
