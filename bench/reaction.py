"""How fast a real pool reacts, and what a square wave costs: scale-out, scale-in, nothing lost, nobody killed.

`actors_start_s`: from `scale 4` on a pool of one until the others are ready, the least that growing can take.
`spinup_s`: from the first message of a burst of 5,000 (a 50 ms async handler) until the pool is at its most; the pool
had been idle for long enough (7 s) that its autoscaler had slowed down to looking every QUEUE_DEPTH_INTERVAL; the
router wakes it with the first delivery.
`square_wave`: bursts with quiet between, so that the pool grows and shrinks in each cycle; workers are retired while
messages still come. `lost` and `duplicated` are jobs without a row, and rows beyond one for a job;
`attempts_charged` are runs beyond the first; `busy_killed` are workers that ended otherwise than by retiring.
`idle_cpu_percent`: on the empty queue afterwards, percent of one core more than as many empty Ray actors.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from actors.job import Job
from bench.node import private_node
from bench.paced import publish_at
from bench.pool import BenchPool, empty_actors, folder, jobs, local_ray, pool_of, settings
from bench.usage import CpuMeter, load_average
from cluster.session import Session

HANDLER_MS = 50.0
MOST = 4
POLICY: dict[str, object] = {
    "min_size": 1,
    "initial_size": 1,
    "max_size": MOST,
    "drain_target_s": 2.0,
    "downscaling_factor": 1.0,
    "look_back_period_s": 4.0,
}
"""A pool that is meant to follow a wave of seconds; everything else is at its default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """`look_idle_s`: QUEUE_DEPTH_INTERVAL, which is 5 s by default."""

    bursts: int
    burst: int
    cycles: int
    wave: int
    quiet_s: float
    idle_s: float
    rest_s: float
    downscale_delay_s: float
    look_idle_s: float


FULL = Size(
    bursts=5,
    burst=5_000,
    cycles=20,
    wave=5_000,
    quiet_s=8.0,
    idle_s=60.0,
    rest_s=7.0,
    downscale_delay_s=2.0,
    look_idle_s=5.0,
)
QUICK = Size(
    bursts=1,
    burst=3_000,
    cycles=1,
    wave=1_000,
    quiet_s=1.0,
    idle_s=1.0,
    rest_s=0.0,
    downscale_delay_s=0.3,
    look_idle_s=0.5,
)
QUIET_RATE = 50.0


def run(*, quick: bool) -> dict[str, Any]:  # Any: JSON values
    """Medians of the bursts; the wave; the last decisions with their reasons."""
    with private_node() as node, folder() as place, local_ray(MOST) as session:
        return asyncio.run(_measured(node.url, place, session, QUICK if quick else FULL))


async def _measured(url: str, place: Path, session: Session, size: Size) -> dict[str, Any]:  # Any: JSON values
    starts: list[float] = []
    spins: list[float] = []
    pace = {"downscale_delay_s": size.downscale_delay_s, "queue_depth_interval_ms": round(size.look_idle_s * 1_000)}
    loaded = settings(url, place, POLICY | pace)
    async with pool_of(loaded, session, "bench.handlers:wait") as pool:
        for _ in range(size.bursts):
            starts.append(await _scaled(pool))
            await _shrunk(pool)
            await asyncio.sleep(size.rest_s)
            spins.append(await _burst(pool, size.burst))
            await _shrunk(pool)
        wave = await _wave(pool, size)
        await _shrunk(pool)
        decisions = [f"{one.event}: {one.reason}" for one in await pool.decisions()]
        idle = await _idle(pool, size.idle_s)
        report = await pool.stop()
    return {
        "spinup_s": round(median(spins), 2),
        "actors_start_s": round(median(starts), 2),
        "square_wave": wave | _audit(pool, report, size.burst * size.bursts + wave["messages"]),
        "idle_cpu_percent": round(idle, 2),
        "decisions": decisions,
        "load_average": load_average(),
    }


async def _scaled(pool: BenchPool) -> float:
    """Seconds that the workers up to MOST take to start."""
    began = time.perf_counter()
    await pool.fix(MOST)
    await pool.ready(MOST)
    took_s = time.perf_counter() - began
    await pool.fix(1)
    await pool.ready(1)
    await pool.fix(None)
    return took_s


async def _burst(pool: BenchPool, count: int) -> float:
    """Seconds from the first message until the most workers that are allowed are wanted and ready."""
    before = (await pool.status()).done
    began = time.perf_counter()
    publishing = asyncio.create_task(pool.publish(_waiting(count)))
    while True:
        seen = await pool.status()
        if seen.target == MOST and seen.workers == MOST:
            break
        if seen.done - before >= count and seen.target < MOST:
            raise RuntimeError(f"the burst was over before the pool had grown to {MOST} workers (now {seen.target})")
        await asyncio.sleep(0.01)
    took_s = time.perf_counter() - began
    await publishing
    await pool.acked(before + count)
    return took_s


async def _shrunk(pool: BenchPool) -> None:
    """Back at one worker."""
    await pool.ready(1)


async def _wave(pool: BenchPool, size: Size) -> dict[str, Any]:  # Any: JSON values
    """Bursts, with a trickle between them that keeps the workers that retire busy."""
    before = (await pool.status()).done
    sent, peaks, lows = 0, [], []
    for _ in range(size.cycles):
        await pool.publish(_waiting(size.wave))
        trickle = asyncio.create_task(publish_at(pool.loaded, QUIET_RATE, size.quiet_s, payload=HANDLER_MS))
        peak = low = (await pool.status()).workers
        while not trickle.done():
            await asyncio.wait({trickle}, timeout=0.1)
            seen = (await pool.status()).workers
            peak, low = max(peak, seen), seen
        sent += size.wave + trickle.result().sent
        peaks.append(peak)
        lows.append(low)
    await pool.acked(before + sent)
    return {"cycles": size.cycles, "messages": sent, "peak_workers": max(peaks), "low_workers": min(lows)}


def _waiting(count: int) -> Iterable[Job]:
    return jobs(count, payload=HANDLER_MS)


async def _idle(pool: BenchPool, seconds: float) -> float:
    pids = (await pool.pids()).all
    async with empty_actors(len(pids)) as empty:
        await asyncio.sleep(1.0)
        meter = CpuMeter({"ours": pids, "empty": empty})
        await asyncio.sleep(seconds)
        percent = meter.percent()
    return percent["ours"] - percent["empty"]


def _audit(pool: BenchPool, report: dict[str, Any], sent: int) -> dict[str, int]:  # Any: JSON values
    """From the results file, over bursts and wave."""
    found = pool.rows("SELECT count(*) AS n, count(DISTINCT key) AS jobs, sum(attempts - 1) AS charged FROM results")[0]
    return {
        "lost": sent - found["jobs"],
        "duplicated": found["n"] - found["jobs"],
        "attempts_charged": int(found["charged"] or 0) + report["retried"] + report["dead"],
        "busy_killed": report["replaced"],
    }


def table(result: dict[str, Any]) -> str:  # Any: JSON values
    """The figures, and a decision log of the wave."""
    wave = result["square_wave"]
    rows = [
        "| | |",
        "|---|---:|",
        f"| burst until the pool is at its most | {result['spinup_s']} s |",
        f"| of which starting the actors takes | {result['actors_start_s']} s |",
        *(f"| square wave, {name.replace('_', ' ')} | {value} |" for name, value in wave.items()),
        f"| idle, beyond as many empty actors | {result['idle_cpu_percent']} % of a core |",
        "",
        "The last decisions:",
        "",
    ]
    return "\n".join([*rows, *(f"- {line}" for line in result["decisions"])])
