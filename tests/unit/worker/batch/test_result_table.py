"""Rows of a worker whose clock is off have their times by the router's clock."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from rabbitray.actors.message.job import Job
from rabbitray.actors.worker.batch.result_table import results
from rabbitray.actors.worker.batch.unit import Unit
from tests.kit.deliveries import parcel

BEGAN_US = 1_760_000_000_000_000
HOUR_US = 3_600_000_000


@pytest.mark.parametrize("clock_us", [0, HOUR_US, -HOUR_US])
def test_times_are_told_by_one_clock(clock_us: int) -> None:
    came = parcel(received_ms=BEGAN_US // 1_000 - 5)
    unit = Unit(
        position=0, record=0, packed=False, job=Job(id="a", payload={}), parcel=came, key="a", attempt=0,
        payload_hash=1, started_us=BEGAN_US + clock_us, finished_us=BEGAN_US + clock_us + 7_000, result="1",
    )  # fmt: skip
    [row] = results([unit], "q", "w", "b", clock_us=clock_us).to_pylist()
    began = datetime.fromtimestamp(BEGAN_US / 1_000_000, UTC)
    assert row["started_at"].replace(tzinfo=UTC) == began
    assert (row["finished_at"] - row["started_at"]).total_seconds() == 0.007
    assert row["received_at"] < row["started_at"] < row["finished_at"]
