"""`rabbitray dlq ls`: the dead letters by error."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import cast

import click

from rabbitray.actors.errors import BrokerUnreachableError, RabbitrayError
from rabbitray.actors.rabbitmq.inspect import contact
from rabbitray.actors.rabbitmq.look import hidden, look
from rabbitray.cluster.cli.tables import drawn_rows
from rabbitray.cluster.cli.terminal import console, tell, tell_json
from rabbitray.cluster.commands.dlq.options import JSON, with_results
from rabbitray.cluster.driver import compose
from rabbitray.cluster.results.dead_letters import groups
from rabbitray.cluster.results.reader import PoolReader, Reader, results
from rabbitray.cluster.settings import Loaded

LOOK_WITHIN_S = 2.0
WIDE = 200


@click.command("ls")
@JSON
@with_results
def command(loaded: Loaded, as_json: bool) -> None:
    """List dead letters by error class and the line that raised the error; where that is not known, by its text
    without ids and numbers.

    The table keeps each dead letter for good, also after a replay; "in the queue now" counts what waits there.
    """
    with results(loaded) as reader:
        found = groups(reader)
        waiting = _waiting(loaded, reader)
        tell(f"from {reader.where}", err=True)
    if as_json:
        tell_json({"waiting": waiting, "groups": found})
        return
    if found:
        console(WIDE).print(drawn_rows([_short(group) for group in found]))
    total = sum(int(str(group["count"])) for group in found)
    queue = compose.topology(loaded.settings).dead_queue
    tell(f"{total:,} dead letters recorded; {'?' if waiting is None else f'{waiting:,}'} in the queue {queue} now")


def _short(group: Mapping[str, object]) -> dict[str, object]:
    return {**group, "example": str(group["example"])[:8]}


def _waiting(loaded: Loaded, reader: Reader) -> int | None:
    """Messages in the dead-letter queue: where this machine knows of no broker, as the running pool sees it."""
    if loaded.is_set("rabbitmq_url") or not isinstance(reader, PoolReader):
        return asyncio.run(_at_the_broker(loaded))
    try:
        [depth] = reader.pool.ask("autoscaler", "depths", [compose.topology(loaded.settings).dead_queue])
    except RabbitrayError:
        return None
    return cast("int | None", depth)


async def _at_the_broker(loaded: Loaded) -> int | None:
    """Messages in the dead-letter queue; None where the broker or the queue is not there, or may not be looked at."""
    settings = loaded.settings
    within_s = min(LOOK_WITHIN_S, settings.connect_timeout_s)
    try:
        async with contact(settings.rabbitmq_url, within_s=within_s) as connection:
            seen = await look(connection, dead := compose.topology(settings).dead_queue)
            if seen.hidden:
                tell(f"note: {hidden('queue', dead)}", err=True)
            return seen.ready
    except BrokerUnreachableError as error:
        tell(f"note: {error}", err=True)
        return None
