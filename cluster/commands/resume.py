"""`rabbitray resume`: end a pause."""

from __future__ import annotations

import click

from rabbitray.cluster.cli.options import REACH, with_settings
from rabbitray.cluster.cli.terminal import tell, tell_json
from rabbitray.cluster.operate.running_pool import running
from rabbitray.cluster.settings import Loaded


@click.command("resume")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@with_settings(*REACH)
def command(loaded: Loaded, as_json: bool) -> None:
    """End a pause: the pool consumes again. Other holds (store, outage) end by themselves."""
    with running(loaded.settings) as pool:
        pool.ask("router", "resume")
        holds = pool.report().holds
    if as_json:
        tell_json({"pool": loaded.settings.pool, "holds": dict(holds)})
        return
    still = "; ".join(f"{name}: {reason}" for name, reason in holds.items())
    tell(f"pool {loaded.settings.pool!r} consumes again" if not holds else f"the pause is over; still held: {still}")
