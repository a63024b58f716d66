"""`rabbitray trace`: one message's story from the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import click
from rich.text import Text
from rich.tree import Tree

from rabbitray.actors.errors import RabbitrayError
from rabbitray.actors.rabbitmq.depth import DepthProbe
from rabbitray.actors.router.report import RouterReport
from rabbitray.cluster.cli.options import REACH, with_settings
from rabbitray.cluster.cli.tables import shown
from rabbitray.cluster.cli.terminal import console, tell, tell_json
from rabbitray.cluster.driver import compose
from rabbitray.cluster.operate.status_lines import progress_line
from rabbitray.cluster.results.message_story import (
    TRACED_SINCE,
    Step,
    Story,
    Whereabouts,
    conflicts_sql,
    dead_letters_sql,
    failures_sql,
    results_sql,
    stories,
    unrecorded,
)
from rabbitray.cluster.results.reader import PoolReader, Reader, results, schema_version
from rabbitray.cluster.settings import Loaded

LOOK_WITHIN_S = 3.0
DETAIL_MOST = 2_000


@click.command("trace")
@click.argument("message_id")
@click.option("--json", "as_json", is_flag=True, help="One list of stories.")
@with_settings("results", *REACH)
def command(loaded: Loaded, message_id: str, as_json: bool) -> int:
    """Tell the story of one message: published, received, failed runs, worker, commit, settled, dead letters.

    \b
    rabbitray trace 0192d5c6-7b1e-7a3c-9c55-2f6f2f6f0001
    rabbitray trace order-4711 --queue orders

    MESSAGE_ID is a message id or a key. While a pool runs it is asked through the pool (add --queue or --pool where
    they are not the default); from the file otherwise. Exit code 1: nothing is recorded about it (yet); then it says
    how many messages are in the queue, in its retry rungs and in work.
    """
    with results(loaded) as reader:
        found = stories_of(reader, message_id)
        if as_json:
            tell_json(found)
        elif found:
            _draw(found)
            tell(f"from {reader.where}", err=True)
        if not found:
            tell(*unrecorded(message_id, reader.where, whereabouts(loaded, reader, message_id)), err=True)
    return 0 if found else 1


def stories_of(reader: Reader, name: str) -> list[Story]:
    """The stories of a key or message id; what a message id leads to is followed by its key."""
    version = schema_version(reader)
    found = _rows(reader, version, name)
    keys = [row["key"] for rows in found for row in rows if row["key"] and row["key"] != name]
    return stories(*(_rows(reader, version, name, keys) if keys else found))


def _rows(
    reader: Reader, version: int, name: str, keys: Sequence[str] = ()
) -> list[list[dict[str, Any]]]:  # Any: values of the row
    """Results, dead letters, conflicts and failed runs; a file of an earlier version has not all of these tables."""
    asked = [results_sql(name, keys), dead_letters_sql(name, keys, version=version)]
    asked += [conflicts_sql(name, keys)] if version > 1 else []
    asked += [failures_sql(name, keys)] if version >= TRACED_SINCE else []
    return [reader.query(sql).to_pylist() for sql in asked]


def whereabouts(loaded: Loaded, reader: Reader, name: str = "") -> Whereabouts:
    """How many messages are where, as far as broker and pool answer within some seconds; and how far the job of that
    key or message id is, where it runs and tells it.
    """
    logging.getLogger(DepthProbe.__module__).addHandler(logging.NullHandler())  # "not known" is said in the answer
    ready, waiting = asyncio.run(_depths(loaded))
    report = _report(reader)
    held = 0 if not isinstance(reader, PoolReader) else None if report is None else report.pool.held
    running = () if report is None else tuple(_running(report, name))
    return Whereabouts(queue=loaded.settings.queue, ready=ready, waiting=waiting, held=held, running=running)


async def _depths(loaded: Loaded) -> tuple[int | None, int | None]:
    """Messages in the main queue and in its rungs; a rung that does not exist holds none."""
    topology, url = compose.topology(loaded.settings), loaded.settings.rabbitmq_url
    names = (topology.queue, *(topology.rung(delay) for delay in topology.rung_delays_ms))
    probes = [DepthProbe(url, name, timeout_s=LOOK_WITHIN_S) for name in names]
    try:
        main, *rungs = await asyncio.gather(*(probe.ready() for probe in probes))
    finally:
        await asyncio.gather(*(probe.close() for probe in probes))
    return main, None if main is None else sum(depth or 0 for depth in rungs)


def _report(reader: Reader) -> RouterReport | None:
    """The pool's; none where the file was read: then no pool has it open."""
    if not isinstance(reader, PoolReader):
        return None
    try:
        return reader.pool.report(within_s=LOOK_WITHIN_S)
    except RabbitrayError:
        return None


def _running(report: RouterReport, name: str) -> Iterator[str]:
    for worker in report.workers:
        for job in worker.progress:
            if job.key == name:
                yield f"{progress_line(job)} on {worker.name}"


def _draw(found: list[Story]) -> None:
    shown_on = console()
    for story in found:
        shown_on.print(tree(story), highlight=False)


def tree(story: Story) -> Tree:
    """The story for a terminal."""
    title = Text.assemble((shown(story.key or "(no key)"), "bold"), f"  {shown(story.queue)}  {story.ended}")
    drawn = Tree(title.append(f"  {shown(story.message_type)}" if story.message_type else ""))
    ids = [one for one in story.message_ids if one != story.key]
    if ids:
        drawn.add(Text("message id  " + ", ".join(map(shown, ids))))
    if story.attempts is not None:
        drawn.add(Text(f"attempts    {story.attempts}"))
    if story.trace_id:
        drawn.add(Text(f"trace id    {shown(story.trace_id)}"))
    for step in story.steps:
        branch = drawn.add(_line(step))
        for line in (step.traceback or "").splitlines():
            branch.add(Text(shown(line, DETAIL_MOST)))
    return drawn


def _line(step: Step) -> Text:
    since = "" if step.after_ms is None else f"+{step.after_ms:,.1f} ms"
    return Text(f"{step.what:<11} {shown(step.at):<24} {since:>12}  {shown(step.detail, DETAIL_MOST)}")
