"""`rabbitray dlq`: the dead letters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import click

from rabbitray.actors.errors import BrokerUnreachableError, ConfigurationError
from rabbitray.actors.printable import json_text
from rabbitray.actors.publisher import Publisher
from rabbitray.actors.rabbitmq.inspect import contact
from rabbitray.actors.rabbitmq.look import hidden, look
from rabbitray.cluster.cli.durations import Duration
from rabbitray.cluster.cli.options import BROKER, REACH, with_settings
from rabbitray.cluster.cli.progress_bar import Bar
from rabbitray.cluster.cli.tables import drawn_rows, shown
from rabbitray.cluster.cli.terminal import column, console, tell, tell_json
from rabbitray.cluster.driver import compose
from rabbitray.cluster.results.dead_letter_replay import Replay, Replayed, ReplayPlan
from rabbitray.cluster.results.dead_letter_replay import purge as empty
from rabbitray.cluster.results.dead_letter_selection import Selection
from rabbitray.cluster.results.dead_letters import find, groups, keys_of, readable
from rabbitray.cluster.results.reader import results
from rabbitray.cluster.settings import Loaded

LOOK_WITHIN_S = 2.0
WIDE = 200

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_with_results = with_settings("results", *dict.fromkeys((*BROKER, *REACH)))


@click.group("dlq")
def command() -> None:
    """The dead letters: messages that were given up, with what went wrong.

    `ls` and `show` read the table dead_letters of the results; only `replay` and `purge` touch the queue.
    """


@command.command("ls")
@_json
@_with_results
def ls(loaded: Loaded, as_json: bool) -> None:
    """List dead letters by error class and the line that raised the error; where that is not known, by its text
    without ids and numbers.

    The table keeps each dead letter for good, also after a replay; "in the queue now" counts what waits there.
    """
    with results(loaded) as reader:
        found = groups(reader)
    waiting = asyncio.run(_waiting(loaded))
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


async def _waiting(loaded: Loaded) -> int | None:
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


@command.command("show")
@click.argument("name", metavar="ID")
@click.option("--raw", is_flag=True, help="Also the body as it came, in hexadecimal.")
@_json
@_with_results
def show(loaded: Loaded, name: str, raw: bool, as_json: bool) -> None:
    """Show one dead letter with its traceback, body and headers.

    ID: from `ls` (its beginning will do), a key or a message id. Of a compressed body its text is shown.
    """
    with results(loaded) as reader:
        row, settings = find(reader, name), loaded.settings
        found = readable(row, compose.type_codes(settings), settings.message_format, raw=raw)
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


@command.command("replay")
@click.argument("names", metavar="[ID]...", nargs=-1)
@click.option("--class", "error_class", metavar="CLASS", help="Those of this error class, e.g. ValueError.")
@click.option("--older-than", type=Duration(), metavar="TIME", help="First seen longer ago than e.g. 2h.")
@click.option("--newer-than", type=Duration(), metavar="TIME", help="First seen within the last e.g. 30m.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--rate", type=click.FloatRange(0), default=0.0, metavar="N", help="At most N messages per second.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most N messages.")
@click.option(
    "--max-replays", type=click.IntRange(1), default=10, show_default=True, metavar="N",
    help="Leave messages that were replayed N times already.",
)  # fmt: skip
@click.option("--dry-run", "dry", is_flag=True, help="Only say what would be replayed.")
@_json
@_with_results
def replay(
    loaded: Loaded,
    names: tuple[str, ...],
    error_class: str | None,
    older_than: float | None,
    newer_than: float | None,
    everything: bool,
    rate: float,
    limit: int | None,
    max_replays: int,
    dry: bool,
    as_json: bool,
) -> int:
    """Put dead letters back into the main queue, from their first attempt on.

    \b
    rabbitray dlq replay --class ConnectionError --newer-than 2h --rate 50
    rabbitray dlq replay 3f2a90c1d4e5f60718293a4b5c6d7e8f

    A copy is confirmed in the main queue before the dead letter is removed, and keeps its key: a job that has its
    result by then does not run again (setting skip_done). Headers that could not be read stay behind. What is not
    selected stays. Exit code 1 when a copy was not confirmed, or when an ID is not in the dead-letter queue.
    """
    if not (names or error_class or older_than is not None or newer_than is not None or everything):
        raise click.UsageError("say which: IDs, --class, --older-than, --newer-than, or --all")
    now = time.time()
    selection = Selection(
        ids=keys_of(loaded, names),
        error_class=error_class,
        seen_before_ms=None if older_than is None else int((now - older_than) * 1000),
        seen_after_ms=None if newer_than is None else int((now - newer_than) * 1000),
        max_replays=max_replays,
    )
    plan = ReplayPlan(selection=selection, rate=rate, limit=limit, dry=dry)
    found = asyncio.run(_replay(loaded, plan, quiet=as_json))
    _tell(loaded, found, dry=dry, as_json=as_json)
    taken = sum(found.classes.values())
    return 1 if found.failed or found.errors or (names and not taken) else 0


async def _replay(loaded: Loaded, plan: ReplayPlan, *, quiet: bool) -> Replayed:
    settings, topology = loaded.settings, compose.topology(loaded.settings)
    async with contact(settings.rabbitmq_url, within_s=settings.connect_timeout_s) as connection:
        if (await look(connection, settings.queue)).there is False:
            raise ConfigurationError(f"queue {settings.queue!r} does not exist: start the pool first")
        total = (await look(connection, topology.dead_queue)).ready
        with Bar("replaying", total, quiet=quiet) as bar:
            async with Publisher(compose.publisher(settings, name="replay")) as publisher:
                replay = Replay(
                    connection,
                    publisher,
                    queue=settings.queue,
                    dead_queue=topology.dead_queue,
                    exchange=topology.exchange,
                    on_step=lambda looked_at: bar.advance(1, looked_at),
                )
                return await replay.run(plan)


def _tell(loaded: Loaded, found: Replayed, *, dry: bool, as_json: bool) -> None:
    if as_json:
        report: dict[str, Any] = {  # Any: JSON values
            "queue": loaded.settings.queue,
            "dry_run": dry,
            "looked_at": found.looked_at,
            "selected": sum(found.classes.values()) + found.failed,
            "replayed": found.replayed,
            "failed": found.failed,
            "without_unreadable_headers": found.cut,
            "returned": found.returned,
            "strays": found.strays,
            "classes": dict(found.classes),
            "errors": found.errors,
        }
        tell_json(report)
        return
    for error in found.errors:
        tell(f"failed: {error}", err=True)
    if found.strays:
        said = "would be removed (dry run)" if dry else "removed"
        tell(f"{found.strays:,} copies were meant for another queue: {said}; is the exchange a direct one?", err=True)
    for name, count in found.classes.most_common():
        tell(f"  {count:>8,}  {name or '(no error class)'}")
    if dry:
        tell(f"{sum(found.classes.values()):,} of {found.looked_at:,} looked at would be replayed (dry run)")
    else:
        tell(f"{found.replayed:,} of {found.looked_at:,} looked at replayed, {found.failed:,} failed")
        if found.cut:
            tell(f"{found.cut:,} of them without the headers that could not be read")


@command.command("purge")
@click.option("--yes", is_flag=True, help="Do it.")
@_json
@_with_results
def purge(loaded: Loaded, yes: bool, as_json: bool) -> None:
    """Delete everything in the dead-letter queue, for good. The rows of the table dead_letters stay."""
    purged = asyncio.run(_purge(loaded, yes=yes))
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
        return await empty(connection, dead)
