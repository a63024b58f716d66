"""What becomes of each kind of result."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import math
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.worker.outcome.result_json import MAX_DEPTH, is_json, plain, result_json


@dataclass
class Point:
    x: int
    tags: tuple[bytes, ...] = ()


class Shape(msgspec.Struct, tag="shape", rename="camel"):
    corner_count: int
    points: list[Point]


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3),
        ("é", "é"),
        (b"\x00\xff", {"$base64": "AP8="}),
        ({"a": [1, 2.5, None]}, {"a": [1, 2.5, None]}),
        ({2: "a", None: "b", True: "c"}, {"2": "a", "null": "b", "true": "c"}),
        (Point(1, (b"a",)), {"x": 1, "tags": [{"$base64": "YQ=="}]}),
        (Shape(4, [Point(1)]), {"type": "shape", "cornerCount": 4, "points": [{"x": 1, "tags": []}]}),
        (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "2026-01-02T00:00:00+00:00"),
        (dt.timedelta(seconds=1.5), 1.5),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.10"), "1.10"),
        (Colour.RED, "red"),
        ([math.nan, math.inf, -math.inf], [None, None, None]),
        (2**64 - 1, 2**64 - 1),
        (2**64, str(2**64)),
        (-(2**63) - 1, str(-(2**63) - 1)),
        (np.int64(3), 3),
        (np.float32("nan"), None),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.bool_(True), True),
        (np.datetime64("2026-01-02"), "2026-01-02"),
    ],
    ids=repr,
)
def test_kinds_of_results(value: object, expected: object) -> None:
    assert json.loads(result_json(value)) == expected


def _cycle() -> list[object]:
    ring: list[object] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    "value",
    [lambda: 1, object(), {"a": object()}, Point, {(1, 2): "a"}, "\ud800", {"\ud800": 1}, 1j, _cycle()],
    ids=["lambda", "object", "nested", "class", "tuple-key", "surrogate", "surrogate-key", "complex", "cycle"],
)
def test_what_cannot_be_kept_is_a_value_error_of_one_line(value: object) -> None:
    with pytest.raises(ValueError, match="result") as caught:
        result_json(value)
    assert "\n" not in str(caught.value)


def test_a_result_above_the_limit_is_refused() -> None:
    assert result_json("x" * 98, max_bytes=100)
    with pytest.raises(ValueError, match="101 bytes"):
        result_json("x" * 99, max_bytes=100)
    with pytest.raises(ValueError, match="whole number"):
        result_json(10**6_000)


class ByItems(Mapping[str, object]):
    """A mapping that reads its values when they are asked for."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __getitem__(self, key: str) -> object:
        raise self._error

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


class ByKeys(ByItems):
    """One that cannot even say its keys."""

    def __iter__(self) -> Iterator[str]:
        raise self._error


class Growing(dict[str, object]):
    """As a thread would that goes on filling it."""

    def items(self) -> Any:
        for item in super().items():
            self[f"more-{len(self)}"] = 1
            yield item


class Endless(list[object]):
    def __iter__(self) -> Iterator[object]:
        return iter([Endless()])


class ShyProxy:
    @property
    def __class__(self) -> Any:  # type: ignore[override] # as a proxy without its object
        raise RuntimeError("unbound")


@dataclass
class Careless:
    x: int = 0

    def __getattribute__(self, name: str) -> object:
        if name == "x":
            return object.__getattribute__(self, "__class__")().x
        return object.__getattribute__(self, name)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: ByItems(KeyError("gone")), "cannot be read: KeyError: 'gone'"),
        (lambda: ByItems(ValueError("two\nlines")), "cannot be read: ValueError: two lines"),
        (lambda: ByItems(StopIteration()), "StopIteration"),
        (lambda: ByItems(SystemExit(3)), "cannot be read: SystemExit: 3"),
        (lambda: ByItems(asyncio.CancelledError()), "cannot be read: CancelledError"),
        (lambda: {"a": [ByKeys(OSError("closed"))]}, "cannot be read: OSError: closed"),
        (lambda: Growing(a=1), "cannot be read: RuntimeError: dictionary changed size"),
        (lambda: Point.__new__(Point), "cannot be read: AttributeError: 'Point' object has no attribute 'x'"),
        (lambda: Careless(), "cannot be read: RecursionError"),
        (lambda: Endless(), "nested deeper than 64 levels"),
        (lambda: ShyProxy(), "cannot be read: RuntimeError: unbound"),
    ],
    ids=[*map(str, range(11))],
)
def test_a_result_that_cannot_be_read_is_a_value_error_too(made: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        result_json(made())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({1: "a", "1": "b"}, "'1' in JSON (int and str)"),
        ({True: "a", "true": "b"}, "'true' in JSON (bool and str)"),
        ({None: "a", "null": "b"}, "'null' in JSON (NoneType and str)"),
        ({1.0: "a", "1.0": "b"}, "'1.0' in JSON (float and str)"),
        ({Colour.RED: "a", "red": "b"}, "'red' in JSON (Colour and str)"),
        ({math.nan: 1, float("nan"): 2}, "'null' in JSON (float and float)"),
        ({dt.date(2026, 1, 2): 1, "2026-01-02": 2}, "'2026-01-02' in JSON (date and str)"),
        ({2**64: 1, str(2**64): 2}, "(int and str)"),
        ([{"deep": MappingProxyType({1: "a", "1": "b"})}], "'1' in JSON (int and str)"),
    ],
    ids=repr,
)
def test_two_keys_that_are_one_in_json_are_refused(value: object, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        result_json(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(value=JSON)
def test_any_nest_of_plain_values_is_valid_json(value: object) -> None:
    json.loads(result_json(value))


NEARLY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats()
    | st.text()
    | st.binary()
    | st.just(Colour.RED),
    lambda inner: (
        st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers() | st.just(Colour.RED), inner)
    ),
    max_leaves=20,
)


@given(value=NEARLY_JSON)
def test_what_needs_nothing_made_of_it_is_written_as_if_it_were(value: object) -> None:
    if is_json(value):
        assert msgspec.json.encode(value) == msgspec.json.encode(plain(value))


@pytest.mark.parametrize("value", [None, 0, -1.5, "é", [], {}, (1, [2, {"a": None}]), {"a": {"b": [True, 2**64 - 1]}}])
def test_what_json_has_needs_nothing_made_of_it(value: object) -> None:
    assert is_json(value)


@pytest.mark.parametrize(
    "value", [2**64, b"", {1: 2}, [Colour.RED], {"a": [{"b": {3}}]}, Point(1), np.int64(1)], ids=repr
)
def test_what_json_has_not_is_made(value: object) -> None:
    assert not is_json(value)


def test_what_holds_itself_is_left_to_who_says_so() -> None:
    value: list[object] = []
    value += [value] * 10
    assert not is_json(value)
    deep: object = "in the deepest list"
    for _ in range(MAX_DEPTH):
        deep = [deep]
    assert is_json(deep)
    assert not is_json([deep])
    assert result_json([deep]).count("[") == MAX_DEPTH + 1
