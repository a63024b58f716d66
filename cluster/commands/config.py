"""`rabbitray config`: the effective settings and their origin."""

from __future__ import annotations

import click
from rich.table import Table
from rich.text import Text

from rabbitray.actors.printable import printable
from rabbitray.cluster.cli.options import ALL, with_settings
from rabbitray.cluster.cli.terminal import console, tell_json
from rabbitray.cluster.settings import Loaded, SettingRow, describe


@click.command("config")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@with_settings(*ALL)
def command(loaded: Loaded, as_json: bool) -> None:
    """Each setting, its value and where it came from: flag, environment, rabbitray.toml or default."""
    rows = describe(loaded)
    if as_json:
        tell_json(rows)
    else:
        console().print(_table(rows))


def _table(rows: list[SettingRow]) -> Table:
    table = Table("setting", "value", "from", "environment", box=None, header_style="bold", pad_edge=False)
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            table.add_row(Text(group, style="bold"))
        cells = (f"  {row.name}", row.value, row.source, row.env)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table
