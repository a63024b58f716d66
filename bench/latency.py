"""Publish to ack at a steady rate: no-op handler, 1 worker, defaults, the result committed before the ack.

Each rate has a fresh pool and, as the baseline, a fresh consumer written by hand (see `by_hand.py`), which take turns.
Each of the two waits idle while the other works, and nothing else runs: two more idle pools on the two cores added 1 to
2 ms to the median. From the publisher's time stamp (whole milliseconds, so 0.5 ms too much on average) to the moment
when the ack is handed to the socket, in steps of 5 %. A side that needs more than KEEPS_UP_S for its last messages does
not keep up: its figures are those of a backlog, and no ratio is given.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.by_hand import ByHand, by_hand
from bench.node import private_node
from bench.paced import publish_at
from bench.pool import BenchPool, fixed, folder, local_ray, pool_of, settings
from rabbitray.actors.telemetry.metrics import Latency, Percentiles
from rabbitray.cluster.driver.session import Session
from rabbitray.cluster.settings import Loaded

RATES = (10, 100, 1_000)
KEEPS_UP_S = 1.0
LOWER_IS_BETTER = ("p50_ratio_to_by_hand",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Our pool, and the consumer by hand with its queue."""

    pool: BenchPool
    hand: ByHand
    hands_queue: Loaded


def run(*, quick: bool) -> dict[str, Any]:  # Any: JSON values
    """By rate in messages per second: p50_ms, p95_ms, p99_ms, and how many messages that was; `by_hand` likewise."""
    rounds, seconds = (1, 1.0) if quick else (5, 12.0)
    with private_node() as node, folder() as place, local_ray(1) as session:
        return asyncio.run(_measured(node.url, place, session, rounds, seconds))


async def _measured(url: str, place: Path, session: Session, rounds: int, seconds: float) -> dict[str, Any]:
    return {str(rate): await _at(rate, url, place, session, rounds, seconds) for rate in RATES}


async def _at(rate: int, url: str, place: Path, session: Session, rounds: int, seconds: float) -> dict[str, Any]:
    hands, behind_s = Latency(), 0.0
    async with _pair(url, place, session) as pair:
        for _ in range(rounds):
            await _ours(pair.pool, rate, seconds)
            hands, late_s = await _by_hand(pair, rate, seconds, before=hands.count)
            behind_s = max(behind_s, late_s)
        ours, theirs = await _of_pool(pair.pool), _in_ms(hands.summary()) | {"behind_s": round(behind_s, 1)}
    ratio = {"p50_ratio_to_by_hand": _ratio(ours, theirs)} if behind_s < KEEPS_UP_S else {}
    return ours | {"by_hand": theirs} | ratio


@contextlib.asynccontextmanager
async def _pair(url: str, place: Path, session: Session) -> AsyncIterator[Pair]:
    ours, theirs = settings(url, place, fixed(1)), settings(url, place)
    async with pool_of(ours, session) as pool, by_hand(url, theirs.settings.queue, place) as hand:
        yield Pair(pool=pool, hand=hand, hands_queue=theirs)


async def _ours(pool: BenchPool, rate: int, seconds: float) -> None:
    before = (await pool.status()).done
    done = await publish_at(pool.loaded, rate, seconds)
    await pool.acked(before + done.sent - done.failed)


async def _by_hand(pair: Pair, rate: int, seconds: float, *, before: int) -> tuple[Latency, float]:
    """Publish to ack of all its messages so far; seconds from the last confirm to the last ack."""
    done = await publish_at(pair.hands_queue, rate, seconds)
    began = time.perf_counter()
    return await pair.hand.acked(before + done.sent - done.failed), time.perf_counter() - began


async def _of_pool(pool: BenchPool) -> dict[str, Any]:  # Any: JSON values
    report = await pool.report()
    return _in_ms(report.latency_ms) | {"messages": report.counts.acked}


def _in_ms(summary: Percentiles) -> dict[str, Any]:  # Any: JSON values
    return {f"{name}_ms": value for name, value in asdict(summary).items()}


def _ratio(ours: dict[str, Any], theirs: dict[str, Any]) -> float:  # Any: JSON values
    return round(ours["p50_ms"] / theirs["p50_ms"], 2)


def table(result: dict[str, Any]) -> str:  # Any: JSON values
    """One row for each rate."""
    rows = [
        "| messages/s | p50 ms | p95 ms | p99 ms | by hand: p50 ms | p95 ms | p99 ms | messages |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    rows += [
        f"| {rate} | {_cells(one)} | {_cells(one['by_hand'])} | {one['messages']:,} |" for rate, one in result.items()
    ]
    return "\n".join(rows)


def _cells(one: dict[str, Any]) -> str:  # Any: JSON values
    return " | ".join(str(one[name]) for name in ("p50_ms", "p95_ms", "p99_ms"))
