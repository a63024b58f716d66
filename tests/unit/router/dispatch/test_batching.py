"""When the front of the buffer goes out: at once when it is full, else when its oldest message has waited."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from rabbitray.actors.router.config import RouterConfig
from rabbitray.actors.router.dispatch.batching import BufferFront, due_in_s

CONFIG = RouterConfig(batch_timeout_ms=50.0, burst_wait_ms=15.0, batch_bytes=1_000)
FRONT = BufferFront(now=100.0, oldest_at=100.0, records=3, size=10, wanted=10.0, wait_s=math.inf)


def test_a_full_batch_goes_out_now() -> None:
    assert due_in_s(replace(FRONT, records=10), CONFIG) == 0.0
    assert due_in_s(replace(FRONT, size=1_000), CONFIG) == 0.0


def test_a_busy_worker_is_waited_for_up_to_the_batch_timeout() -> None:
    assert due_in_s(FRONT, CONFIG) == pytest.approx(0.050)
    assert due_in_s(replace(FRONT, now=100.02), CONFIG) == pytest.approx(0.030)
    assert due_in_s(replace(FRONT, now=100.06), CONFIG) == 0.0


def test_a_free_worker_waits_only_as_long_as_for_a_burst() -> None:
    free = replace(FRONT, wait_s=0.015)
    assert due_in_s(free, CONFIG) == pytest.approx(0.015)
    assert due_in_s(free, dataclasses.replace(CONFIG, batch_timeout_ms=5.0)) == pytest.approx(0.005)


@given(
    age_s=st.floats(0, 1),
    records=st.integers(1, 20),
    size=st.integers(0, 2_000),
    wanted=st.floats(1, 20),
    most_s=st.floats(0, 1),
)
def test_the_wait_is_never_longer_than_what_is_left_of_the_timeout(
    age_s: float, records: int, size: int, wanted: float, most_s: float
) -> None:
    front = BufferFront(now=100.0 + age_s, oldest_at=100.0, records=records, size=size, wanted=wanted, wait_s=math.inf)
    wait_s = due_in_s(front, CONFIG)
    assert 0.0 <= wait_s <= max(0.0, CONFIG.batch_timeout_ms / 1000 - age_s) + 1e-9
    assert due_in_s(replace(front, now=front.now + wait_s + 1e-9), CONFIG) == 0.0, "it is due when the wait is over"
    assert due_in_s(replace(front, wait_s=most_s), CONFIG) <= wait_s, "a free worker gets it no later"
