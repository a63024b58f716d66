"""`rabbitray status`: what a running pool does now."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import click

from actors.errors import RabbitrayError
from autoscale.probe import DepthProbe
from cluster.options import REACH, with_settings
from cluster.reach import RunningPool, running
from cluster.settings import Loaded
from cluster.state import Look, lines, picture

QUICK_S = 5.0


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--over", "over_s", type=click.FloatRange(0.1, 60.0), default=1.0, show_default=True, metavar="SECONDS",
    help="Over how long rates are measured.",
)  # fmt: skip
@with_settings(*REACH)
def command(loaded: Loaded, as_json: bool, over_s: float) -> int:
    """What a running pool does now: sizes, messages, rates, holds, the last decisions, each worker.

    Exit code 0: healthy, or paused by somebody; 1: degraded, with the reasons; 3: no pool of that name runs.
    """
    with running(loaded.settings) as pool:
        seen = picture(look(pool, loaded, over_s))
    click.echo(json.dumps(seen) if as_json else "\n".join(lines(seen)))
    return 1 if seen["state"] == "degraded" else 0


def look(pool: RunningPool, loaded: Loaded, over_s: float) -> Look:
    """Asks the actors twice, `over_s` apart; whoever does not answer is a problem that the picture shows."""
    earlier, began = pool.ask("router", "report"), time.monotonic()
    ready = asyncio.run(_ready(loaded))
    time.sleep(max(0.0, began + over_s - time.monotonic()))
    report = pool.ask("router", "report")
    apart_s = time.monotonic() - began
    return Look(
        pool=pool.name,
        queue=loaded.settings.queue,
        report=report,
        earlier=earlier,
        apart_s=apart_s,
        status=_if_it_answers(pool, "autoscaler", "status") or pool.ask("router", "status"),
        decisions=_if_it_answers(pool, "autoscaler", "decisions"),
        store=_if_it_answers(pool, "store", "stats"),
        control=_if_it_answers(pool, "store", "control"),
        ready=ready,
    )


def _if_it_answers(pool: RunningPool, actor: str, method: str) -> Any:  # Any: as `ask`
    try:
        return pool.ask(actor, method, within_s=QUICK_S)
    except RabbitrayError:  # the picture says which one is silent
        return None


async def _ready(loaded: Loaded) -> int | None:
    probe = DepthProbe(loaded.settings.rabbitmq_url.reveal(), loaded.settings.queue, timeout_s=2.0)
    try:
        return await probe.ready()
    finally:
        await probe.close()
