"""Worker: runs the handler over a batch, with one outcome for each job.

A batch comes as undecoded parcels and leaves as parts: outcomes for the router, result rows for the store. The
first part comes back after `early_s` at the latest, whatever is still running; what was not started by then is
given back so that other workers can have it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field

import pyarrow as pa

from rabbitray.actors.background import BackgroundTasks
from rabbitray.actors.errors import DecodeError, RabbitrayError
from rabbitray.actors.message.parcel import Parcel, Shipment, unpack_parcels
from rabbitray.actors.message.reply import WORKER_BROKEN, Failure, Part
from rabbitray.actors.message.wire import (
    REPORT_CODES,
    MessageFormat,
    MessageLimits,
    TypeCodes,
    UnknownContentType,
    split,
)
from rabbitray.actors.secret import NO_SECRETS, Redactor
from rabbitray.actors.telemetry.own_logging import OwnLogging
from rabbitray.actors.telemetry.span import ErrorText
from rabbitray.actors.telemetry.tracing import Tracing
from rabbitray.actors.worker.batch.decoding import IdentityRules, decode_parcels, unread
from rabbitray.actors.worker.batch.progress import RunningUnits
from rabbitray.actors.worker.batch.result_table import results
from rabbitray.actors.worker.batch.running import BatchRun
from rabbitray.actors.worker.batch.skip_done import FinishedJobs
from rabbitray.actors.worker.batch.unit import Failed, Unit
from rabbitray.actors.worker.handler.decoder import LoadedDecoder, Reader
from rabbitray.actors.worker.handler.executor import Executor
from rabbitray.actors.worker.handler.loading import Handler
from rabbitray.actors.worker.meter import WorkerMeter
from rabbitray.actors.worker.outcome.outcomes import Outcomes
from rabbitray.actors.worker.outcome.result_json import MAX_RESULT_BYTES
from rabbitray.actors.worker.outcome.tracebacks import Tracebacks
from rabbitray.actors.worker.outcome.verdict import Categories

log = logging.getLogger(__name__)

SIGN_OF_LIFE_MOST_S = 15.0

Pieces = dict[int, list[bytes]]
"""The records of the packed messages of which some failed, by position: each message is taken apart once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """How one worker runs. Times in seconds; `slots`: jobs at once for async handlers.

    `part_chars`: so much text of results ends a part, and the others go out with the next one. An Arrow column of text
    holds 2 GiB at most, and a part is in the memory of this process three times while it is made. `redact`: what the
    texts of errors must not hold.
    """

    name: str
    queue: str
    slots: int = 32
    early_s: float = 1.0
    handler_timeout_s: float = 60.0
    max_run_s: float = 1_800.0
    max_result_bytes: int = MAX_RESULT_BYTES
    part_chars: int = 256 * 1024 * 1024
    identity: IdentityRules = field(default_factory=IdentityRules)
    wire: MessageLimits = field(default_factory=MessageLimits)
    codes: TypeCodes = REPORT_CODES
    message_format: MessageFormat = "auto"
    unknown_content_type: UnknownContentType = "bytes"
    redact: Redactor = NO_SECRETS


class UnknownBatchError(RabbitrayError):
    """`more` was asked for a batch that this worker does not have."""


class Worker:
    """Runs batches through one handler. Methods belong to one event loop.

    `finished`: which jobs need not run, since they have their result; None: each one runs. `decoder`: None for none.
    """

    def __init__(
        self,
        config: WorkerConfig,
        handler: Handler,
        categories: Categories,
        tracing: Tracing,
        meter: WorkerMeter | None = None,
        finished: FinishedJobs | None = None,
        decoder: LoadedDecoder | None = None,
    ) -> None:
        self._config = config
        self._finished = finished
        self._tracing = tracing
        self._meter = meter
        self._tracebacks = Tracebacks(config.redact)
        outcomes = Outcomes(
            categories,
            self._tracebacks,
            max_result_bytes=config.max_result_bytes,
            redact=config.redact,
            broken=self._break,
        )
        self._reader = None if decoder is None else self._reader_of(decoder, categories)
        self._executor = Executor(
            handler,
            outcomes,
            slots=config.slots,
            timeout_s=config.handler_timeout_s,
            max_run_s=config.max_run_s,
            redact=config.redact,
        )
        self._logging = OwnLogging()
        self._broken: Failed | None = None
        self.loop_thread: int | None = None  # that of the event loop which runs async handlers
        self.clock_us = 0  # how far this machine's clock is ahead of the router's
        self._asks_message = handler.asks.message or (decoder is not None and decoder.asks_message)
        self._runs: dict[str, BatchRun] = {}
        self._running = RunningUnits(
            self._runs, timeout_s=config.handler_timeout_s, max_run_s=config.max_run_s, redact=config.redact
        )
        self._tasks = BackgroundTasks(log, "A batch ended without an outcome for each of its jobs")

    @property
    def slots(self) -> int:
        """Jobs that run at once: the async slots, or 1."""
        return self._executor.slots

    @property
    def asks_message(self) -> bool:
        """Whether its parcels are to come with the envelopes of their messages."""
        return self._asks_message

    async def run(self, batch_id: str, shipment: Shipment) -> tuple[Part, pa.Table]:
        """Starts a batch and returns its first part, after `early_s` at the latest.

        `shipment` is what `pack_parcels` made. While the part's `open` is above 0, ask `more`. Where keys are in the
        bodies, the first part tells them at once, and the first `more` starts the batch: whoever asks it has the keys.
        """
        began = time.perf_counter()
        parcels = unpack_parcels(shipment)
        if self._reader is not None and self._reader.is_users:
            units, failures = await self._reader.in_its_thread(self.decode, parcels)
        else:
            units, failures = self.decode(parcels)
        self._executor.busy.add(time.perf_counter() - began)
        keys = _keys_of(units) if self._config.identity.key.place == "body" else {}
        undecoded = unread(parcels, units, failures) if self._reader is not None else []
        units, skipped = (units, []) if self._finished is None else await self._finished.take_out(units)
        run = BatchRun(batch_id, units, failures, asyncio.get_running_loop(), skipped)
        run.undecoded = undecoded
        if self._broken is not None:
            run.stop()
        run.span = self._tracing.process_span(batch_id, self._config.queue, parcels)
        if skipped:
            self._trace_skipped(skipped, run)
        for failure in failures:
            self._trace_unreadable(parcels[failure.position], failure, run)
        self._runs[batch_id] = run
        if keys and run.waiting:
            return Part(keys=keys, open=run.open), results([], self._config.queue, self._config.name, batch_id)
        return await self._first(run)

    async def more(self, batch_id: str) -> tuple[Part, pa.Table]:
        """The next part of a batch: as soon as a job finishes, and as a sign of life after a while."""
        run = self._runs.get(batch_id)
        if run is None:
            raise UnknownBatchError(f"batch {batch_id} is not at worker {self._config.name}")
        if not run.begun:
            return await self._first(run)
        await run.news(min(SIGN_OF_LIFE_MOST_S, max(0.2, self._config.handler_timeout_s / 4)))
        return self._part(run)

    def stands(self) -> str:
        """Where the user's code stands that holds the event loop up, "" where none does. From any other thread."""
        return self._tracebacks.of_thread(self.loop_thread)

    async def close(self) -> None:
        """Ends the handler. Batches still running are abandoned: they are delivered again."""
        self._running.close()
        self._tasks.cancel()
        if self._reader is not None:
            self._reader.close()
        await self._executor.close()

    async def _first(self, run: BatchRun) -> tuple[Part, pa.Table]:
        """Starts a batch; its first part with outcomes."""
        run.begun = True
        if run.waiting:
            self._tasks.spawn(self._execute(run))
        else:
            run.span.end()
        await run.news(self._config.early_s if self._broken is None else 0.0)
        return self._part(run)

    def _reader_of(self, decoder: LoadedDecoder, categories: Categories) -> Reader:
        config = self._config
        return Reader(
            decoder,
            config.wire,
            categories,
            self._tracebacks,
            within_s=config.early_s,
            slow_s=config.handler_timeout_s / 2,
            redact=config.redact,
        )

    def decode(self, parcels: list[Parcel]) -> tuple[list[Unit], list[Failure]]:
        """The jobs of a batch, and failures of what cannot be read; see `decode_parcels`."""
        config = self._config
        return decode_parcels(
            parcels,
            config.wire,
            config.identity,
            config.codes,
            config.message_format,
            config.unknown_content_type,
            self._reader,
        )

    async def _execute(self, run: BatchRun) -> None:
        with run.span:
            await self._executor.run(run)

    def _part(self, run: BatchRun) -> tuple[Part, pa.Table]:
        """What is finished since the last part; after the first part, nothing waits here that was not started."""
        began = time.perf_counter()
        self._logging.restore()
        run.partial = True  # before taking: what finishes from now on tells it
        returned = run.take_unstarted() if run.open > len(run.finished) else []
        if self._broken is not None:
            self._end_stopped(run, self._broken)
        if run.undecoded:
            returned, run.undecoded = returned + run.undecoded, []
        units, done, failures = self._outcomes(run, run.take_finished())
        if self._meter is not None:
            self._meter.jobs(units)
        unreadable, run.unreadable = run.unreadable, []
        skipped, complete = run.take_skipped()
        finished = run.settle_positions(units) + complete + [failure.position for failure in unreadable]
        if not run.open:
            self._runs.pop(run.batch_id, None)
        rows = results(done, self._config.queue, self._config.name, run.batch_id, clock_us=self.clock_us)
        self._executor.busy.add(time.perf_counter() - began)
        if progress := run.take_progress():
            run.span.note("rabbitray.job.progress", f"{progress[-1].fraction:.0%} {progress[-1].text}".strip())
        part = Part(
            rows=len(done),
            row_positions=[unit.position for unit in done],
            row_records=[unit.record for unit in done] if any(unit.record for unit in done) else [],
            failures=failures + unreadable,
            finished=finished,
            returned=returned,
            executing=sorted({unit.position for unit in run.now_executing()}),
            open=run.open,
            jobs=len(units) + len(unreadable) + skipped,
            skipped=skipped,
            span=run.span.traceparent,
            busy_s=self._executor.busy.take(),
            stands=self._stands(run) if run.open else "",
            progress=progress,
            broken=_broken(failures) if self._broken is not None else "",
        )
        return part, rows

    def _break(self, failed: Failed) -> None:
        """A handler says that nothing works here any more: no other job begins, and the router hears of it soon.
        May be called from the handler's thread.
        """
        self._broken = failed
        for run in list(self._runs.values()):
            run.stop()

    def go_on(self) -> None:
        """Works on although a handler has called it broken: for tests, which have no other worker."""
        self._broken = None

    def _end_stopped(self, run: BatchRun, failed: Failed) -> None:
        """Jobs of messages that have run in part: these cannot be given back."""
        for unit in run.take_stopped():
            unit.failed = failed
            run.finish(unit)

    def _stands(self, run: BatchRun) -> str:
        """Where a synchronous handler stands, once half of its time is over: nobody can ask a worker that is killed."""
        since_us = min((_alive_us(unit) for unit in run.now_executing()), default=0)
        if not since_us or time.time_ns() // 1_000 - since_us < self._config.handler_timeout_s * 500_000:
            return ""
        return self._tracebacks.of_thread(self._executor.thread)

    def _outcomes(self, run: BatchRun, units: list[Unit]) -> tuple[list[Unit], list[Unit], list[Failure]]:
        """The finished jobs that fit into a part, those of them with a result, and failures."""
        done: list[Unit] = []
        failures: list[Failure] = []
        pieces: Pieces = {}
        chars = 0
        for number, unit in enumerate(units):
            if chars >= self._config.part_chars:
                run.put_back(units[number:])
                return units[:number], done, failures
            if unit.failed is None:
                done.append(unit)
                chars += len(unit.result)
            else:
                failures.append(self._failure(run, unit, unit.failed, pieces))
        return units, done, failures

    def _failure(self, run: BatchRun, unit: Unit, failed: Failed, pieces: Pieces) -> Failure:
        body = self._piece(unit, pieces) if unit.packed else None
        self._tracing.failure(
            unit.parcel.traceparent,
            unit.parcel.message_id,
            ErrorText(failed.error_class, failed.error, failed.exception),
            attempt=unit.attempt,
            key=unit.key,
            batch=run.span.traceparent,
        )
        return unit.failure(failed, body)

    def _trace_skipped(self, skipped: list[Unit], run: BatchRun) -> None:
        run.span.note("rabbitray.batch.skipped", len(skipped))
        for unit in skipped:
            parcel = unit.parcel
            self._tracing.skip(
                parcel.traceparent, parcel.message_id, attempt=unit.attempt, key=unit.key, batch=run.span.traceparent
            )

    def _trace_unreadable(self, parcel: Parcel, failure: Failure, run: BatchRun) -> None:
        self._tracing.failure(
            parcel.traceparent,
            parcel.message_id,
            ErrorText(failure.error_class, failure.error),
            attempt=failure.attempt,
            key=failure.key,
            batch=run.span.traceparent,
        )

    def _piece(self, unit: Unit, pieces: Pieces) -> bytes | None:
        """One record of a packed message as its producer wrote it, whatever the handler did to its job since.

        None (the copy is then one of the whole message) where it cannot be cut out, although it was read before.
        """
        found = pieces.get(unit.position)
        if found is None:
            try:
                found = split(unit.parcel.body, unit.parcel.content_encoding, self._config.wire)
            except DecodeError:
                log.exception("Message %s was read, but cannot be taken apart", unit.parcel.message_id)
                found = []
            pieces[unit.position] = found
        return found[unit.record] if unit.record < len(found) else None


def _broken(failures: list[Failure]) -> str:
    """Why this worker cannot work, in the part that tells of the job which said so: the router counts its runs."""
    return next((failure.error for failure in failures if failure.reason == WORKER_BROKEN), "")


def _alive_us(unit: Unit) -> int:
    """Since when a job that runs has said nothing (Unix us)."""
    return unit.started_us if unit.told is None else round(unit.told.told_at * 1_000_000)


def _keys_of(units: list[Unit]) -> dict[int, list[str | None]]:
    """The keys of the records of each message of which one has a key."""
    keys: dict[int, list[str | None]] = {}
    for unit in units:
        keys.setdefault(unit.position, []).append(unit.key)
    return {position: told for position, told in keys.items() if any(told)}
