"""Bench: one worker; what a pool would do with its outcomes is computed, not done."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import msgspec
import pyarrow as pa

from rabbitray.actors.errors import ConfigurationError
from rabbitray.actors.message.formats import Decoder
from rabbitray.actors.message.headers import JOB_MSGPACK
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.keys import KeyRule
from rabbitray.actors.message.parcel import Parcel
from rabbitray.actors.message.reply import Category, Failure, Part
from rabbitray.actors.message.wire import REPORT_CODES, MessageFormat, MessageLimits, UnknownContentType
from rabbitray.actors.router.settlement.retries import Park, RetryLimits, Rung, Settlement, settlement
from rabbitray.actors.seconds import require_seconds
from rabbitray.actors.telemetry.tracing import Tracing
from rabbitray.actors.testing.messages import record_alone
from rabbitray.actors.worker.batch.decoding import IdentityRules
from rabbitray.actors.worker.handler.decoder import LoadedDecoder, load_decoder, prepare_decoder
from rabbitray.actors.worker.handler.loading import Handler
from rabbitray.actors.worker.outcome.verdict import Categories
from rabbitray.actors.worker.worker import Worker, WorkerConfig

QUEUE = "test"
BATCH_SIZE = 500
FIRST_PART_S = 1.0


class KitSettings(TypedDict, total=False):
    """What `work` takes by name. Names, meaning and defaults are those of the settings of a pool, except for these:

    - `queue`: `test`.
    - `batch_size`: the most messages that reach the handler together, 500.
    - `rungs_ms`: the delays of the retry queues in milliseconds, ascending; (2000, 4000, 8000, 16000, 32000, 60000).
    - `error_categories`: exception class (`ValueError`, `mylib.QuotaError`) or code (`QUOTA`, `418`) to `transient`,
      `permanent` or `unknown`.
    - `type_codes`: one upper-case letter to message type.
    - `decoder`: also the function or class itself; here it is called twice for each message.
    - `follow_retries`: a job that is to be retried runs again at once, without its delay, until it is DONE or DEAD.
    """

    queue: str
    batch_size: int
    queue_concurrency: int
    handler_timeout_s: float
    max_retries: int
    rungs_ms: tuple[int, ...]
    missing_id: Literal["allow", "reject"]
    key: str
    message_format: MessageFormat
    unknown_content_type: UnknownContentType
    decoder: str | Decoder | type
    max_message_bytes: int
    max_records: int
    max_depth: int
    type_codes: Mapping[str, str]
    error_categories: Mapping[str, str]
    follow_retries: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one job, and what a pool would do with it.

    - `message`, `record`: the index of its message, and its index inside a packed one (else 0).
    - `job`: as it was received, its payload as it was sent; None where the body cannot be read.
    - `status`: DONE (a row in `results`), RETRY (a copy in a retry queue) or DEAD (a dead letter).
    - `attempts`: runs so far, this one included.
    - `result`: of DONE, the value of the JSON in the result row.
    - `reason`: of the others, a short code that stays the same: `exception`, `rejected`, `max_retries`, ...
    - `error`, `error_class`, `category`: the exception's text, its class, and `transient`, `permanent` or `unknown`.
    - `delay_s`: of RETRY, seconds until it runs again.
    """

    message: int
    record: int
    job: Job | None
    status: Literal["DONE", "RETRY", "DEAD"]
    attempts: int
    result: Any = None  # Any: a JSON value
    reason: str | None = None  # why it is not DONE, a short stable code: exception, rejected, max_retries, ...
    error: str | None = None
    error_class: str | None = None
    category: Category | None = None
    delay_s: float | None = None  # of a RETRY

    @property
    def done(self) -> bool:
        """Whether `status` is DONE."""
        return self.status == "DONE"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A message of this test, or one record of it that is to run again."""

    message: int
    record: int | None
    parcel: Parcel


class Bench:
    """One worker: batches in, and for each outcome what a pool would do with it. `rule`: where keys are."""

    def __init__(self, handler: Handler, settings: KitSettings, rule: KeyRule) -> None:
        self._batch_size = settings.get("batch_size", BATCH_SIZE)
        self._timeout_s = _timeout_s(settings.get("handler_timeout_s", 60.0))
        self._follow = settings.get("follow_retries", False)
        self._limits = _limits(settings)
        queue = settings.get("queue", QUEUE)
        config = WorkerConfig(
            name="test-worker-0001",
            queue=queue,
            slots=settings.get("queue_concurrency", 32),
            early_s=FIRST_PART_S,
            handler_timeout_s=self._timeout_s,
            identity=IdentityRules(missing_id=settings.get("missing_id", "allow"), key=rule),
            wire=_wire(settings),
            codes=REPORT_CODES.extended(settings.get("type_codes", {})),
            message_format=settings.get("message_format", "auto"),
            unknown_content_type=settings.get("unknown_content_type", "bytes"),
        )
        categories = Categories(settings.get("error_categories"))
        self._worker = Worker(config, handler, categories, Tracing(queue=queue), decoder=_decoder(settings))

    async def work(self, parcels: Sequence[Parcel]) -> list[Outcome]:
        """Every message until it has its outcomes."""
        waiting = deque(_Piece(message=n, record=None, parcel=parcel) for n, parcel in enumerate(parcels))
        outcomes: list[Outcome] = []
        number = 0
        while waiting:
            batch = [waiting.popleft() for _ in range(min(self._batch_size, len(waiting)))]
            number += 1
            found, again = await self._batch(f"test-{number}", batch)
            outcomes += found
            waiting.extendleft(reversed(again))
        return sorted(outcomes, key=lambda outcome: (outcome.message, outcome.record))

    async def close(self) -> None:
        """Ends the handler."""
        await self._worker.close()

    async def _batch(self, batch_id: str, batch: list[_Piece]) -> tuple[list[Outcome], list[_Piece]]:
        """The outcomes of one batch, and what of it is to run again."""
        outcomes: list[Outcome] = []
        again: list[_Piece] = []
        progress = time.monotonic()
        shipment = msgspec.msgpack.encode([piece.parcel for piece in batch])
        part, rows = await self._first_part(batch_id, shipment)
        jobs = self._jobs(batch)
        while True:
            outcomes += _done(batch, jobs, part, rows)
            again += [batch[position] for position in part.returned]
            for failure in part.failures:
                outcome, retry = self._failed(batch, jobs, failure)
                outcomes += [outcome] if retry is None else []
                again += [retry] if retry is not None else []
            if part.broken:
                self._worker.go_on()
            if not part.open:
                return outcomes, again
            progress = time.monotonic() if part.jobs or part.progress else progress
            self._require_progress(progress)
            part, rows = await self._worker.more(batch_id)

    async def _first_part(self, batch_id: str, shipment: bytes) -> tuple[Part, pa.Table]:
        """It comes within a second, unless a decoder hangs."""
        limit_s = FIRST_PART_S + self._timeout_s * 1.25
        try:
            async with asyncio.timeout(limit_s):
                return await self._worker.run(batch_id, shipment)
        except TimeoutError:
            text = f"the decoder read no message for {limit_s:g} s: a pool would kill its worker"
            raise TimeoutError(text) from None

    def _jobs(self, batch: list[_Piece]) -> dict[tuple[int, int], Job]:
        units, _ = self._worker.decode([piece.parcel for piece in batch])
        return {(unit.position, unit.record): unit.job for unit in units}

    def _failed(
        self, batch: list[_Piece], jobs: dict[tuple[int, int], Job], failure: Failure
    ) -> tuple[Outcome, _Piece | None]:
        """The outcome, and the piece to run next instead when retries are followed."""
        piece = batch[failure.position]
        now_ms = time.time_ns() // 1_000_000
        move = settlement(failure, self._limits, now_ms)
        outcome = Outcome(
            message=piece.message,
            record=failure.record if piece.record is None else piece.record,
            job=jobs.get((failure.position, failure.record)),
            status="RETRY" if isinstance(move, Rung) else "DEAD",
            attempts=failure.attempt + 1,
            reason=move.reason if isinstance(move, Park) else failure.reason,
            error=failure.error,
            error_class=failure.error_class,
            category=failure.category,
            delay_s=_delay_s(move, now_ms),
        )
        if self._follow and isinstance(move, Rung):
            return outcome, _again(piece, failure, move, outcome.record)
        return outcome, None

    def _require_progress(self, since: float) -> None:
        if time.monotonic() - since > self._timeout_s * 1.25:  # async jobs are cancelled before
            raise TimeoutError(f"the handler finished no job for {self._timeout_s:g} s: a pool would kill its worker")


def _done(batch: list[_Piece], jobs: dict[tuple[int, int], Job], part: Part, rows: pa.Table) -> list[Outcome]:
    outcomes = []
    for index, row in enumerate(rows.select(["result", "attempts"]).to_pylist()):
        position = part.row_positions[index]
        record = part.row_records[index] if part.row_records else 0
        piece = batch[position]
        outcomes.append(
            Outcome(
                message=piece.message,
                record=record if piece.record is None else piece.record,
                job=jobs.get((position, record)),
                status="DONE",
                attempts=row["attempts"],
                result=msgspec.json.decode(row["result"]),
            )
        )
    return outcomes


def _again(piece: _Piece, failure: Failure, rung: Rung, record: int) -> _Piece:
    """The copy that a rung would send back; of a packed message the failed record alone, as settlement does it."""
    parcel = msgspec.structs.replace(piece.parcel, attempt=rung.attempt, key=failure.key)
    if failure.body is not None:
        parcel = record_alone(parcel, failure.body, failure.content_type or JOB_MSGPACK)
    return _Piece(message=piece.message, record=record, parcel=parcel)


def _delay_s(move: Settlement, now_ms: int) -> float | None:
    if isinstance(move, Park):
        return None
    return max(move.delay_ms, move.due_ms - now_ms) / 1000


def _timeout_s(value: object) -> float:
    try:
        found = require_seconds(value, "the test kit: handler_timeout_s")
    except (TypeError, ValueError) as error:
        raise ConfigurationError(str(error)) from error
    if found <= 0:
        raise ConfigurationError(f"the test kit: handler_timeout_s must be above 0 s, not {found:g} s")
    return found


def _decoder(settings: KitSettings) -> LoadedDecoder | None:
    decoder = settings.get("decoder", "auto")
    if isinstance(decoder, str):
        return load_decoder(decoder)
    return prepare_decoder(decoder, getattr(decoder, "__qualname__", type(decoder).__name__))


def _wire(settings: KitSettings) -> MessageLimits:
    fallback = MessageLimits()
    return MessageLimits(
        max_message_bytes=settings.get("max_message_bytes", fallback.max_message_bytes),
        max_records=settings.get("max_records", fallback.max_records),
        max_depth=settings.get("max_depth", fallback.max_depth),
    )


def _limits(settings: KitSettings) -> RetryLimits:
    fallback = RetryLimits()
    return RetryLimits(
        rungs_ms=settings.get("rungs_ms", fallback.rungs_ms),
        max_retries=settings.get("max_retries", fallback.max_retries),
    )
