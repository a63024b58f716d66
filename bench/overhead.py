"""What traces and metrics cost at full load: a full queue, no-op handler, 2 workers, against all of it switched off.

Each variant is a pool that takes turns with the pool that it is compared with, on the same node, and no other pool is
there: `metrics` (METRICS_ENABLED, the default), `tracing_sampled` (1 % of the messages carry a sampled trace) and
`tracing_full` (all do) with `off`. Traces go out by OTLP to a process of its own that takes everything. In
`collector_down` its port refuses connections, in `collector_black_hole` it never answers; every message is traced
there, too, and they take turns with `tracing_full`: what a broken collector costs on top.

A figure is the share of our processes' CPU for each message that the variant adds, in the median pair: with both cores
busy, the share of throughput that is lost. The throughput itself (`msg_s`) differs by a quarter from run to run, more
than what is looked for. For the same reason batch and window are fixed here: adaptive ones find other sizes in each
run, and a batch costs as much as 100 messages. Below 0 is noise, or spans that are not sent.
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
PAIRS = {"off": ("metrics", "tracing_sampled", "tracing_full"), "tracing_full": BROKEN}
SIZES = {"batch_size": 250, "prefetch_count": 1_500}  # what the adaptive ones find at this load, about


Series = dict[str, list[float]]  # name -> its rounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    workers: int
    rounds: int
    messages: int


FULL = Size(workers=2, rounds=7, messages=50_000)
QUICK = Size(workers=1, rounds=1, messages=1_000)


def run(*, quick: bool) -> dict[str, Any]:  # Any: JSON values
    """Fractions, medians of the rounds; messages per second and CPU µs per message of each pool beside them."""
    size = QUICK if quick else FULL
    with private_node() as node, folder() as place, collector() as endpoint, refusing() as down, silent() as hole:
        environs = variants(endpoint, down, hole)
        with local_ray(2 * size.workers) as session:
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
    rates: Series = defaultdict(list)
    costs: Series = defaultdict(list)
    added: Series = defaultdict(list)

    async def started(name: str) -> BenchPool:
        loaded = settings(url, place, SIZES | fixed(size.workers), environs[name])
        pool = await stack.enter_async_context(pool_of(loaded, session))
        await pool.pause()
        await _work("off", pool, size.messages // 2)  # warms it up
        return pool

    for base, names in PAIRS.items():
        async with contextlib.AsyncExitStack() as stack:
            other = await started(base)
            for name in names:
                pool = await started(name)
                for number in range(size.rounds):
                    pair = ((base, other), (name, pool))
                    for one, its in pair if number % 2 else reversed(pair):
                        rate, cost_us = await _work(one, its, size.messages)
                        rates[one].append(rate)
                        costs[one].append(cost_us)
                    added[name].append(1 - costs[base][-1] / costs[name][-1])
                await pool.stop()
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
    rows = ["| | messages/s | CPU µs/message | added, median pair | least to most |", "|---|---:|---:|---:|---:|"]
    for name, rate in result["msg_s"].items():
        low, high = result["spread"].get(name, (0.0, 0.0))
        lost = f"{result[name]:.1%} | {low:.1%} to {high:.1%}" if name in result else "|"
        title = name.replace("_", " ") + (", against tracing full" if name in BROKEN else "")
        rows.append(f"| {title} | {rate:,} | {result['cpu_us'][name]} | {lost} |")
    return "\n".join(rows)
