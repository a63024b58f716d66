"""`rabbitray config`: the effective settings and their origin."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from rich.table import Table

from rabbitray.cluster.cli.options import ALL, with_settings
from rabbitray.cluster.cli.terminal import console
from rabbitray.cluster.settings import Loaded, SettingRow, describe


@click.command("config")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@with_settings(*ALL)
def command(loaded: Loaded, as_json: bool) -> None:
    """Each setting, its value and where it came from: flag, environment, rabbitray.toml or default."""
    rows = describe(loaded)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows]))
    else:
        console().print(_table(rows))


def _table(rows: list[SettingRow]) -> Table:
    table = Table("setting", "value", "from", "environment", box=None, header_style="bold", pad_edge=False)
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            table.add_row(f"[bold]{group}[/bold]")
        table.add_row(f"  {row.name}", row.value, row.source, row.env)
    return table
