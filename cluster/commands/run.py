"""`rabbitray run`: work a queue until it is stopped, or until the queue is empty."""

from __future__ import annotations

import asyncio

import click

from rabbitray.actors.errors import ConfigurationError, RabbitrayError
from rabbitray.actors.telemetry.metrics import Percentiles
from rabbitray.cluster.cli.options import ALL, with_settings
from rabbitray.cluster.cli.terminal import json_alone, tell, tell_json
from rabbitray.cluster.driver.driver import Driver, RunOptions, Summary
from rabbitray.cluster.operate.preflight import preflight
from rabbitray.cluster.settings import Loaded
from rabbitray.cluster.submit.handover import load_in_job


@click.command("run")
@click.option(
    "--until-empty", is_flag=True, help="End when queue and rungs are empty, all retries are back and nothing is held."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@click.option("--quiet", is_flag=True, help="No progress line.")
@click.option("--dashboard", is_flag=True, help="Start the Ray dashboard with a local Ray.")
@with_settings(*ALL, load=load_in_job)
def command(loaded: Loaded, until_empty: bool, as_json: bool, quiet: bool, dashboard: bool) -> int:
    """Work a queue with your handler.

    \b
    rabbitray run --handler mypackage.jobs:handle --queue orders --max-size 8
    rabbitray submit --handler mypackage.jobs:handle --queue orders   # the same as a job on a Ray cluster

    SIGTERM and Ctrl-C drain: no new messages, what is in flight finishes within --drain-deadline-s, the rest is
    given back to the queue. Exit code 0 when all finished in time, else 1.

    --until-empty waits for what is due later, and says until when. It ends with 1 when no worker is ready and three
    starts in a row have failed; without it a pool tries for ever, with pauses of up to 30 s. It ends with 1, too, where
    retries have not come back twice --rung-retry-interval-s (6 minutes) after their time, and says how many, and where
    a queue vanished with messages.
    """
    handler = loaded.settings.handler
    if handler is None:
        raise ConfigurationError("no handler: give --handler module:attribute, e.g. mypackage.jobs:handle")
    options = RunOptions(until_empty=until_empty, quiet=quiet or as_json, dashboard=dashboard)
    with json_alone(as_json):
        found = asyncio.run(_run(loaded, handler, options))
    if as_json:
        tell_json(found.as_json() | {"results": str(loaded.settings.results)})
    else:
        latency = found.latency_ms or Percentiles()
        tell(
            f"{found.done:,} done, {found.retried:,} retried, {found.dead:,} dead, "
            f"{found.duplicates:,} duplicates in {found.duration_s:.1f} s; publish to ack p50 "
            f"{latency.p50} ms, p99 {latency.p99} ms; results in {loaded.settings.results}"
        )
    if found.failure:
        raise RabbitrayError(found.failure)
    return 0 if found.clean else 1


async def _run(loaded: Loaded, handler: str, options: RunOptions) -> Summary:
    before = preflight(loaded, until_empty=options.until_empty)
    return await Driver(loaded, handler, options).run(before=before)
