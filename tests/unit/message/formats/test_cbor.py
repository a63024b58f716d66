"""CBOR: documents as they were written, and nothing that a tag or a length could make of a few bytes."""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.errors import ConfigurationError, DecodeError
from rabbitray.actors.message.formats.cbor import read_cbor
from rabbitray.actors.message.formats.named import find_format
from rabbitray.actors.message.message import Message
from rabbitray.actors.message.wire import MessageLimits

FEW = MessageLimits(max_depth=6, max_collection=50, max_elements=100)
scalars = st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
documents = st.recursive(
    scalars | st.binary(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30
)


def read(body: bytes, limits: MessageLimits | None = None) -> Any:
    return read_cbor(body, Message(body=body), limits or MessageLimits())


def refused(body: bytes, limits: MessageLimits = FEW) -> str:
    with pytest.raises(DecodeError) as raised:
        read(body, limits)
    return raised.value.reason


@given(documents)
def test_a_document_is_read_as_it_was_written(document: Any) -> None:
    assert read(cbor2.dumps(document)) == document


def test_times_decimals_ids_and_texts_in_parts() -> None:
    document = [datetime(2026, 1, 2, tzinfo=UTC), Decimal("1.5"), UUID(int=7), 2**200, {1: b"x"}]
    assert read(cbor2.dumps(document)) == document
    assert read(b"\x9f\x01\x7f\x61a\x61b\xff\xbf\x61k\x02\xff\xff") == [1, "ab", {"k": 2}]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "bad_cbor"),
        (b"\x01\x02", "bad_cbor"),  # a tail
        (b"\x82\x01", "bad_cbor"),
        (b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "bad_cbor"),  # a list of 2**64
        (b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff", "bad_cbor"),
        (b"\x1c", "bad_cbor"),
        (b"\xff", "bad_cbor"),
        (b"\xbf\x01\xff", "bad_cbor"),
        (b"\x7f\x41a\xff", "bad_cbor"),
        (b"\xa1\x80\x01", "bad_cbor"),  # a list as a key
        (b"\x61\xff", "bad_cbor"),  # no UTF-8
        (b"\xc0\x64noon", "bad_cbor"),
        (b"\xc2\x5a\x00\x10\x00\x00" + b"\xff" * 2**20, "bad_cbor"),  # 2.5 million digits
        (b"\xd8\x1c\x81\xd8\x1d\x00", "unsupported_tag"),  # a list that holds itself
        (b"\xd9\x01\x00\x82\x63abc\xd8\x19\x00", "unsupported_tag"),  # references to texts
        (b"\xd8\x23\x65(a+)+", "unsupported_tag"),  # a pattern
        (b"\x81" * 7 + b"\x01", "too_deep"),
        (b"\x98\x33" + b"\x01" * 51, "too_many_elements"),
        (b"\x84" + (b"\x98\x32" + b"\x01" * 50) * 4, "too_many_elements"),
    ],
)
def test_what_is_damaged_or_dear_is_refused(body: bytes, reason: str) -> None:
    assert refused(body) == reason


def test_endless_nesting_is_refused() -> None:
    assert refused(b"\x81" * 100_000, MessageLimits()) == "too_deep"
    assert refused(b"\xc1" * 100_000 + b"\x01", MessageLimits()) in ("bad_cbor", "too_deep")


@given(st.binary(max_size=100))
def test_any_bytes_are_a_document_or_a_reason(body: bytes) -> None:
    for limits in (MessageLimits(), FEW):
        with suppress(DecodeError):
            read(body, limits)


def test_without_the_package_the_setting_and_the_message_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cbor2", None)
    assert refused(b"\x01") == "missing_package"
    with pytest.raises(ConfigurationError, match="the decoder cbor needs the package cbor2"):
        find_format("cbor")
