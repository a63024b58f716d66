"""`rabbitray dlq replay`: dead letters back into the main queue."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import click

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.publisher import Publisher
from rabbitray.actors.rabbitmq.inspect import contact
from rabbitray.actors.rabbitmq.look import look
from rabbitray.cluster.cli.durations import Duration
from rabbitray.cluster.cli.progress_bar import Bar
from rabbitray.cluster.cli.terminal import tell, tell_json
from rabbitray.cluster.commands.dlq.options import JSON, at_the_broker, with_results
from rabbitray.cluster.driver import compose
from rabbitray.cluster.results.dead_letter_replay import Replay, Replayed, ReplayPlan
from rabbitray.cluster.results.dead_letter_selection import Selection
from rabbitray.cluster.results.dead_letters import keys_of
from rabbitray.cluster.settings import Loaded


@click.command("replay")
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
@JSON
@with_results
def command(
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
    selected stays. Where RABBITMQ_URL is not set, a running pool is asked for its broker. Exit code 1 when a copy was
    not confirmed, or when an ID is not in the dead-letter queue.
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
    found = asyncio.run(_replay(at_the_broker(loaded), plan, quiet=as_json))
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
