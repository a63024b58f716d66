"""`rabbitray broker`: a private RabbitMQ node that stays until it is stopped."""

from __future__ import annotations

import json
from pathlib import Path

import click

from rabbitray.cluster.broker import start_detached, stop_detached

DIRECTORY = Path(".rabbitray/broker")

_directory = click.option(
    "--directory", type=click.Path(path_type=Path), default=DIRECTORY, show_default=True, help="Where the node lives."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group("broker")
def command() -> None:
    """A private RabbitMQ node: unprivileged, own ports, own data; for development, not for production."""


@command.command("start")
@_directory
@_json
def start(directory: Path, as_json: bool) -> None:
    """Start the node; its address is printed for RABBITMQ_URL."""
    click.echo("starting a private RabbitMQ node (about 6 s) ...", err=True)
    state = start_detached(directory)
    if as_json:
        click.echo(json.dumps(state))
        return
    click.echo(f"export RABBITMQ_URL={state['url']}")
    click.echo(f"management: {state['management_url']} (guest, guest); stop it with `rabbitray broker stop`", err=True)


@command.command("stop")
@_directory
@_json
def stop(directory: Path, as_json: bool) -> None:
    """Stop the node; its data stays."""
    stopped = stop_detached(directory)
    if as_json:
        click.echo(json.dumps({"stopped": stopped}))
    else:
        click.echo("stopped" if stopped else f"no node runs in {directory}", err=True)
