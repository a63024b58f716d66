"""How fast a real pool reacts, and what a square wave costs: scale-out, scale-in, nothing lost, nobody killed.

`actors_start_s`: from `scale 4` on a pool of one until the others are ready, the least that growing can take.
`spinup_s`: from the first message of a burst (a 50 ms async handler) until the pool is at its most; the pool had been
idle for long enough (7 s) that its autoscaler had slowed down to looking every QUEUE_DEPTH_INTERVAL; the router wakes
it with the first delivery. The burst goes on until then: there wait as many messages as the most workers need 4 s for.
`square_wave`: bursts with a lull after each, so that the pool grows and shrinks in each cycle; workers are retired
while messages still trickle in. `back_to_min_s`: from the end of the burst until one worker is left, the median; a lull
lasts until then, or LULL_MOST_S, which counts as its time, and as one of `not_back`. `lost` are jobs without a row,
`duplicated` results of a job that had one already; `attempts_charged` are runs beyond the first; `busy_killed` are
workers that ended otherwise than by retiring. `decisions`: seconds since the wave began, sizes, and the reason.
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

from bench.burst import Burst, burst_until_grown
from bench.node import private_node
from bench.paced import publish_at
from bench.pool import BenchPool, empty_actors, folder, jobs, local_ray, pool_of, settings
from bench.spread import spreads
from bench.usage import CpuMeter, load_average
from bench.wave import audit, decision_lines
from rabbitray.actors.message.job import Job
from rabbitray.cluster.driver.session import Session

HANDLER_MS = 50.0
MOST = 4
SLOTS = 32  # QUEUE_CONCURRENCY by default
DRAIN_TARGET_S = 2.0
WAITING = round(2 * DRAIN_TARGET_S * MOST * SLOTS / HANDLER_MS * 1_000)
"""Twice what the most workers drain in time: none is faster, on any machine, than its slots and the handler allow."""

POLICY: dict[str, object] = {
    "min_size": 1,
    "initial_size": 1,
    "max_size": MOST,
    "drain_target_s": DRAIN_TARGET_S,
    "downscaling_factor": 1.0,
    "look_back_period_s": 4.0,
}
"""A pool that is meant to follow a wave of seconds; everything else is at its default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """`look_idle_s`: QUEUE_DEPTH_INTERVAL, which is 5 s by default."""

    bursts: int
    cycles: int
    wave: int
    idle_s: float
    rest_s: float
    downscale_delay_s: float
    look_idle_s: float


FULL = Size(
    bursts=5,
    cycles=20,
    wave=5_000,
    idle_s=60.0,
    rest_s=7.0,
    downscale_delay_s=2.0,
    look_idle_s=5.0,
)
QUICK = Size(
    bursts=1,
    cycles=1,
    wave=1_000,
    idle_s=1.0,
    rest_s=0.0,
    downscale_delay_s=0.3,
    look_idle_s=0.5,
)
LULL_RATE = 50.0
LULL_MOST_S = 20.0
TRICKLE_S = 0.5  # one helping: a lull may end so much later than the pool is back
LOOK_S = 0.1
WORKED_WITHIN_S = 600.0


def run(*, quick: bool) -> dict[str, Any]:  # Any: JSON values
    """Medians of the bursts; the wave; the last decisions with their reasons."""
    with private_node() as node, folder() as place, local_ray(MOST) as session:
        return asyncio.run(_measured(node.url, place, session, QUICK if quick else FULL))


async def _measured(url: str, place: Path, session: Session, size: Size) -> dict[str, Any]:  # Any: JSON values
    starts: list[float] = []
    bursts: list[Burst] = []
    pace = {"downscale_delay_s": size.downscale_delay_s, "queue_depth_interval_ms": round(size.look_idle_s * 1_000)}
    loaded = settings(url, place, POLICY | pace)
    async with pool_of(loaded, session, "bench.handlers:wait") as pool:
        for _ in range(size.bursts):
            starts.append(await _scaled(pool))
            await _shrunk(pool)
            await asyncio.sleep(size.rest_s)
            bursts.append(await burst_until_grown(pool, MOST, waiting=WAITING, jobs=_waiting))
            await _shrunk(pool)
        began = time.time()
        cycles = await _wave(pool, size)
        await _shrunk(pool)
        idle = await _idle(pool, size.idle_s)
        decisions = decision_lines(await pool.decisions(), began)  # by now it has seen its last one in effect
        drained = await pool.stop()
    assert drained.report is not None
    wave = _wave_figures(cycles)
    spins = [one.took_s for one in bursts]
    sent = sum(one.sent for one in bursts) + wave["messages"]
    rounds = {"spinup_s": spins, "actors_start_s": starts, "back_to_min_s": [one.back_s for one in cycles]}
    return {
        "spinup_s": round(median(spins), 2),
        "actors_start_s": round(median(starts), 2),
        "burst_messages": [one.sent for one in bursts],
        "square_wave": wave | audit(_stored(pool), drained.report, sent),
        "idle_cpu_percent": round(idle, 2),
        "spread": spreads(rounds, 2),
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


async def _shrunk(pool: BenchPool) -> None:
    """Back at one worker."""
    await pool.ready(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """`sent`: messages. `peak`, `low`: workers ready at most, and at the end. `back_s`: of the lull."""

    sent: int
    peak: int
    low: int
    back_s: float


async def _wave(pool: BenchPool, size: Size) -> list[Cycle]:
    """Bursts and lulls, and everything acked."""
    before = (await pool.status()).done
    cycles = [await _cycle(pool, size.wave) for _ in range(size.cycles)]
    await pool.acked(before + sum(one.sent for one in cycles))
    return cycles


async def _cycle(pool: BenchPool, burst: int) -> Cycle:
    """A burst, and a lull with a trickle in it that keeps the workers that retire busy."""
    before, over, workers = (await pool.status()).done, asyncio.Event(), list[int]()
    await pool.publish(_waiting(burst))
    async with asyncio.TaskGroup() as tasks:
        trickle = tasks.create_task(_trickle(pool, over))
        await _worked(pool, before + burst, workers)
        back_s = await _back(pool, workers)
        over.set()
    return Cycle(sent=burst + trickle.result(), peak=max(workers), low=workers[-1], back_s=back_s)


async def _trickle(pool: BenchPool, over: asyncio.Event) -> int:
    """Messages sent until it is over."""
    sent = 0
    while not over.is_set():
        sent += (await publish_at(pool.loaded, LULL_RATE, TRICKLE_S, payload=HANDLER_MS)).sent
    return sent


async def _worked(pool: BenchPool, count: int, workers: list[int]) -> None:
    """Waits until so many messages were worked since the start; adds the ready workers at each look."""
    async with asyncio.timeout(WORKED_WITHIN_S):
        while True:
            seen = await pool.status()
            workers.append(seen.workers)
            if seen.done >= count:
                return
            await asyncio.sleep(LOOK_S)


async def _back(pool: BenchPool, workers: list[int]) -> float:
    """Seconds until one worker is left, or LULL_MOST_S; adds the ready workers at each look."""
    began = time.perf_counter()
    while True:
        seen = await pool.status()
        workers.append(seen.workers)
        took_s = time.perf_counter() - began
        if (seen.target, seen.workers, seen.starting, seen.retiring) == (1, 1, 0, 0):
            return took_s
        if took_s >= LULL_MOST_S:
            return LULL_MOST_S
        await asyncio.sleep(LOOK_S)


def _wave_figures(cycles: list[Cycle]) -> dict[str, Any]:  # Any: JSON values
    return {
        "cycles": len(cycles),
        "messages": sum(one.sent for one in cycles),
        "peak_workers": max(one.peak for one in cycles),
        "low_workers": min(one.low for one in cycles),
        "back_to_min_s": round(median(one.back_s for one in cycles), 2),
        "not_back": sum(one.back_s >= LULL_MOST_S for one in cycles),
    }


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


def _stored(pool: BenchPool) -> dict[str, Any]:  # Any: SQL values
    sql = "SELECT count(*) AS n, count(DISTINCT key) AS jobs, sum(attempts - 1) AS charged FROM results"
    return pool.rows(sql)[0]


def table(result: dict[str, Any]) -> str:  # Any: JSON values
    """The figures, and a decision log of the wave."""
    wave = result["square_wave"]
    ends = {name: f" ({low} to {high})" for name, (low, high) in result.get("spread", {}).items()}  # not in old ones
    rows = [
        "| | |",
        "|---|---:|",
        f"| burst until the pool is at its most | {result['spinup_s']} s{ends.get('spinup_s', '')} |",
        f"| of which starting the actors takes | {result['actors_start_s']} s{ends.get('actors_start_s', '')} |",
        *(f"| square wave, {name.replace('_', ' ')} | {value} |" for name, value in wave.items()),
        f"| idle, beyond as many empty actors | {result['idle_cpu_percent']} % of a core |",
        "",
        "The last decisions of the wave, from its start on:",
        "",
    ]
    return "\n".join([*rows, *(f"- {line}" for line in result["decisions"])])
