"""`rabbitray dlq purge`: empties the dead-letter queue."""

from __future__ import annotations

import asyncio

import click

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.rabbitmq.inspect import contact
from rabbitray.actors.rabbitmq.look import look
from rabbitray.cluster.cli.terminal import tell, tell_json
from rabbitray.cluster.commands.dlq.options import JSON, at_the_broker, with_results
from rabbitray.cluster.driver import compose
from rabbitray.cluster.results.dead_letter_replay import purge
from rabbitray.cluster.settings import Loaded


@click.command("purge")
@click.option("--yes", is_flag=True, help="Do it.")
@JSON
@with_results
def command(loaded: Loaded, yes: bool, as_json: bool) -> None:
    """Delete everything in the dead-letter queue, for good. The rows of the table dead_letters stay.

    Where RABBITMQ_URL is not set, a running pool is asked for its broker.
    """
    purged = asyncio.run(_purge(at_the_broker(loaded), yes=yes))
    queue = compose.topology(loaded.settings).dead_queue
    if as_json:
        tell_json({"queue": queue, "purged": purged})
    else:
        tell(f"{purged:,} messages deleted from {queue}")


async def _purge(loaded: Loaded, *, yes: bool) -> int:
    settings, dead = loaded.settings, compose.topology(loaded.settings).dead_queue
    async with contact(settings.rabbitmq_url, within_s=settings.connect_timeout_s) as connection:
        if not yes:
            seen = await look(connection, dead)
            waiting = "all" if seen.hidden else f"{seen.ready or 0:,}"
            raise ConfigurationError(f"this would delete {waiting} messages of {dead} for good: add --yes")
        return await purge(connection, dead)
