"""`rabbitray publish`: jobs from JSON lines or a generator into the queue, each one confirmed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import BinaryIO

import click

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.publisher import Publisher
from rabbitray.actors.rabbitmq.inspect import contact, declare, place
from rabbitray.actors.rabbitmq.look import look
from rabbitray.actors.secret import Redactor
from rabbitray.actors.telemetry.span import OpenSpan
from rabbitray.actors.telemetry.trace_context import producer_destination
from rabbitray.actors.telemetry.tracing import Tracing
from rabbitray.cluster import telemetry
from rabbitray.cluster.cli.options import BROKER, PUBLISHING, with_settings
from rabbitray.cluster.cli.progress_bar import Bar, size_left
from rabbitray.cluster.cli.terminal import tell, tell_json
from rabbitray.cluster.demo.jobs import reference_jobs
from rabbitray.cluster.driver import compose
from rabbitray.cluster.publish.feed import BadLine, Chunk, from_lines, generated
from rabbitray.cluster.publish.pump import ERRORS_KEPT, Pump, SendPace, Sent
from rabbitray.cluster.settings import Loaded, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the jobs come from: a stream of lines, or so many made ones."""

    stream: BinaryIO | None
    generate: int = 0


@click.command("publish")
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--generate", type=click.IntRange(1), metavar="N", help="Make N birthday and anniversary jobs instead.")
@click.option("--packed", type=click.IntRange(0), default=0, metavar="N", help="Put N jobs into one message.")
@click.option("--rate", type=click.FloatRange(0), default=0.0, metavar="N", help="At most N messages per second.")
@click.option("--create", is_flag=True, help="Create the queue, its rungs and dead letters where they are missing.")
@click.option("--strict", is_flag=True, help="Stop at the first line that is no job.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@with_settings(*BROKER, *PUBLISHING)
def command(
    loaded: Loaded,
    file: BinaryIO | None,
    generate: int | None,
    packed: int,
    rate: float,
    create: bool,
    strict: bool,
    as_json: bool,
) -> int:
    """Publish jobs from FILE or standard input (JSON lines), or made ones.

    \b
    rabbitray publish --generate 1000
    rabbitray publish orders.jsonl --queue orders --packed 100
    tail -f new.jsonl | rabbitray publish --rate 50

    A line is one job, verbose or compact:

    \b
    {"messageId": "...", "userId": "u1", "messageType": "BIRTHDAY", "payload": {...}}
    {"i": "...", "u": "u1", "t": "B", "p": {...}}

    A line without an id gets one. A line that is no job is reported with its number and the rest goes on. Exit
    code 1 when any job was not confirmed or any line was bad. A job that timed out, or whose connection was lost,
    may have arrived: publish it again under the same id. It gets one row; once that is committed, it does not run
    again where the pool has skip_done=always and it comes in the same form (packed or not, as JSON or msgpack).
    """
    source = _source(file, generate)
    pace = SendPace(packed=compose.publisher(loaded.settings).packed_size(packed), rate=rate)
    sent = asyncio.run(_publish(loaded, source, pace, create=create, strict=strict, quiet=as_json))
    if as_json:
        tell_json(_as_json(loaded, sent))
    else:
        _show(loaded, sent)
    return 0 if sent.ok else 1


def _source(file: BinaryIO | None, generate: int | None) -> Source:
    if generate is not None and file is not None:
        raise click.UsageError("either FILE or --generate, not both")
    if generate is not None:
        return Source(stream=None, generate=generate)
    stream = file or sys.stdin.buffer
    if file is None and stream.isatty():
        raise click.UsageError("nothing to publish: name a FILE, pipe JSON lines in, or give --generate N")
    return Source(stream=stream)


async def _publish(loaded: Loaded, source: Source, pace: SendPace, *, create: bool, strict: bool, quiet: bool) -> Sent:
    settings = loaded.settings
    await _prepare(loaded, create=create)
    traces = telemetry.start(loaded.telemetry, "publisher", redact=Redactor(*loaded.secrets))
    tracing = tracing_of(settings)
    total = source.generate or size_left(source.stream)
    with Bar("publishing", total, quiet=quiet) as bar:
        async with Publisher(compose.publisher(settings, name="publish"), tracer=tracing) as publisher:
            pump = Pump(
                publisher,
                pace,
                strict=strict,
                on_bad=_tell,
                on_sent=bar.advance,
                span=lambda count: publish_span(tracing, settings.queue, count),
            )
            sent = await pump.run(_feed(loaded, source, SendPace(packed=pace.packed).slice_jobs, strict=strict))
    await asyncio.get_running_loop().run_in_executor(None, traces.shutdown)
    return sent


def tracing_of(settings: Settings) -> Tracing:
    """The spans of this process, with the broker's address; after its telemetry was started."""
    return Tracing(queue=settings.queue, server=compose.server(settings.rabbitmq_url))


def publish_span(tracing: Tracing, queue: str, count: int) -> OpenSpan:
    """The span of `count` jobs that go straight into a queue."""
    return tracing.publish_span(producer_destination("", queue), routing_key=queue, count=count)


def _feed(loaded: Loaded, source: Source, part_jobs: int, *, strict: bool) -> AsyncIterator[Chunk]:
    if source.stream is None:
        return generated(reference_jobs(source.generate), part_jobs)
    settings = loaded.settings
    return from_lines(source.stream, settings.max_message_bytes, strict=strict, codes=compose.type_codes(settings))


async def _prepare(loaded: Loaded, *, create: bool) -> None:
    """Before the first line is read: the broker answers and the queue is there."""
    settings = loaded.settings
    async with contact(settings.rabbitmq_url, within_s=settings.connect_timeout_s) as connection:
        if create:
            for warning in await declare(connection, compose.topology(settings)):
                tell(f"note: {warning}", err=True)
            return
        seen = await look(connection, settings.queue)
        if seen.hidden:
            tell(
                f"note: this user may not look at queue {settings.queue!r} (403): a job that finds no queue is "
                "reported as unroutable",
                err=True,
            )
        elif not seen.there:
            raise ConfigurationError(
                f"queue {settings.queue!r} does not exist at {place(settings.rabbitmq_url)}: start the pool first, "
                "or create it with --create"
            )


def _tell(line: BadLine) -> None:
    tell(f"line {line.number}: {line.reason}", err=True)


def _as_json(loaded: Loaded, sent: Sent) -> dict[str, object]:
    return {
        "queue": loaded.settings.queue,
        "published": sent.published,
        "failed": sent.failed,
        "bad_lines": sent.bad_lines,
        "duration_s": round(sent.duration_s, 3),
        "rate_s": round(sent.rate, 1),
        "errors": sent.errors,
        "stopped": sent.stopped,
    }


def _show(loaded: Loaded, sent: Sent) -> None:
    for error in sent.errors:
        tell(f"failed: {error}", err=True)
    failures = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in sent.failed.items() if count)
    if failures and sum(sent.failed.values()) > ERRORS_KEPT:
        tell("... and more", err=True)
    if sent.stopped:
        tell(f"stopped: {sent.stopped}", err=True)
    bad = f"; {sent.bad_lines:,} bad lines" if sent.bad_lines else ""
    tell(
        f"{sent.published:,} jobs confirmed in queue {loaded.settings.queue!r} in {sent.duration_s:.1f} s "
        f"({sent.rate:,.0f} per second); failed: {failures or 'none'}{bad}"
    )
