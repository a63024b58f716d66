"""The report's worker test (5.2): handlers that wait 300 ms, 10 workers; at the default settings (32 async slots).

The bound is whole rounds: N messages on S slots take at least ceil(N / S) x 300 ms. Timed from `resume` of a warm pool
with all messages waiting to the last ack. The steady figures come from N = 20 x slots, the report's own 1,000
messages stand beside them. `overhead_ms`: CPU of all our processes per message, the waiting itself included.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.node import private_node
from bench.pool import BenchPool, fixed, folder, jobs, local_ray, pool_of, settings
from bench.spread import rounded, spreads
from bench.stations import costs_us
from bench.usage import CpuMeter, load_average, peak_mb
from rabbitray.cluster.driver.session import Session

SERVICE_S = 0.3
SLOTS = 32  # QUEUE_CONCURRENCY by default
REPORT_MSG_S = 238


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    workers: int
    rounds: int
    messages: int
    report_messages: int


FULL = Size(workers=10, rounds=5, messages=20 * 10 * SLOTS, report_messages=1_000)
QUICK = Size(workers=2, rounds=1, messages=4 * 2 * SLOTS, report_messages=100)


def run(*, quick: bool) -> dict[str, Any]:  # Any: JSON values
    """Throughput beside its bound, cost per message, and the report's breakdown of one message."""
    size = QUICK if quick else FULL
    with private_node() as node, folder() as place, local_ray(size.workers) as session:
        return asyncio.run(_measured(node.url, place, session, size))


async def _measured(url: str, place: Path, session: Session, size: Size) -> dict[str, Any]:  # Any: JSON values
    loaded = settings(url, place, fixed(size.workers))
    async with pool_of(loaded, session, "bench.handlers:wait") as pool:
        await pool.pause()
        await _runs(pool, 1, size.workers * SLOTS)
        steady = await _runs(pool, size.rounds, size.messages)
        report = await _runs(pool, size.rounds, size.report_messages)
        pids = await pool.pids()
        peaks = [peak_mb(pid) for pid in pids.workers]
    waited = pool.rows("SELECT avg(epoch_ms(finished_at) - epoch_ms(started_at)) AS ms FROM results")[0]["ms"]
    slots = size.workers * SLOTS
    return {
        **_figures(steady, size.messages, slots),
        "report": _figures(report, size.report_messages, slots),
        "breakdown_ms": _breakdown(float(waited)),
        "peak_worker_mb": rounded(max(peaks), 1),
        "slots": slots,
        "load_average": load_average(),
    }


async def _runs(pool: BenchPool, rounds: int, count: int) -> list[tuple[float, float]]:
    """Seconds and CPU seconds of our processes for each run."""
    found = []
    for _ in range(rounds):
        await pool.publish(jobs(count, payload=SERVICE_S * 1_000))
        meter = CpuMeter({"all": (await pool.pids()).all})
        took_s = await pool.drain_paused(count)
        found.append((took_s, meter.seconds()["all"]))
    return found


def _figures(runs: list[tuple[float, float]], count: int, slots: int) -> dict[str, Any]:  # Any: JSON values
    bound_s = math.ceil(count / slots) * SERVICE_S
    took_s, cpu_s = median(took for took, _ in runs), median(cpu for _, cpu in runs)
    return {
        "messages": count,
        "took_s": rounded(took_s, 3),
        "msg_s": rounded(count / took_s, 1),
        "bound_msg_s": rounded(count / bound_s, 1),
        "ratio_to_bound": rounded(bound_s / took_s, 3),
        "overhead_ms": rounded(cpu_s / count * 1_000, 3),
        "late_s": rounded(took_s - bound_s, 3),
        "slots_busy": rounded(count * SERVICE_S / (took_s * slots), 3),
        "cpu_percent": rounded(100 * cpu_s / took_s, 1),
        "spread": spreads({"msg_s": [count / took for took, _ in runs]}, 1),
    }


def _breakdown(process_ms: float) -> dict[str, float]:
    """The report's stations; measured alone, but for `process`, which the result rows tell."""
    alone = {name: round(spent / 1_000, 5) for name, spent in costs_us(2_000).items()}
    metrics, ack = alone.pop("metrics"), alone.pop("ack")
    return alone | {"process": round(process_ms, 2), "ack": ack, "metrics": metrics}


def table(result: dict[str, Any]) -> str:  # Any: JSON values
    """Beside the report's figures (5.2)."""
    small, parts = result["report"], result["breakdown_ms"]
    ends = [" to ".join(map(str, one["spread"]["msg_s"])) for one in (small, result)]
    reported = {"dequeue": 2, "deserialize": 1, "validate": 0.5, "process": 300, "ack": 0.5, "metrics": 0.2}
    rows = [
        f"| {result['slots']} slots, {SERVICE_S * 1_000:g} ms each | report | {small['messages']:,} messages "
        f"| {result['messages']:,} messages |",
        "|---|---:|---:|---:|",
        f"| total | | {small['took_s']} s | {result['took_s']} s |",
        f"| messages/s | {REPORT_MSG_S} | {small['msg_s']} | {result['msg_s']} |",
        f"| least to most | | {ends[0]} | {ends[1]} |",
        f"| bound, messages/s | | {small['bound_msg_s']} | {result['bound_msg_s']} |",
        f"| of the bound | | {small['ratio_to_bound']} | {result['ratio_to_bound']} |",
        f"| slots busy | 75 % | {small['slots_busy']:.0%} | {result['slots_busy']:.0%} |",
        f"| CPU, % of a core | | {small['cpu_percent']} | {result['cpu_percent']} |",
        f"| CPU per message | 4.2 ms | {small['overhead_ms']} ms | {result['overhead_ms']} ms |",
        f"| peak of a worker | 120 MB | | {result['peak_worker_mb']} MB |",
        "",
        "| one message | report, ms | ms |",
        "|---|---:|---:|",
    ]
    return "\n".join([*rows, *(f"| {name} | {reported[name]} | {spent} |" for name, spent in parts.items())])
