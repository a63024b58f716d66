"""Memory of each process after 1k ... 100k messages (report 5.3), and what it grows by.

`slope_mb_per_1k`: least squares over the private memory (USS) of the points after the warm-up, the first tenth of
the messages. `peak_mb`: the largest resident memory (RSS, with what processes share) of the whole run. Of the two
workers the larger counts. The points are taken when everything is acked. There is no baseline in the run: growth is
compared with zero.
"""

from __future__ import annotations

import asyncio
import statistics
from pathlib import Path
from typing import Any

from bench.node import private_node
from bench.pool import BenchPool, Pids, fixed, folder, jobs, local_ray, pool_of, settings
from bench.usage import peak_mb, private_mb
from cluster.session import Session

WORKERS = 2
FULL = (1_000, 5_000, *range(10_000, 100_001, 5_000))
QUICK = (100, 500, 1_000, 1_500, 2_000)
SHOWN = (1_000, 5_000, 10_000, 50_000, 100_000)


def run(*, quick: bool) -> dict[str, Any]:  # Any: JSON values
    """Slopes, peaks and the private memory after each number of messages, in MB."""
    marks = QUICK if quick else FULL
    with private_node() as node, folder() as place, local_ray(WORKERS) as session:
        points, peaks = asyncio.run(_measured(node.url, place, session, marks))
    warm = [count for count in marks if count >= marks[-1] // 10]
    slopes = {name: _slope(warm, [points[count][name] for count in warm]) for name in peaks}
    shown = [count for count in marks if count in SHOWN] or list(marks)
    return {
        "slope_mb_per_1k": slopes,
        "peak_mb": {name: round(value, 1) for name, value in peaks.items()},
        "after_mb": {str(count): {name: round(v, 1) for name, v in points[count].items()} for count in shown},
    }


async def _measured(
    url: str, place: Path, session: Session, marks: tuple[int, ...]
) -> tuple[dict[int, dict[str, float]], dict[str, float]]:
    points: dict[int, dict[str, float]] = {}
    async with pool_of(settings(url, place, fixed(WORKERS)), session) as pool:
        pids, sent = await pool.pids(), 0
        for count in marks:
            await _work(pool, sent, count)
            points[count], sent = _of(pids, private_mb), count
        return points, _of(pids, peak_mb)


async def _work(pool: BenchPool, sent: int, count: int) -> None:
    await pool.publish(jobs(count - sent))
    await pool.acked(count)


def _of(pids: Pids, measure: Any) -> dict[str, float]:  # Any: a function of a process id
    groups = {**pids.groups(), "worker": pids.workers}
    del groups["workers"]
    return {name: max(measure(pid) for pid in members) for name, members in groups.items()}


def _slope(counts: list[int], values: list[float]) -> float:
    """MB for each 1,000 messages."""
    return round(statistics.linear_regression(counts, values).slope * 1_000, 4)


def table(result: dict[str, Any]) -> str:  # Any: JSON values
    """Beside the report's figures (5.3)."""
    names = list(result["peak_mb"])
    rows = [f"| MB | report | {' | '.join(names)} |", f"|---|---:|{'---:|' * len(names)}"]
    report = {"1000": "65", "5000": "72", "10000": "74"}
    for count, values in result["after_mb"].items():
        cells = " | ".join(str(values[name]) for name in names)
        rows.append(f"| private, after {int(count):,} messages | {report.get(count, '')} | {cells} |")
    slopes = " | ".join(f"{result['slope_mb_per_1k'][name]:.3f}" for name in names)
    peaks = " | ".join(str(result["peak_mb"][name]) for name in names)
    return "\n".join([*rows, f"| growth per 1,000 messages | 3.2 | {slopes} |", f"| peak, resident | 120 | {peaks} |"])
