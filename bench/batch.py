"""What one batch costs over all processes: one of 1, 10 or 100 empty messages, no-op handler, 1 worker, defaults.

Bursts come at a pace that leaves the pool idle in between, so that each is a batch of its own; what the idle pool uses
in the same time is taken off. How many batches that made is counted in the results, so figures are per batch as it came
about. `calls`: Ray's calls per batch, by who makes them and what of.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.node import private_node
from bench.pool import BenchPool, compose, fixed, folder, jobs, local_ray, pool_of, settings
from bench.ray_calls import calls_made, count_calls
from bench.usage import CpuMeter, load_average
from rabbitray.actors.publisher import Publisher
from rabbitray.cluster.driver.session import Session

SIZES = (1, 10, 100)
EVERY_S = {1: 0.02, 10: 0.05, 100: 0.1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """`seconds` of bursts for each size, and of idleness."""

    warm_up: int
    seconds: float


FULL, QUICK = Load(warm_up=200, seconds=20.0), Load(warm_up=20, seconds=2.0)


def run(*, quick: bool) -> dict[str, Any]:  # Any: JSON values
    """By messages in a burst: batches, messages per batch, ms of CPU per batch by process, and Ray's calls."""
    load = QUICK if quick else FULL
    with private_node() as node, folder() as place, local_ray(1) as session:
        return asyncio.run(_measured(node.url, place, session, load))


async def _measured(url: str, place: Path, session: Session, load: Load) -> dict[str, Any]:  # Any: JSON values
    found: dict[str, Any] = {}
    async with pool_of(settings(url, place, fixed(1)), session) as pool:
        for size in SIZES:
            await bursts(pool, size, load.warm_up, every_s=EVERY_S[size])
        await pool.in_each_process(count_calls)
        idle = await _idle(pool, load.seconds)
        spans = [(size, await _at(pool, size, load.seconds)) for size in SIZES]
    for size, (first, last, spent_s, made) in spans:
        row = pool.rows(_BATCHES_SQL.format(first=first, last=last))[0]
        batches = int(row["batches"])
        found[str(size)] = _figures(batches, int(row["messages"]), spent_s, made, idle, load.seconds)
    return found | {"idle_cpu_percent": {name: round(100 * share, 2) for name, share in idle.items()}}


_BATCHES_SQL = """
SELECT count(DISTINCT batch_id) AS batches, count(*) AS messages FROM results
WHERE received_at >= make_timestamptz({first}) AND received_at <= make_timestamptz({last})
"""


def _figures(
    batches: int,
    messages: int,
    spent_s: Mapping[str, float],
    made: Mapping[str, int],
    idle: Mapping[str, float],
    s: float,
) -> dict[str, Any]:  # Any: JSON values
    cpu_ms = {name: (spent - idle[name] * s) / batches * 1_000 for name, spent in spent_s.items()}
    return {
        "batches": batches,
        "messages_in_a_batch": round(messages / batches, 2),
        "cpu_ms": round(sum(cpu_ms.values()), 3),
        "by_process": {name: round(spent, 3) for name, spent in cpu_ms.items()},
        "calls": {name: round(count / batches, 2) for name, count in sorted(made.items())},
        "load_average": load_average(),
    }


async def _idle(pool: BenchPool, seconds: float) -> dict[str, float]:
    """Cores that each process uses while nothing comes."""
    meter = CpuMeter((await pool.pids()).groups())
    await asyncio.sleep(seconds)
    return {name: spent / seconds for name, spent in meter.seconds().items()}


async def _at(pool: BenchPool, size: int, seconds: float) -> tuple[int, int, dict[str, float], Counter[str]]:
    """When it began and ended (Unix us), CPU seconds by process, and Ray's calls in between."""
    meter, before = CpuMeter((await pool.pids()).groups()), await _calls(pool)
    first = time.time_ns() // 1_000
    every_s = EVERY_S[size]
    await bursts(pool, size, round(seconds / every_s), every_s=every_s)
    return first, time.time_ns() // 1_000, meter.seconds(), await _calls(pool) - before


async def bursts(pool: BenchPool, size: int, times: int, *, every_s: float) -> None:
    """Publishes `size` messages at once, `times` times, and waits until all are acked."""
    before = (await pool.status()).done
    async with Publisher(compose.publisher(pool.loaded.settings)) as publisher:
        began = time.perf_counter()
        for number in range(times):
            await asyncio.sleep(max(0.0, began + number * every_s - time.perf_counter()))
            for sent in [publisher.submit(job) for job in jobs(size)]:
                await sent
    await pool.acked(before + size * times)


async def _calls(pool: BenchPool) -> Counter[str]:
    names = ("router", "store", "autoscaler")
    found: Counter[str] = Counter()
    for index, made in enumerate(await pool.in_each_process(calls_made)):
        caller = names[index] if index < len(names) else "worker"
        found.update({f"{caller}: {method}": count for method, count in made.items()})
    return found


def table(result: dict[str, Any]) -> str:  # Any: JSON values
    """One row for each size of burst."""
    sizes = [(size, one) for size, one in result.items() if size.isdigit()]
    processes = list(sizes[0][1]["by_process"])
    rows = [
        f"| messages in a burst | in a batch | batches | CPU of a batch, ms | {' | '.join(processes)} | Ray's calls |",
        f"|---:|---:|---:|---:|{'---:|' * len(processes)}---|",
    ]
    for size, one in sizes:
        shares = " | ".join(str(one["by_process"][name]) for name in processes)
        calls = ", ".join(f"{name} {count}" for name, count in one["calls"].items())
        rows.append(
            f"| {size} | {one['messages_in_a_batch']} | {one['batches']:,} | {one['cpu_ms']} | {shares} | {calls} |"
        )
    return "\n".join(rows)
