"""`rabbitray pause`: stop consuming."""

from __future__ import annotations

import click

from rabbitray.cluster.cli.options import REACH, with_settings
from rabbitray.cluster.cli.terminal import tell, tell_json
from rabbitray.cluster.operate.running_pool import running
from rabbitray.cluster.settings import Loaded


@click.command("pause")
@click.option("--reason", default="paused by an operator", show_default=True, help="Why; `status` shows it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@with_settings(*REACH)
def command(loaded: Loaded, reason: str, as_json: bool) -> None:
    """Stop consuming; what is at work finishes, the rest goes back to the queue.

    A pause survives a restart of the pool; `rabbitray resume` ends it.
    """
    with running(loaded.settings) as pool:
        pool.ask("router", "pause", reason)
    done = {"pool": loaded.settings.pool, "paused": reason}
    if as_json:
        tell_json(done)
    else:
        tell(f"pool {loaded.settings.pool!r} is paused: {reason}")
