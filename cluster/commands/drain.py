"""`rabbitray drain`: finish what is in flight, then end the pool."""

from __future__ import annotations

import time

import click

from rabbitray.actors.errors import RabbitrayError
from rabbitray.cluster.cli.options import REACH, with_settings
from rabbitray.cluster.cli.terminal import tell, tell_json
from rabbitray.cluster.operate.running_pool import NotRunningError, RunningPool, running
from rabbitray.cluster.settings import Loaded

LOOK_EVERY_S = 0.5
LOOK_WITHIN_S = 5.0
REST_S = 60.0
"""What ending workers, store and traces may take beyond the drain deadline."""


@click.command("drain")
@click.option("--no-wait", is_flag=True, help="Return at once; the pool ends by itself.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@with_settings(*REACH, "drain_deadline_s")
def command(loaded: Loaded, no_wait: bool, as_json: bool) -> int:
    """Finish what is in flight, give the rest back to the queue, end the pool and its driver.

    The driver (`rabbitray run`, or the Ray job) ends with exit code 0 when all finished within its own
    --drain-deadline-s. This command waits until the pool is gone; exit code 1 when it was not in time.
    """
    settings = loaded.settings
    with running(settings) as pool:
        pool.ask("router", "ask_drain")
        ended = None if no_wait else _ended(pool, settings.drain_deadline_s + REST_S)
    if as_json:
        tell_json({"pool": settings.pool, "asked": True, "ended": ended})
    else:
        words = {None: "drains", True: "has ended", False: "still drains: look at `rabbitray status`"}
        tell(f"pool {settings.pool!r} {words[ended]}")
    return 1 if ended is False else 0


def _ended(pool: RunningPool, within_s: float) -> bool:
    """Waits until the router is gone, for at most `within_s`."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            pool.report(within_s=LOOK_WITHIN_S)
        except NotRunningError:
            return True
        except RabbitrayError:  # busy with ending; or its Ray is gone, which the next look finds out
            pass
        time.sleep(LOOK_EVERY_S)
    return False
