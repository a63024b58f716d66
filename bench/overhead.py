"""What traces and metrics cost at full load: a full queue, no-op handler, 2 workers, against all of it switched off.

Six pools take turns on the same node: `off`; `metrics` (METRICS_ENABLED, the default); `tracing_sampled` (1 % of the
messages carry a sampled trace); `tracing_full` (all do). Traces go out by OTLP to a process of its own that takes
everything. In `collector_down` its port refuses connections, in `collector_black_hole` it never answers; every
message is traced there, too. A figure is the share that is lost of the throughput in the same round of `off`, and for
the last two of `tracing_full`: what a broken collector costs on top. Below 0 is noise, or spans that are not sent.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from actors.tracing import Tracing
from bench.collector import collector, refusing, silent
from bench.node import private_node
from bench.pool import BenchPool, fixed, folder, jobs, local_ray, pool_of, settings
from bench.spread import medians, spreads
from bench.usage import load_average
from cluster.session import Session

BROKEN = ("collector_down", "collector_black_hole")
SHARES = {"tracing_full": 1.0, "tracing_sampled": 0.01} | dict.fromkeys(BROKEN, 1.0)
BASES = dict.fromkeys(BROKEN, "tracing_full")  # of the others: off


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    workers: int
    rounds: int
    messages: int


FULL = Size(workers=2, rounds=7, messages=60_000)
QUICK = Size(workers=1, rounds=1, messages=1_000)


def run(*, quick: bool) -> dict[str, Any]:  # Any: JSON values
    """Fractions, medians of the rounds; messages per second of each pool beside them."""
    size = QUICK if quick else FULL
    with private_node() as node, folder() as place, collector() as endpoint, refusing() as down, silent() as hole:
        environs = variants(endpoint, down, hole)
        with local_ray(len(environs) * size.workers) as session:
            return asyncio.run(_measured(node.url, place, session, environs, size))


def variants(endpoint: str, down: str, hole: str) -> dict[str, dict[str, str]]:
    """The environment of each pool."""
    off = {"METRICS_ENABLED": "false"}
    return {
        "off": off,
        "metrics": {"METRICS_ENABLED": "true"},
        "tracing_sampled": off | {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint},
        "tracing_full": off | {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint},
        "collector_down": off | {"OTEL_EXPORTER_OTLP_ENDPOINT": down},
        "collector_black_hole": off | {"OTEL_EXPORTER_OTLP_ENDPOINT": hole},
    }


async def _measured(
    url: str, place: Path, session: Session, environs: Mapping[str, dict[str, str]], size: Size
) -> dict[str, Any]:  # Any: JSON values
    rates: dict[str, list[float]] = defaultdict(list)
    async with contextlib.AsyncExitStack() as stack:
        starts = [
            stack.enter_async_context(pool_of(settings(url, place, fixed(size.workers), environ), session))
            for environ in environs.values()
        ]
        pools = dict(zip(environs, await asyncio.gather(*starts), strict=True))
        for pool in pools.values():
            await pool.pause()
            await _rate("off", pool, size.messages // 2)  # warms it up
        for _ in range(size.rounds):
            for name, pool in pools.items():
                rates[name].append(await _rate(name, pool, size.messages))
        await asyncio.gather(*(pool.stop() for pool in pools.values()))  # at once: a black hole is waited for
    bases = {name: rates[BASES.get(name, "off")] for name in environs if name != "off"}
    lost = {name: [1 - rate / base for rate, base in zip(rates[name], bases[name], strict=True)] for name in bases}
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
    rows = ["| | messages/s | lost against off | least to most |", "|---|---:|---:|---:|"]
    for name, rate in result["msg_s"].items():
        low, high = result["spread"].get(name, (0.0, 0.0))
        lost = f"{result[name]:.1%} | {low:.1%} to {high:.1%}" if name in result else "|"
        title = name.replace("_", " ") + (", against tracing full" if name in BASES else "")
        rows.append(f"| {title} | {rate:,} | {lost} |")
    return "\n".join(rows)
