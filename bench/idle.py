"""CPU of a pool on an empty queue, beside the same number of Ray actors that do nothing, in the same minute.

In percent of one core, summed over the processes of each side. `ours` is router, store, autoscaler and 2 workers.
`ratio_to_empty_actors` is not there where those took nothing that could be measured.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from bench.node import private_node
from bench.pool import empty_actors, fixed, folder, jobs, local_ray, pool_of, settings
from bench.usage import CpuMeter, load_average
from rabbitray.cluster.driver.session import Session

LOWER_IS_BETTER = ("ratio_to_empty_actors",)

WORKERS = 2


def run(*, quick: bool) -> dict[str, Any]:  # Any: JSON values
    """After a little work, so that everything has been touched once."""
    with private_node() as node, folder() as place, local_ray(WORKERS) as session:
        return asyncio.run(_measured(node.url, place, session, *((0.5, 3.0) if quick else (15.0, 60.0))))


async def _measured(url: str, place: Path, session: Session, calm_s: float, seconds: float) -> dict[str, Any]:
    async with pool_of(settings(url, place, fixed(WORKERS)), session) as pool:
        await pool.publish(jobs(500))
        await pool.acked(500)
        pids = await pool.pids()
        async with empty_actors(len(pids.all)) as empty:
            await asyncio.sleep(calm_s)
            sides = CpuMeter({"ours": pids.all, "empty_actors": empty})
            parts = CpuMeter(pids.groups())
            await asyncio.sleep(seconds)
            percent, by_process = sides.percent(), parts.percent()
    return {
        "cpu_percent": {name: round(value, 2) for name, value in percent.items()},
        **_ratio(percent),
        "by_process": {name: round(value, 2) for name, value in by_process.items()},
        "processes": len(pids.all),
        "seconds": seconds,
        "load_average": load_average(),
    }


def _ratio(percent: dict[str, float]) -> dict[str, float]:
    empty = percent["empty_actors"]
    return {"ratio_to_empty_actors": round(percent["ours"] / empty, 3)} if empty else {}


def table(result: dict[str, Any]) -> str:  # Any: JSON values
    """Both sides and each of our processes."""
    both, count = result["cpu_percent"], result["processes"]
    rows = [
        "| | % of one core |",
        "|---|---:|",
        f"| {count} processes of a pool, empty queue | {both['ours']} |",
        f"| {count} empty Ray actors | {both['empty_actors']} |",
        f"| difference | {both['ours'] - both['empty_actors']:.2f} |",
    ]
    return "\n".join([*rows, *(f"| of which {name} | {value} |" for name, value in result["by_process"].items())])
