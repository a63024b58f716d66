"""What traces and metrics cost at full load: full queues, no-op handler, 2 workers, against all of it switched off.

Each variant is a pool that works beside the pool that it is compared with, both at the same time, on the same node
and on the same two cores: `metrics` (METRICS_ENABLED, the default), `tracing_sampled` (1 % of the messages carry a
sampled trace) and `tracing_full` (all do) with `off`. Traces go out by OTLP to a process of its own that takes
everything. In `collector_down` its port refuses connections, in `collector_black_hole` it never answers; every message
is traced there, too, and they work beside `tracing_full`: what a broken collector costs on top. `off_again` is a second
pool like `off`: what this bench sees where there is nothing to see.

A figure is the share of our processes' CPU for each message that the variant adds, in the median pair: with both cores
busy, the share of throughput that is lost. CPU for a message changes by 10 % from second to second with whatever else
the machine does (in turns, pools with the same settings differed by up to 20 %); at the same time both have the same
seconds. They are looked at from when both are under way until the first one is through, since a pool that is left alone
spends a third less. Each variant has three pairs of pools: processes of the same program differ by some percent for as
long as they live. Batch and window are fixed: adaptive ones find other sizes in each run, and a batch costs as much
as 100 messages. Below 0 is noise, or spans that are not sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
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
from cluster.settings import Loaded

BROKEN = ("collector_down", "collector_black_hole")
SHARES = {"tracing_full": 1.0, "tracing_sampled": 0.01} | dict.fromkeys(BROKEN, 1.0)
PAIRS = {"off": ("off_again", "metrics", "tracing_sampled", "tracing_full"), "tracing_full": BROKEN}
SIZES = {"batch_size": 250, "prefetch_count": 1_500}  # what the adaptive ones find at this load, about

_NOTHING = "one pool was through before the other was under way: there is nothing to compare, run it again"

Series = dict[str, list[float]]  # name -> its rounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    workers: int
    pairs: int  # of pools, for each variant
    rounds: int  # of each pair
    messages: int
    warm_up: int = 1  # rounds that do not count
    under_way: float = 0.1  # share of the messages after which a pool is at full speed


FULL = Size(workers=2, pairs=3, rounds=3, messages=50_000)
QUICK = Size(workers=1, pairs=1, rounds=1, messages=3_000, warm_up=0, under_way=0)


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
        "off_again": off,
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

    for base, name in ((base, name) for base, names in PAIRS.items() for name in names):
        for _ in range(size.pairs):
            both = {one: settings(url, place, SIZES | fixed(size.workers), environs[one]) for one in (base, name)}
            for worked in await _rounds(both, session, size):
                for one, (rate, cost_us) in worked.items():
                    rates[one].append(rate)
                    costs[one].append(cost_us)
                added[name].append(1 - costs[base][-1] / costs[name][-1])
    figures = {"msg_s": medians(rates), "cpu_us": medians(costs, 1), "spread": spreads(added, 3)}
    return medians(added, 4) | figures | {"load_average": load_average()}


async def _rounds(both: Mapping[str, Loaded], session: Session, size: Size) -> list[dict[str, tuple[float, float]]]:
    """Two fresh pools, side by side: the rounds after the warm-up."""
    async with contextlib.AsyncExitStack() as stack:
        starts = [stack.enter_async_context(pool_of(loaded, session)) for loaded in both.values()]
        pair = dict(zip(both, await asyncio.gather(*starts), strict=True))
        await asyncio.gather(*(pool.pause() for pool in pair.values()))
        turns = range(size.warm_up + size.rounds)
        return [await _round(pair, size, swapped=turn % 2 == 1) for turn in turns][size.warm_up :]


async def _round(pair: dict[str, BenchPool], size: Size, *, swapped: bool) -> dict[str, tuple[float, float]]:
    """Messages per second and CPU µs per message of both; `swapped`: whose messages are published first."""
    for one in reversed(pair) if swapped else pair:
        await _fill(one, pair[one], size.messages)
    return dict(zip(pair, await _work(list(pair.values()), size), strict=True))


async def _fill(name: str, pool: BenchPool, count: int) -> None:
    """Publishes as the variant asks; the publisher's own spans go nowhere: publishing is not measured."""
    tracing = None
    if name in SHARES:
        provider = TracerProvider(sampler=TraceIdRatioBased(SHARES[name]))
        tracing = Tracing(queue=pool.loaded.settings.queue, provider=provider)
    await pool.publish(jobs(count), tracing=tracing)


async def _work(pools: Sequence[BenchPool], size: Size) -> list[tuple[float, float]]:
    """Lets the messages through each pool; messages per second and CPU µs per message while all are at work."""
    before = waiting = await _done(pools)
    meters = [CpuMeter({"all": (await pool.pids()).all}) for pool in pools]
    await asyncio.gather(*(pool.resume() for pool in pools))
    drains = [asyncio.create_task(pool.acked(had + size.messages)) for pool, had in zip(pools, waiting, strict=True)]
    under_way = [had + size.messages * size.under_way for had in waiting]
    while any(done < enough for done, enough in zip(before, under_way, strict=True)):
        if any(drain.done() for drain in drains):
            await asyncio.gather(*drains)
            raise RuntimeError(_NOTHING)
        await asyncio.sleep(0.02)
        before = await _done(pools)
    began, spent_before = time.perf_counter(), [meter.seconds()["all"] for meter in meters]
    await asyncio.wait(drains, return_when=asyncio.FIRST_COMPLETED)
    took_s, spent = time.perf_counter() - began, [meter.seconds()["all"] for meter in meters]
    now = await _done(pools)
    await asyncio.gather(*drains)
    await asyncio.gather(*(pool.pause() for pool in pools))
    if any(new == old for old, new in zip(before, now, strict=True)):
        raise RuntimeError(_NOTHING)
    looks = zip(before, now, spent_before, spent, strict=True)
    return [((new - old) / took_s, (cpu_s - had_s) / (new - old) * 1e6) for old, new, had_s, cpu_s in looks]


async def _done(pools: Sequence[BenchPool]) -> list[int]:
    return [seen.done for seen in await asyncio.gather(*(pool.status() for pool in pools))]


def table(result: dict[str, Any]) -> str:  # Any: JSON values
    """One row for each pool."""
    rows = [
        "| | messages/s, beside another pool | CPU µs/message | added, median pair | least to most |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, rate in result["msg_s"].items():
        low, high = result["spread"].get(name, (0.0, 0.0))
        lost = f"{result[name]:.1%} | {low:.1%} to {high:.1%}" if name in result else "|"
        title = name.replace("_", " ") + (", against tracing full" if name in BROKEN else "")
        rows.append(f"| {title} | {rate:,} | {result['cpu_us'][name]} | {lost} |")
    return "\n".join(rows)
