"""What becomes of each kind of result."""

from __future__ import annotations

import datetime as dt
import json
import math
import uuid
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.worker.results import result_json


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


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(value=JSON)
def test_any_nest_of_plain_values_is_valid_json(value: object) -> None:
    json.loads(result_json(value))
