"""Memory of each process after 1k ... 100k messages (report 5.3) and on to 3 M, and what it grows by.

`slope_mb_per_1k`: least squares over the private memory (USS) of the points after the warm-up, the first quarter of
the messages: in it the caches that have a limit fill for the first time (the newest 156,250 keys, DuckDB's rows up to
a checkpoint). `slope_within_100k_mb_per_1k` is the same from 10k to 100k messages, in the midst of that. `peak_mb`: the
largest resident memory (RSS, with what processes share) of the whole run. Of the two workers the larger counts. The
points are taken when everything is acked. There is no baseline in the run: growth is compared with zero.
"""

from __future__ import annotations

import asyncio
import statistics
from pathlib import Path
from typing import Any

from bench.node import private_node
from bench.pool import BenchPool, Pids, fixed, folder, jobs, local_ray, pool_of, settings
from bench.usage import peak_mb, private_mb
from rabbitray.cluster.driver.session import Session

WORKERS = 2
REPORTED = (10_000, 100_000)  # the report's own range
FULL = (1_000, 5_000, *range(10_000, 100_001, 5_000), *range(150_000, 3_000_001, 50_000))
QUICK = (100, 500, 1_000, 1_500, 2_000)
SHOWN = (1_000, 5_000, 10_000, 50_000, 100_000, 1_000_000, 2_000_000, 3_000_000)


def run(*, quick: bool) -> dict[str, Any]:  # Any: JSON values
    """Slopes, peaks and the private memory after each number of messages, in MB."""
    marks = QUICK if quick else FULL
    with private_node() as node, folder() as place, local_ray(WORKERS) as session:
        points, peaks = asyncio.run(_measured(node.url, place, session, marks))
    warm = [count for count in marks if count >= marks[-1] // 4]
    reported = [count for count in marks if REPORTED[0] <= count <= REPORTED[1]] or warm
    shown = [count for count in marks if count in SHOWN] or list(marks)
    return {
        "slope_mb_per_1k": {name: _slope(points, warm, name) for name in peaks},
        "slope_within_100k_mb_per_1k": {name: _slope(points, reported, name) for name in peaks},
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


def _slope(points: dict[int, dict[str, float]], counts: list[int], name: str) -> float:
    """MB for each 1,000 messages over the points after `counts` messages."""
    values = [points[count][name] for count in counts]
    return round(statistics.linear_regression(counts, values).slope * 1_000, 4)


def table(result: dict[str, Any]) -> str:  # Any: JSON values
    """Beside the report's figures (5.3)."""
    names = list(result["peak_mb"])
    rows = [f"| MB | report | {' | '.join(names)} |", f"|---|---:|{'---:|' * len(names)}"]
    report = {"1000": "65", "5000": "72", "10000": "74"}
    for count, values in result["after_mb"].items():
        cells = " | ".join(str(values[name]) for name in names)
        rows.append(f"| private, after {int(count):,} messages | {report.get(count, '')} | {cells} |")
    early, late = (
        " | ".join(f"{result[slope][name]:.3f}" for name in names)
        for slope in ("slope_within_100k_mb_per_1k", "slope_mb_per_1k")
    )
    peaks = " | ".join(str(result["peak_mb"][name]) for name in names)
    rows += [f"| growth per 1,000 messages, 10,000 to 100,000 | 3.2 | {early} |"]
    rows += [f"| growth per 1,000 messages, after the warm-up | | {late} |", f"| peak, resident | 120 | {peaks} |"]
    return "\n".join(rows)
