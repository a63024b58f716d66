"""`rabbitray dlq show`: one dead letter."""

from __future__ import annotations

import click

from rabbitray.actors.printable import json_text
from rabbitray.cluster.cli.tables import shown
from rabbitray.cluster.cli.terminal import column, tell, tell_json
from rabbitray.cluster.commands.dlq.options import JSON, with_results
from rabbitray.cluster.driver import compose
from rabbitray.cluster.results.dead_letters import find, readable
from rabbitray.cluster.results.reader import results
from rabbitray.cluster.settings import Loaded


@click.command("show")
@click.argument("name", metavar="ID")
@click.option("--raw", is_flag=True, help="Also the body as it came, in hexadecimal.")
@JSON
@with_results
def command(loaded: Loaded, name: str, raw: bool, as_json: bool) -> None:
    """Show one dead letter with its traceback, body and headers.

    ID: from `ls` (its beginning will do), a key or a message id. Of a compressed body its text is shown.
    """
    with results(loaded) as reader:
        row, settings = find(reader, name), loaded.settings
        found = readable(row, compose.type_codes(settings), settings.message_format, raw=raw)
        tell(f"from {reader.where}", err=True)
    if as_json:
        tell_json(found)
        return
    for field, value in found.items():
        tell(*column(f"{field:<14} {_told(value)}", 15))


def _told(value: object) -> str:
    """A field of a dead letter; a text may have several lines."""
    if isinstance(value, dict | list):
        return json_text(value, indent=2)
    return value if isinstance(value, str) else shown(value)
