"""`rabbitray status`: what a running pool does now."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import click

from rabbitray.actors.errors import RabbitrayError
from rabbitray.actors.rabbitmq.depth import DepthProbe
from rabbitray.actors.router.report import RouterReport
from rabbitray.cluster.cli.options import REACH, with_settings
from rabbitray.cluster.cli.terminal import tell, tell_json
from rabbitray.cluster.driver import compose
from rabbitray.cluster.operate.picture import Look
from rabbitray.cluster.operate.running_pool import RunningPool, running
from rabbitray.cluster.operate.status import picture
from rabbitray.cluster.operate.status_lines import lines
from rabbitray.cluster.settings import Loaded

QUICK_S = 5.0


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--over", "over_s", type=click.FloatRange(0.1, 60.0), default=1.0, show_default=True, metavar="SECONDS",
    help="Over how long rates are measured.",
)  # fmt: skip
@click.option("--ready", "only_ready", is_flag=True, help="Only whether the pool can take work: for a readiness probe.")
@with_settings(*REACH)
def command(loaded: Loaded, as_json: bool, over_s: float, only_ready: bool) -> int:
    """What a running pool does now: sizes, messages, rates, holds, the last decisions, each worker.

    Exit code 0: healthy, or paused by somebody; 1: degraded, with the reasons; 3: no pool of that name runs.

    With --ready, exit code 0: connected to RabbitMQ, and at least one worker is ready or none is wanted; 1: not yet,
    with the reasons; 3 as above. It asks the router only, and takes some seconds to reach Ray: give a probe 15.

    \b
    rabbitray status --queue orders
    until rabbitray status --queue orders --ready; do sleep 2; done
    """
    with running(loaded.settings) as pool:
        if only_ready:
            return _print_ready(pool, as_json=as_json)
        seen = picture(look(pool, loaded, over_s))
    if as_json:
        tell_json(seen.as_json())
    else:
        tell(*lines(seen))
    return 1 if seen.state == "degraded" else 0


def _print_ready(pool: RunningPool, *, as_json: bool) -> int:
    reasons = unready(pool.report(within_s=QUICK_S))
    if as_json:
        tell_json({"ready": not reasons, "reasons": reasons})
    else:
        tell(f"not ready: {'; '.join(reasons)}" if reasons else "ready")
    return 1 if reasons else 0


def unready(report: RouterReport) -> list[str]:
    """Why the pool cannot take work yet, a line each: it is not connected, or none of the wanted workers is ready."""
    found, status = [] if report.connected else ["not connected to RabbitMQ"], report.pool
    if report.fenced:
        found.append("another router has taken over")
    if status.target and not status.workers:
        why = f" ({report.start_error})" if report.start_error else ""
        found.append(f"no worker of {status.target} wanted is ready, {status.starting} starting{why}")
    return found


def look(pool: RunningPool, loaded: Loaded, over_s: float) -> Look:
    """Asks the actors twice, `over_s` apart; whoever does not answer is a problem that the picture shows."""
    earlier, began = pool.report(), time.monotonic()
    ready, dropped = asyncio.run(_depths(loaded))
    time.sleep(max(0.0, began + over_s - time.monotonic()))
    report = pool.report()
    apart_s = time.monotonic() - began
    return Look(
        pool=pool.name,
        queue=loaded.settings.queue,
        report=report,
        earlier=earlier,
        apart_s=apart_s,
        status=_if_it_answers(pool, "autoscaler", "status") or report.pool,
        decisions=_if_it_answers(pool, "autoscaler", "decisions"),
        store=_if_it_answers(pool, "store", "stats"),
        control=_if_it_answers(pool, "store", "control"),
        ready=ready,
        dropped=dropped,
    )


def _if_it_answers(pool: RunningPool, actor: str, method: str) -> Any:  # Any: as `ask`
    try:
        return pool.ask(actor, method, within_s=QUICK_S)
    except RabbitrayError:  # the picture says which one is silent
        return None


async def _depths(loaded: Loaded) -> tuple[int | None, int | None]:
    """What waits in the main queue and in the dropped one."""
    main, dropped = await asyncio.gather(*(_ready(loaded, name) for name in _queues(loaded)))
    return main, dropped


def _queues(loaded: Loaded) -> tuple[str, str]:
    topology = compose.topology(loaded.settings)
    return topology.queue, topology.dropped_queue


async def _ready(loaded: Loaded, queue: str) -> int | None:
    probe = DepthProbe(loaded.settings.rabbitmq_url, queue, timeout_s=2.0)
    try:
        return await probe.ready()
    finally:
        await probe.close()
