"""What traces and metrics cost at full load: full queues, no-op handler, 2 workers, against all of it switched off.

`metrics` is METRICS_ENABLED (the default), in `tracing_sampled` 1 % of the messages carry a sampled trace, in
`tracing_full` all do. Traces go out by OTLP to a process of its own that takes everything. In `collector_down` its port
refuses connections, in `collector_black_hole` it never answers; every message is traced there, too, and they are held
against `tracing_full`: what a broken collector costs on top. `off_again` is off against off: what this bench sees where
there is nothing to see.

CPU for a message changes by 10 % from second to second with whatever else the machine does, and processes of the same
program differ by some percent for as long as they live. So two pools work at the same time, on the same node and the
same two cores, one with the variant and one without; then they change sides, and the two answers are averaged: both
causes fall out. (What a broken collector costs is a difference of differences: both pools traced, then both off.) The
sides change inside the running processes (see `switch.py`). They are looked at from when both are under way until the
first one is nearly through, since a pool that is left alone spends a third less. Spans go out each 5 s, as they do by
default: a look begins when the first of a side have gone, on the average, and lasts longer than that; filling the
queues between two sides takes so long that nothing of one is paid in the next. Batch and window are fixed: adaptive
ones find other sizes in each run, and a batch costs as much as 100 messages.

A figure is the share of our processes' CPU for each message that the variant adds; what Ray's agent and the collector
spend on it is not counted. The mean of the crossings of several pairs of pools, with its standard error beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from bench.collector import collector, refusing, silent
from bench.node import private_node
from bench.pool import BenchPool, fixed, folder, jobs, local_ray, pool_of, settings
from bench.spread import medians, rounded, spreads
from bench.switch import switch
from bench.usage import CpuMeter, load_average
from rabbitray.actors.telemetry.tracing import Tracing
from rabbitray.cluster.driver.session import Session

SIZES = {"batch_size": 250, "prefetch_count": 1_500}  # what the adaptive ones find at this load, about

COME_WITHIN_S = 120.0

TRIES = 3

_NOTHING = f"one pool was through before the other was under way, {TRIES} times: is the machine busy otherwise?"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a pool has switched on; `traced`: the share of its messages that carry a sampled trace, None: no trace."""

    metrics: bool = False
    traced: float | None = None


OFF: Final = State()
FULL_TRACES: Final = State(traced=1.0)
VARIANTS: Final = {
    "off_again": OFF,
    "metrics": State(metrics=True),
    "tracing_sampled": State(traced=0.01),
    "tracing_full": FULL_TRACES,
}
BROKEN: Final = ("collector_down", "collector_black_hole")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    workers: int
    pairs: int  # of pools
    crossings: int  # of each variant in each pair
    messages: int  # for each pool and side
    warm_up: int = 1  # sides of each pair of pools that do not count
    under_way: float = 0.3  # share of the messages after which a pool is at full speed
    nearly_through: float = 0.9  # and until which it is
    least: float = 0.3  # share that each of the two must have done meanwhile, or the side is repeated


FULL = Size(workers=2, pairs=2, crossings=2, messages=120_000)
QUICK = Size(workers=1, pairs=1, crossings=1, messages=2_000, warm_up=0, under_way=0, nearly_through=1, least=0)

Worked = tuple[float, float]
"""Messages per second, CPU µs per message."""


class Seen:
    """What was measured so far, by variant."""

    def __init__(self) -> None:
        self.added: dict[str, list[float]] = defaultdict(list)
        self._rates: dict[str, list[float]] = defaultdict(list)
        self._costs_us: dict[str, list[float]] = defaultdict(list)

    def note(self, name: str, worked: Worked) -> None:
        """One side of one pool."""
        self._rates[name].append(worked[0])
        self._costs_us[name].append(worked[1])

    def result(self) -> dict[str, Any]:  # Any: JSON values
        """The JSON of the bench."""
        means = {name: rounded(statistics.mean(values), 4) for name, values in self.added.items()}
        return means | {
            "standard_error": {name: rounded(_error_of_mean(values), 4) for name, values in self.added.items()},
            "spread": spreads(self.added, 3),
            "msg_s": medians(self._rates),
            "cpu_us": medians(self._costs_us, 1),
            "load_average": load_average(),
        }


def _error_of_mean(values: Sequence[float]) -> float:
    """Its standard error; 0 for a single value, which tells nothing about it."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def run(*, quick: bool) -> dict[str, Any]:  # Any: JSON values
    """Fractions, means of the crossings; messages per second and CPU µs per message of each state beside them."""
    size = QUICK if quick else FULL
    with private_node() as node, folder() as place, collector() as good, refusing() as down, silent() as hole:
        broken = dict(zip(BROKEN, (down, hole), strict=True))
        with local_ray(2 * size.workers) as session:
            return asyncio.run(_measured(node.url, place, session, good, broken, size))


async def _measured(
    url: str, place: Path, session: Session, good: str, broken: dict[str, str], size: Size
) -> dict[str, Any]:  # Any: JSON values
    seen = Seen()
    for _ in range(size.pairs):
        async with _pair(url, place, session, (good, good), size) as pair:
            for turn in range(size.crossings):
                for name in list(VARIANTS)[:: -1 if turn % 2 else 1]:
                    await _cross(pair, name, VARIANTS[name], seen, size)
        for name, endpoint in broken.items():
            async with _pair(url, place, session, (endpoint, good), size) as pair:
                for turn in range(size.crossings):
                    await _against_good(pair, name, seen, size, off_first=turn % 2 == 1)
    return seen.result()


@contextlib.asynccontextmanager
async def _pair(
    url: str, place: Path, session: Session, endpoints: tuple[str, str], size: Size
) -> AsyncIterator[list[BenchPool]]:
    """Two fresh pools, warm and paused, whose traces go to these endpoints."""
    environs = [{"METRICS_ENABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint} for endpoint in endpoints]
    async with contextlib.AsyncExitStack() as stack:
        own = [settings(url, place, SIZES | fixed(size.workers), environ) for environ in environs]
        starts = [stack.enter_async_context(pool_of(loaded, session)) for loaded in own]
        pair = list(await asyncio.gather(*starts))
        await asyncio.gather(*(pool.pause() for pool in pair))
        for _ in range(size.warm_up):
            await _side(pair, (OFF, OFF), size)
        yield pair


async def _cross(pair: Sequence[BenchPool], name: str, state: State, seen: Seen, size: Size) -> None:
    """One with the variant and one without, then the other way round."""
    one_on, two_off = await _side(pair, (state, OFF), size)
    one_off, two_on = await _side(pair, (OFF, state), size)
    for worked in (one_on, two_on):
        seen.note(name, worked)
    for worked in (one_off, two_off):
        seen.note("off", worked)
    seen.added[name].append(1 - math.sqrt(two_off[1] / one_on[1] * one_off[1] / two_on[1]))


async def _against_good(pair: Sequence[BenchPool], name: str, seen: Seen, size: Size, *, off_first: bool) -> None:
    """Both traced, which only one of them gets rid of; and both without, which says how the two differ anyway."""
    costs: dict[State, float] = {}  # of the broken one, in those of the good one
    for state in (OFF, FULL_TRACES) if off_first else (FULL_TRACES, OFF):
        broken, good = await _side(pair, (state, state), size)
        costs[state] = broken[1] / good[1]
        if state == FULL_TRACES:
            seen.note(name, broken)
    seen.added[name].append(1 - costs[OFF] / costs[FULL_TRACES])


async def _side(pair: Sequence[BenchPool], states: Sequence[State], size: Size) -> list[Worked]:
    """Fills both queues as the states ask and lets the messages through both pools at once."""
    for pool, state in zip(pair, states, strict=True):
        on_metrics, on_traces = state.metrics, state.traced is not None
        await pool.in_each_process(lambda _, m=on_metrics, t=on_traces: switch(metrics=m, traces=t))
    for _ in range(TRIES):
        for pool, state in zip(pair, states, strict=True):
            await _fill(pool, state, size.messages)
        if worked := await _work(pair, size):
            return worked
    raise RuntimeError(_NOTHING)


async def _fill(pool: BenchPool, state: State, count: int) -> None:
    """The publisher's own spans go nowhere: publishing is not measured."""
    tracing = None
    if state.traced is not None:
        provider = TracerProvider(sampler=TraceIdRatioBased(state.traced))
        tracing = Tracing(queue=pool.loaded.settings.queue, provider=provider)
    await pool.publish(jobs(count), tracing=tracing)


async def _work(pools: Sequence[BenchPool], size: Size) -> list[Worked]:
    """Lets the messages through each pool; what was seen while all were at work. Nothing: too little was."""
    waiting = await _done(pools)
    meters = [CpuMeter({"all": (await pool.pids()).all}) for pool in pools]
    await asyncio.gather(*(pool.resume() for pool in pools))
    drains = [asyncio.create_task(pool.acked(had + size.messages)) for pool, had in zip(pools, waiting, strict=True)]
    before = await _come(pools, waiting, size.messages * size.under_way, all)
    began, spent_before = time.perf_counter(), [meter.seconds()["all"] for meter in meters]
    now = await _come(pools, waiting, size.messages * size.nearly_through, any)
    took_s, spent = time.perf_counter() - began, [meter.seconds()["all"] for meter in meters]
    await asyncio.gather(*drains)
    await asyncio.gather(*(pool.pause() for pool in pools))
    if any(new - old <= size.least * size.messages for old, new in zip(before, now, strict=True)):
        return []
    looks = zip(before, now, spent_before, spent, strict=True)
    return [((new - old) / took_s, (cpu_s - had_s) / (new - old) * 1e6) for old, new, had_s, cpu_s in looks]


async def _come(
    pools: Sequence[BenchPool], waiting: Sequence[int], far: float, which: Callable[[Iterable[bool]], bool]
) -> list[int]:
    """Waits until all (or any) have done so many messages; how many each has done then."""
    async with asyncio.timeout(COME_WITHIN_S):
        while True:
            done = await _done(pools)
            if which(one >= had + far for one, had in zip(done, waiting, strict=True)):
                return done
            await asyncio.sleep(0.02)


async def _done(pools: Sequence[BenchPool]) -> list[int]:
    return [seen.done for seen in await asyncio.gather(*(pool.status() for pool in pools))]


def table(result: dict[str, Any]) -> str:  # Any: JSON values
    """One row for each state."""
    rows = [
        "| | messages/s, beside another pool | CPU µs/message | added, mean | standard error | least to most |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, rate in result["msg_s"].items():
        lost = "| |"
        if name in result:
            low, high = result["spread"][name]
            lost = f"{result[name]:.1%} | {result['standard_error'][name]:.1%} | {low:.1%} to {high:.1%}"
        title = name.replace("_", " ") + (", against tracing full" if name in BROKEN else "")
        rows.append(f"| {title} | {rate:,} | {result['cpu_us'][name]} | {lost} |")
    return "\n".join(rows)
