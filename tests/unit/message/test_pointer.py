"""JSON pointers: the examples of RFC 6901, and whatever else may stand in a document or in a setting."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.message.pointer import NOTHING, pointer_tokens, pointer_value

RFC = {
    "foo": ["bar", "baz"],
    "": 0,
    "a/b": 1,
    "c%d": 2,
    "e^f": 3,
    "g|h": 4,
    "i\\j": 5,
    'k"l': 6,
    " ": 7,
    "m~n": 8,
}
"""Section 5."""

DOCUMENTS: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


def value(document: Any, pointer: str) -> Any:
    tokens = pointer_tokens(pointer)
    assert tokens is not None
    return pointer_value(document, tokens)


@pytest.mark.parametrize(
    ("pointer", "found"),
    [
        ("", RFC),
        ("/foo", ["bar", "baz"]),
        ("/foo/0", "bar"),
        ("/", 0),
        ("/a~1b", 1),
        ("/c%d", 2),
        ("/e^f", 3),
        ("/g|h", 4),
        ("/i\\j", 5),
        ('/k"l', 6),
        ("/ ", 7),
        ("/m~0n", 8),
    ],
)
def test_the_examples_of_the_rfc(pointer: str, found: Any) -> None:
    assert value(RFC, pointer) == found


@pytest.mark.parametrize(
    "pointer",
    [
        *("/foo/2", "/foo/-", "/foo/-1", "/foo/00", "/foo/1e0", "/foo/\u0660", "/foo/ 0", f"/foo/{'9' * 5_000}"),
        *("/foo/0/0", "/no", "/a/b", "/ /7", "//", "/m~01n"),
    ],
)
def test_what_leads_nowhere(pointer: str) -> None:
    assert value(RFC, pointer) is NOTHING


@pytest.mark.parametrize("pointer", ["foo", "foo/0", "#/foo", " /foo", "/~", "/a~2b", "/~~0", "/a~"])
def test_what_is_no_pointer(pointer: str) -> None:
    assert pointer_tokens(pointer) is None


def test_null_is_a_value_and_numbers_may_be_names_where_no_text_is() -> None:
    assert value({"a": None}, "/a") is None
    packed = {7: "seven", "8": "text", 8: "number", -1: "below"}
    assert [value(packed, f"/{name}") for name in (7, 8, -1)] == ["seven", "text", "below"]
    assert value(packed, "/07") is NOTHING
    assert value((1, {"b": 2}), "/1/b") == 2


@given(DOCUMENTS, st.data())
def test_every_value_of_a_document_has_a_pointer(document: Any, data: st.DataObject) -> None:
    pointer, inner = "", document
    while isinstance(inner, dict | list) and inner and data.draw(st.booleans()):
        step = data.draw(st.sampled_from(sorted(inner) if isinstance(inner, dict) else range(len(inner))))
        pointer += "/" + str(step).replace("~", "~0").replace("/", "~1")
        inner = inner[step]
    assert value(document, pointer) is inner


@given(DOCUMENTS | st.binary() | st.dictionaries(st.integers() | st.booleans(), st.none()), st.text(max_size=20))
def test_no_text_and_no_document_raise(document: Any, text: str) -> None:
    tokens = pointer_tokens(text)
    if tokens is not None:
        pointer_value(document, tokens)
