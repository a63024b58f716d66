"""`rabbitray demo`: the main job on reference data, with everything it needs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from rabbitray.actors.store.read_only import read_only_query
from rabbitray.actors.telemetry.metrics import Percentiles
from rabbitray.cluster.broker import PrivateBroker
from rabbitray.cluster.cli.options import ALL, with_settings
from rabbitray.cluster.cli.terminal import json_alone, tell, tell_json
from rabbitray.cluster.demo.waves import Waves
from rabbitray.cluster.driver.driver import Driver, RunOptions
from rabbitray.cluster.operate.preflight import preflight
from rabbitray.cluster.settings import Loaded, load_here

HANDLER = "rabbitray.cluster.demo.handler:greet"
DEMO_SETTINGS: dict[str, object] = {
    "queue": "rabbitray-demo",
    "max_size": 4,
    "queue_concurrency": 16,
    "drain_target_s": 3,
    "look_back_period_s": 4,
    "downscale_delay_s": 2,
    "queue_depth_busy_interval_ms": 250,
    "queue_depth_interval_ms": 500,
    "log_level": "WARNING",
}
"""Small and quick, so that a newcomer sees the pool grow and shrink within half a minute."""

FIVE_ROWS = (
    "SELECT user_id, message_type, result->>'text' AS greeting, "
    "date_diff('millisecond', published_at, finished_at) AS ms, worker FROM results ORDER BY seq LIMIT 5"
)


@click.command("demo")
@click.option("--messages", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True, help="Jobs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@with_settings(*ALL)
def command(loaded: Loaded, messages: int, as_json: bool) -> int:
    """The main job on reference data, nothing to prepare.

    Starts a private RabbitMQ node (only where RABBITMQ_URL is not set) and a local Ray, publishes birthday and
    anniversary jobs in two waves, works them with an example handler, and shows where the results are.
    """
    with _broker(loaded) as url:
        own = DEMO_SETTINGS | {"rabbitmq_url": url, "results": _fresh_results()}
        own |= {name: getattr(loaded.settings, name) for name in loaded.sources if loaded.is_set(name)}
        with json_alone(as_json):
            found = asyncio.run(_work(load_here(own | {"rabbitmq_url": url}), messages, quiet=as_json))
    if as_json:
        tell_json(found)
    else:
        _show(found)
    return 0 if found["rows"] == found["done"] == messages else 1


async def _work(loaded: Loaded, messages: int, *, quiet: bool) -> dict[str, Any]:  # Any: JSON values
    waves = Waves(messages)
    options = RunOptions(quiet=quiet, log_to_driver=False)
    driver = Driver(loaded, HANDLER, options)
    found = await driver.run(waves, before=preflight(loaded))
    results, latency = loaded.settings.results.absolute(), found.latency_ms or Percentiles()
    counted = read_only_query(results, "SELECT count(*) AS rows FROM results").to_pylist()[0]["rows"]
    decided = read_only_query(results, "SELECT count(*) AS n FROM decisions").to_pylist()[0]["n"]
    return {
        "published": waves.published,
        "done": found.done,
        "dead": found.dead,
        "rows": counted,
        "duration_s": found.duration_s,
        "throughput_msg_s": waves.throughput(),
        "latency_ms": {"p50": latency.p50, "p99": latency.p99},
        "pool": {"min": driver.least_workers or 0, "max": driver.peak_workers},
        "decisions": decided,
        "results": str(results),
    }


@contextlib.contextmanager
def _broker(loaded: Loaded) -> Iterator[str]:
    """The user's broker, or a private one for as long as the demo runs."""
    if loaded.is_set("rabbitmq_url"):
        yield loaded.settings.rabbitmq_url.reveal()
        return
    tell("starting a private RabbitMQ node (about 6 s) ...", err=True)
    with PrivateBroker() as node:
        tell("starting Ray and the pool ...", err=True)
        yield node.url


def _fresh_results() -> str:
    folder = Path("demo")
    folder.mkdir(exist_ok=True)
    return str(Path(tempfile.mkdtemp(prefix="run-", dir=folder)) / "results.duckdb")


def _show(found: dict[str, Any]) -> None:  # Any: JSON values
    latency, pool = found["latency_ms"], found["pool"]
    lines = (
        "",
        f"published {found['published']:,}   done {found['done']:,}   dead {found['dead']:,}   rows {found['rows']:,}",
        f"{found['throughput_msg_s']:,.0f} msg/s while a wave was worked",
        f"publish to ack: p50 {latency['p50']:,.0f} ms, p99 {latency['p99']:,.0f} ms",
        f"pool: {pool['min']} to {pool['max']} workers, {found['decisions']} decisions",
        f"{found['duration_s']:.0f} s in all",
        f"results: {found['results']}",
        "",
    )
    tell(*lines)
    for row in read_only_query(Path(found["results"]), FIVE_ROWS).to_pylist():
        tell(f"  {row['user_id']:<8} {row['message_type']:<12} {row['ms']:>6} ms  {row['greeting']}")
    question = "SELECT message_type, count(*) FROM results GROUP BY 1"
    tell("", f'next: {_program()} query --results {found["results"]} "{question}"')


def _program() -> str:
    """How rabbitray is called from here: by its name, or where it lies when the shell does not find it."""
    beside = Path(sys.executable).with_name("rabbitray")
    return os.path.relpath(beside) if shutil.which("rabbitray") is None and beside.exists() else "rabbitray"
