"""The options that all commands about dead letters have."""

from __future__ import annotations

import click

from rabbitray.cluster.cli.options import BROKER, REACH, with_settings
from rabbitray.cluster.cli.terminal import tell
from rabbitray.cluster.operate.pools_broker import with_broker
from rabbitray.cluster.settings import Loaded

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
with_results = with_settings("results", *dict.fromkeys((*BROKER, *REACH)))


def at_the_broker(loaded: Loaded) -> Loaded:
    """The settings with the broker that this machine knows of, else with that of the running pool, which is told."""
    found, where = with_broker(loaded)
    if where:
        tell(f"note: {where}", err=True)
    return found
