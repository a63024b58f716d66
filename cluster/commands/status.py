"""`rabbitray status`: what a running pool does now."""

from __future__ import annotations

import click

from rabbitray.actors.router.report import RouterReport
from rabbitray.cluster.cli.options import ON_HOST, REACH, with_settings
from rabbitray.cluster.cli.terminal import tell, tell_json
from rabbitray.cluster.operate.looking import QUICK_S, look
from rabbitray.cluster.operate.running_pool import RunningPool, running
from rabbitray.cluster.operate.status import picture
from rabbitray.cluster.operate.status_lines import lines
from rabbitray.cluster.settings import Loaded


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--over", "over_s", type=click.FloatRange(0.1, 60.0), default=1.0, show_default=True, metavar="SECONDS",
    help="Over how long rates are measured.",
)  # fmt: skip
@click.option("--ready", "only_ready", is_flag=True, help="Only whether the pool can take work: for a readiness probe.")
@ON_HOST
@with_settings(*REACH)
def command(loaded: Loaded, as_json: bool, over_s: float, only_ready: bool, host: str | None) -> int:
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
        seen = picture(look(pool, loaded, over_s)).on_host(host)
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
