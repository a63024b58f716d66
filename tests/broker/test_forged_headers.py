"""Forged headers of ours on a real node: each message costs a bounded number of copies and ends as one dead letter."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import aio_pika

from rabbitray.actors.message import headers as h
from rabbitray.actors.message.headers import WAIT_MOST_MS
from tests.kit.eventually import eventually
from tests.kit.node_path import NodePath
from tests.kit.queue_access import depth

YEAR_3000_MS = 32_503_680_000_000
WIDE = "\U0001f600"
OTHERS = (h.ATTEMPT, h.FIRST_SEEN, h.SPARED, h.PUBLISHED, h.HOPS, h.REPLAYS, h.REPLAYED, h.RECORDS, h.HEADERS_CUT)
ODD: list[Any] = [
    *(True, -(2**62), 2**62, 1.5, "x", "", None, bytearray(b"\xff"), [1, {"a": None}], {"a": [bytearray(b"b")]}),
    *(datetime(2040, 1, 1, tzinfo=UTC), Decimal("1.5")),
]


def forged(hops_most: int) -> dict[str, dict[str, Any]]:
    """By message id."""
    now_ms = time.time_ns() // 10**6
    soon = {h.DUE: YEAR_3000_MS, h.FIRST_SEEN: now_ms - WAIT_MOST_MS + 500}
    tables: dict[str, dict[str, Any]] = {
        "soon-over": soon,
        "soon-over-of-a-replay": soon | {h.FIRST_SEEN: 1, h.REPLAYED: soon[h.FIRST_SEEN], h.REPLAYS: 2**62},
        "often-put-back": {h.DUE: YEAR_3000_MS, h.HOPS: hops_most - 3},
        "long-ago": {h.DUE: now_ms + 10**9, h.FIRST_SEEN: 1, h.ATTEMPT: 2**62},
        "large": {h.ORIGIN: WIDE * 9_000, h.TRACESTATE: WIDE * 255, h.ERROR: WIDE * 2_000, h.REASON: "x" * 9_000},
        "largest": {h.ORIGIN: WIDE * 25_000, h.TRACESTATE: WIDE * 5_000, h.KEY: "x" * 255},
    }
    return tables | {f"odd-{n}": dict.fromkeys((*OTHERS, h.KEY, h.ORIGIN), value) for n, value in enumerate(ODD)}


async def test_any_forged_headers_lead_to_one_dead_letter_after_a_bounded_number_of_copies(amqp_url: str) -> None:
    path = NodePath(amqp_url, "jobs")
    tables = forged(path.limits.hops_most)
    await path.start(window=5)
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        for name, table in tables.items():
            message = aio_pika.Message(b"{}", message_id=name, headers=table, delivery_mode=2)
            await channel.default_exchange.publish(message, "jobs")
        death = {"queue": "jobs" * 20_000, "reason": WIDE * 2_000, "exchange": "", "routing-keys": ["jobs"]}
        dropped = aio_pika.Message(b"{}", message_id="dropped", headers={"x-death": [death]}, delivery_mode=2)
        await channel.default_exchange.publish(dropped, "jobs.dropped")
    ends = {*tables, "dropped"}
    await eventually(lambda: len(path.store.dead) >= len(ends), within_s=30)
    assert sorted(str(row["message_id"]) for row in path.store.dead) == sorted(ends)
    assert all(len(str(row["reason"])) <= 80 for row in path.store.dead)
    runs = [key for _, key in path.service.calls]
    assert len(runs) <= 3 * len(tables)
    tally = path.settler.tally
    assert tally.dead == len(tables)
    assert tally.retried <= 2 * len(tables)
    assert 3 <= tally.postponed <= 60, "two waits of half a second and three turns, on rungs of 50 and 100 ms"
    assert [await depth(amqp_url, name) for name in ("jobs", "jobs.dropped")] == [0, 0]
    await path.stop()
