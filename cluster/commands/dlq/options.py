"""The options that all commands about dead letters have."""

from __future__ import annotations

import click

from rabbitray.cluster.cli.options import BROKER, REACH, with_settings

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
with_results = with_settings("results", *dict.fromkeys((*BROKER, *REACH)))
