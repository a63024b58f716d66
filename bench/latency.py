"""Publish to ack at a steady rate: no-op handler, 1 worker, defaults, the result committed before the ack.

Each rate has a pool of its own; the rates take turns. From the publisher's time stamp (whole milliseconds, so 0.5 ms
too much on average) to the moment when the ack is handed to the socket, in steps of 5 %. There is no baseline in the
run: the figures are to be compared with the targets that were set for them.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from bench.node import private_node
from bench.paced import publish_at
from bench.pool import BenchPool, fixed, folder, local_ray, pool_of, settings
from cluster.session import Session

RATES = (10, 100, 1_000)


def run(*, quick: bool) -> dict[str, Any]:  # Any: JSON values
    """By rate in messages per second: p50_ms, p95_ms, p99_ms, and how many messages that was."""
    rounds, seconds = (1, 1.0) if quick else (5, 12.0)
    with private_node() as node, folder() as place, local_ray(len(RATES)) as session:
        return asyncio.run(_measured(node.url, place, session, rounds, seconds))


async def _measured(url: str, place: Path, session: Session, rounds: int, seconds: float) -> dict[str, Any]:
    async with contextlib.AsyncExitStack() as stack:
        starts = [stack.enter_async_context(pool_of(settings(url, place, fixed(1)), session)) for _ in RATES]
        pools = dict(zip(RATES, await asyncio.gather(*starts), strict=True))
        for _ in range(rounds):
            for rate, pool in pools.items():
                await _one(pool, rate, seconds)
        return {str(rate): await _figures(pool) for rate, pool in pools.items()}


async def _one(pool: BenchPool, rate: int, seconds: float) -> None:
    before = (await pool.status()).done
    done = await publish_at(pool.loaded, rate, seconds)
    await pool.acked(before + done.sent - done.failed)


async def _figures(pool: BenchPool) -> dict[str, Any]:  # Any: JSON values
    report = await pool.report()
    return {f"{name}_ms": value for name, value in report["latency_ms"].items()} | {"messages": report["acked"]}


def table(result: dict[str, Any]) -> str:  # Any: JSON values
    """One row for each rate."""
    rows = ["| messages/s | p50 ms | p95 ms | p99 ms | messages |", "|---:|---:|---:|---:|---:|"]
    rows += [
        f"| {rate} | {one['p50_ms']} | {one['p95_ms']} | {one['p99_ms']} | {one['messages']:,} |"
        for rate, one in result.items()
    ]
    return "\n".join(rows)
