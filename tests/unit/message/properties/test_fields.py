"""One property of a list, found without taking the others apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.message.properties import fields as f
from rabbitray.actors.message.properties.fields import fields_of, short_text_at

TEXTS = tuple(flag for flag in f.ORDER if flag not in (f.HEADERS, f.DELIVERY_MODE, f.PRIORITY, f.TIMESTAMP))
SHORT = st.binary(max_size=255).map(lambda text: bytes([len(text)]) + text)
VALUES = dict.fromkeys(TEXTS, SHORT) | {
    f.HEADERS: st.binary(max_size=30).map(lambda table: f.SIZE.pack(len(table)) + table),
    f.DELIVERY_MODE: st.binary(min_size=1, max_size=1),
    f.PRIORITY: st.binary(min_size=1, max_size=1),
    f.TIMESTAMP: st.binary(min_size=8, max_size=8),
}


@pytest.mark.parametrize("wanted", TEXTS)
@given(st.data())
def test_a_text_is_found_among_any_others(wanted: int, data: st.DataObject) -> None:
    present = data.draw(st.sets(st.sampled_from(f.ORDER)))
    values = {flag: data.draw(VALUES[flag]) for flag in f.ORDER if flag in present}
    raw = f.FLAGS.pack(sum(present)) + b"".join(values.values())
    assert fields_of(raw) == values
    assert short_text_at(raw, wanted) == values.get(wanted, b"\0")[1:]
    assert short_text_at(raw[: data.draw(st.integers(0, len(raw)))], wanted) in (b"", values.get(wanted, b"\0")[1:])


@given(st.binary(max_size=40), st.sampled_from(TEXTS))
def test_no_bytes_raise(raw: bytes, wanted: int) -> None:
    assert len(short_text_at(raw, wanted)) <= len(raw)
