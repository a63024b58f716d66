"""The report's load test: twice the expected peak (2 x 167 messages/s) for 60 s through a pool with the defaults.

An error is a message that was not confirmed to the publisher, or not acked by the pool in the end. There is no baseline
in the run: the figures are to be compared with the report's targets, which stand beside them.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.node import private_node
from bench.paced import publish_at
from bench.pool import folder, local_ray, pool_of, settings
from bench.usage import CpuMeter, load_average
from rabbitray.cluster.driver.session import Session

RATE = 2 * 167


def run(*, quick: bool) -> dict[str, Any]:  # Any: JSON values
    """Rate and error rate, latency from publish to ack, depth right at the end, CPU of our processes."""
    with private_node() as node, folder() as place, local_ray(2) as session:
        return asyncio.run(_measured(node.url, place, session, 3.0 if quick else 60.0))


async def _measured(url: str, place: Path, session: Session, seconds: float) -> dict[str, Any]:  # Any: JSON values
    async with pool_of(settings(url, place, {"max_size": 2}), session) as pool:
        meter = CpuMeter((await pool.pids()).groups())
        sent = await publish_at(pool.loaded, RATE, seconds)
        depth, held = await pool.depth(), (await pool.status()).held
        cpu = meter.percent()
        await pool.acked(sent.sent - sent.failed)
        report = await pool.report()
    lost = sent.sent - report.counts.acked
    return {
        "rate": round(sent.sent / sent.took_s, 1),
        "messages": sent.sent,
        "error_rate": round(lost / sent.sent, 5),
        "retried": report.counts.retried,
        "dead": report.counts.dead,
        **{f"{name}_ms": value for name, value in asdict(report.latency_ms).items()},
        "depth_at_end": depth,
        "held_at_end": held,
        "cpu_percent": {name: round(value, 1) for name, value in cpu.items()},
        "load_average": load_average(),
    }


def table(result: dict[str, Any]) -> str:  # Any: JSON values
    """Beside the report's targets (9.1)."""
    cpu = ", ".join(f"{name} {value} %" for name, value in result["cpu_percent"].items())
    return "\n".join(
        [
            "| | report's target | rabbitray |",
            "|---|---:|---:|",
            f"| messages/s for the whole time | 200 | {result['rate']} |",
            f"| errors | under 1 % | {result['error_rate']:.2%} |",
            f"| publish to ack, p50 / p95 / p99 | 500 ms / 1,000 ms / | "
            f"{result['p50_ms']} / {result['p95_ms']} / {result['p99_ms']} ms |",
            f"| depth at the end | under 1,000 | {result['depth_at_end']} |",
            f"| CPU | | {cpu} |",
        ]
    )
