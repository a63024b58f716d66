"""`rabbitray broker`: a private RabbitMQ node that stays until it is stopped."""

from __future__ import annotations

from pathlib import Path

import click

from rabbitray.cluster.broker import start_detached, stop_detached
from rabbitray.cluster.cli.terminal import tell, tell_json

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
    tell("starting a private RabbitMQ node (about 6 s) ...", err=True)
    state = start_detached(directory)
    if as_json:
        tell_json(state)
        return
    tell(f"export RABBITMQ_URL={state['url']}")
    tell(f"management: {state['management_url']} (guest, guest); stop it with `rabbitray broker stop`", err=True)


@command.command("stop")
@_directory
@_json
def stop(directory: Path, as_json: bool) -> None:
    """Stop the node; its data stays."""
    stopped = stop_detached(directory)
    if as_json:
        tell_json({"stopped": stopped})
    else:
        tell("stopped" if stopped else f"no node runs in {directory}", err=True)
