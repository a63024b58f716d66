"""What traces and metrics cost at full load: a full queue, no-op handler, 2 workers, against all of it switched off.

Six pools take turns on the same node: `off`; `metrics` (METRICS_ENABLED, the default); `tracing_sampled` (1 % of the
messages carry a sampled trace); `tracing_full` (all do). Traces go out by OTLP to a process of its own that takes
everything. In `collector_down` its port refuses connections, in `collector_black_hole` it never answers; every
message is traced there, too. A figure is the share of our processes' CPU for each message that the variant adds,
beside `off` in the same round, and for the last two beside `tracing_full`: what a broken collector costs on top. With
both cores busy that is the share of throughput that is lost; the throughput itself (`msg_s`) differs by a quarter from
run to run, more than what is looked for. Below 0 is noise, or spans that are not sent.
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
from bench.usage import CpuMeter, load_average
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
    """Fractions, medians of the rounds; messages per second and CPU µs per message of each pool beside them."""
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
    costs: dict[str, list[float]] = defaultdict(list)
    async with contextlib.AsyncExitStack() as stack:
        starts = [
            stack.enter_async_context(pool_of(settings(url, place, fixed(size.workers), environ), session))
            for environ in environs.values()
        ]
        pools = dict(zip(environs, await asyncio.gather(*starts), strict=True))
        for pool in pools.values():
            await pool.pause()
            await _work("off", pool, size.messages // 2)  # warms it up
        for _ in range(size.rounds):
            for name, pool in pools.items():
                rate, cost_us = await _work(name, pool, size.messages)
                rates[name].append(rate)
                costs[name].append(cost_us)
        await asyncio.gather(*(pool.stop() for pool in pools.values()))  # at once: a black hole is waited for
    bases = {name: costs[BASES.get(name, "off")] for name in environs if name != "off"}
    added = {name: [1 - base / cost for cost, base in zip(costs[name], bases[name], strict=True)] for name in bases}
    figures = {"msg_s": medians(rates), "cpu_us": medians(costs, 1), "spread": spreads(added, 3)}
    return medians(added, 4) | figures | {"load_average": load_average()}


async def _work(name: str, pool: BenchPool, count: int) -> tuple[float, float]:
    """Messages per second and CPU µs per message of `count` messages that waited for the pool."""
    tracing = None
    if name in SHARES:  # the publisher's own spans go nowhere: publishing is not measured
        provider = TracerProvider(sampler=TraceIdRatioBased(SHARES[name]))
        tracing = Tracing(queue=pool.loaded.settings.queue, provider=provider)
    await pool.publish(jobs(count), tracing=tracing)
    meter = CpuMeter({"all": (await pool.pids()).all})
    took_s = await pool.drain_paused(count)
    return count / took_s, meter.seconds()["all"] / count * 1e6


def table(result: dict[str, Any]) -> str:  # Any: JSON values
    """One row for each pool."""
    rows = ["| | messages/s | CPU µs/message | added to off | least to most |", "|---|---:|---:|---:|---:|"]
    for name, rate in result["msg_s"].items():
        low, high = result["spread"].get(name, (0.0, 0.0))
        lost = f"{result[name]:.1%} | {low:.1%} to {high:.1%}" if name in result else "|"
        title = name.replace("_", " ") + (", against tracing full" if name in BASES else "")
        rows.append(f"| {title} | {rate:,} | {result['cpu_us'][name]} | {lost} |")
    return "\n".join(rows)
