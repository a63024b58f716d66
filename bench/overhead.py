"""What traces and metrics cost at full load: a full queue, no-op handler, 2 workers, against all of it switched off.

Four pools take turns on the same node: `off`; `metrics` (METRICS_ENABLED, the default); `tracing_sampled` (1 % of the
messages carry a sampled trace); `tracing_full` (all do). Traces go out by OTLP to a process of its own that takes
everything. A figure is the share of the throughput of `off` in the same round that is lost; below 0 is noise.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from actors.tracing import Tracing
from bench.collector import collector
from bench.node import private_node
from bench.pool import BenchPool, fixed, folder, jobs, local_ray, pool_of, settings
from bench.spread import medians, spreads
from bench.usage import load_average
from cluster.session import Session

WORKERS = 2
SHARES = {"tracing_full": 1.0, "tracing_sampled": 0.01}


def run(*, quick: bool) -> dict[str, Any]:  # Any: JSON values
    """Fractions, medians of the rounds; messages per second of each pool beside them."""
    rounds, count = (1, 1_000) if quick else (7, 60_000)
    with private_node() as node, folder() as place, collector() as endpoint, local_ray(4 * WORKERS) as session:
        return asyncio.run(_measured(node.url, place, session, variants(endpoint), rounds, count))


def variants(endpoint: str) -> dict[str, dict[str, str]]:
    """The environment of each pool."""
    off, traces = {"METRICS_ENABLED": "false"}, {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    return {
        "off": off,
        "metrics": {"METRICS_ENABLED": "true"},
        "tracing_sampled": off | traces,
        "tracing_full": off | traces,
    }


async def _measured(
    url: str, place: Path, session: Session, environs: Mapping[str, dict[str, str]], rounds: int, count: int
) -> dict[str, Any]:  # Any: JSON values
    rates: dict[str, list[float]] = defaultdict(list)
    async with contextlib.AsyncExitStack() as stack:
        starts = [
            stack.enter_async_context(pool_of(settings(url, place, fixed(WORKERS), environ), session))
            for environ in environs.values()
        ]
        pools = dict(zip(environs, await asyncio.gather(*starts), strict=True))
        for pool in pools.values():
            await pool.pause()
            await _rate("off", pool, count // 2)  # warms it up
        for _ in range(rounds):
            for name, pool in pools.items():
                rates[name].append(await _rate(name, pool, count))
    lost = {
        name: [1 - rate / off for rate, off in zip(rates[name], rates["off"], strict=True)]
        for name in environs
        if name != "off"
    }
    figures = {"msg_s": medians(rates), "spread": spreads(lost, 3), "load_average": load_average()}
    return medians(lost, 4) | figures


async def _rate(name: str, pool: BenchPool, count: int) -> float:
    """Messages per second of `count` messages that waited for the pool."""
    tracing = None
    if name in SHARES:  # the publisher's own spans go nowhere: publishing is not measured
        provider = TracerProvider(sampler=TraceIdRatioBased(SHARES[name]))
        tracing = Tracing(queue=pool.loaded.settings.queue, provider=provider)
    await pool.publish(jobs(count), tracing=tracing)
    return count / await pool.drain_paused(count)


def table(result: dict[str, Any]) -> str:  # Any: JSON values
    """One row for each pool."""
    rows = ["| | messages/s | lost | least to most |", "|---|---:|---:|---:|"]
    for name, rate in result["msg_s"].items():
        low, high = result["spread"].get(name, (0.0, 0.0))
        lost = f"{result[name]:.1%} | {low:.1%} to {high:.1%}" if name in result else "|"
        rows.append(f"| {name.replace('_', ' ')} | {rate:,} | {lost} |")
    return "\n".join(rows)
