"""The test kit: a handler over messages through the real decode -> run -> verdict path, with no broker and no Ray.

    from actors.testing import work

    def test_a_birthday_is_greeted():
        [outcome] = work("mypackage.jobs:handle", [Job(message_type="BIRTHDAY", payload={"name": "Ada"})])
        assert outcome.status == "DONE"
        assert outcome.result == {"text": "Happy birthday, Ada!"}

What a pool adds is not here: no dedupe (there is no results file), no killing of a worker that hangs or dies. A
handler that ends its process ends the test's.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, TypedDict, Unpack

import msgspec
import pyarrow as pa

from actors.categories import Categories, Category
from actors.decoding import IdentityRules, decode_parcels
from actors.delivery import Parcel
from actors.errors import ConfigurationError
from actors.handlers import Function, Handler, load, prepare
from actors.headers import JSON, MSGPACK
from actors.job import Job
from actors.part import Part
from actors.tracing import Tracing
from actors.verdict import Failure, Limits, Park, Rung, Settlement, settlement
from actors.wire import WireLimits, encode
from actors.worker import Worker, WorkerConfig

QUEUE = "test"
BATCH_SIZE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as a producer of any kind may have sent it.

    `attempt`: charged runs before this one (the attempt header); None leaves it to the body. `key`: the key header.
    """

    body: bytes
    content_type: str = MSGPACK
    content_encoding: str = ""
    message_id: str | None = None
    key: str | None = None
    attempt: int | None = None


class KitSettings(TypedDict, total=False):
    """What `work` may be told; names, meaning and defaults are those of the settings of a pool.

    Besides: `batch_size` (500) is the most messages that reach the handler together; `rungs_ms` are the delays of
    the retry queues; `error_categories` maps exception classes or codes to `transient` or `permanent`;
    `follow_retries` runs a job that is to be retried again at once, without its delay, until it is DONE or DEAD.
    """

    queue: str
    batch_size: int
    queue_concurrency: int
    handler_timeout_s: float
    max_retries: int
    rungs_ms: tuple[int, ...]
    missing_id: Literal["allow", "reject"]
    max_message_bytes: int
    max_records: int
    max_depth: int
    error_categories: Mapping[str, str]
    follow_retries: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one job, and where its message would go.

    `status`: DONE (a row in `results`), RETRY (a copy in a retry queue) or DEAD (a dead letter). `message`: index
    of its message; `record`: index inside a packed one. `job`: what the handler saw, None where the body cannot be
    read. `result`: the value of the JSON in the result row. `attempts`: runs so far, this one included.
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
        """Whether there is a result."""
        return self.status == "DONE"


def work(
    handler: str | Function | type,
    messages: Iterable[Job | Message | Mapping[str, Any] | bytes],  # Any: a JSON document
    **settings: Unpack[KitSettings],
) -> list[Outcome]:
    """Runs a handler over messages; one outcome for each job, in the order of the messages.

    `handler`: `module:attr`, a function, or a class, which is set up and closed as in a worker. A Job goes out as our
    publisher sends it, a mapping as a JSON document of another producer, bytes as msgpack; a Message says it all.

    Raises HandlerLoadError, ConfigurationError for a setting that does not exist, EncodeError for a job that cannot
    be sent, TimeoutError when a synchronous handler finishes no job for `handler_timeout_s` (a pool would kill its
    worker), and whatever the handler's set-up raises. Inside a running event loop, await `work_async` instead.
    """
    return asyncio.run(work_async(handler, messages, **settings))


async def work_async(
    handler: str | Function | type,
    messages: Iterable[Job | Message | Mapping[str, Any] | bytes],  # Any: a JSON document
    **settings: Unpack[KitSettings],
) -> list[Outcome]:
    """`work` for a test that is itself a coroutine."""
    _require_known(settings)
    parcels = [_parcel(message) for message in messages]
    bench = Bench(_handler(handler), settings)
    try:
        return await bench.work(parcels)
    finally:
        await bench.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A message of this test, or one record of it that is to run again."""

    message: int
    record: int | None
    parcel: Parcel


class Bench:
    """One worker and what stands around it in a pool: batches going in, outcomes settled on paper."""

    def __init__(self, handler: Handler, settings: KitSettings) -> None:
        self._batch_size = settings.get("batch_size", BATCH_SIZE)
        self._timeout_s = settings.get("handler_timeout_s", 60.0)
        self._follow = settings.get("follow_retries", False)
        self._identity = IdentityRules(missing_id=settings.get("missing_id", "allow"))
        self._wire = _wire(settings)
        self._limits = _limits(settings)
        queue = settings.get("queue", QUEUE)
        config = WorkerConfig(
            name="test-worker-0001",
            queue=queue,
            slots=settings.get("queue_concurrency", 32),
            handler_timeout_s=self._timeout_s,
            identity=self._identity,
            wire=self._wire,
        )
        self._worker = Worker(config, handler, Categories(settings.get("error_categories")), Tracing(queue=queue))

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
        jobs = self._jobs(batch)
        outcomes: list[Outcome] = []
        again: list[_Piece] = []
        progress = time.monotonic()
        part, rows = await self._worker.run(batch_id, msgspec.msgpack.encode([piece.parcel for piece in batch]))
        while True:
            outcomes += _done(batch, jobs, part, rows)
            again += [batch[position] for position in part.returned]
            for failure in part.failures:
                outcome, retry = self._failed(batch, jobs, failure)
                outcomes += [outcome] if retry is None else []
                again += [retry] if retry is not None else []
            if not part.open:
                return outcomes, again
            progress = time.monotonic() if part.jobs else progress
            self._require_progress(progress)
            part, rows = await self._worker.more(batch_id)

    def _jobs(self, batch: list[_Piece]) -> dict[tuple[int, int], Job]:
        units, _ = decode_parcels([piece.parcel for piece in batch], self._wire, self._identity)
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
                job=jobs[position, record],
                status="DONE",
                attempts=row["attempts"],
                result=msgspec.json.decode(row["result"]),
            )
        )
    return outcomes


def _again(piece: _Piece, failure: Failure, rung: Rung, record: int) -> _Piece:
    """The copy that a rung would send back; of a packed message the failed record alone, as the outbox does it."""
    parcel = msgspec.structs.replace(piece.parcel, attempt=rung.attempt, key=failure.key)
    if failure.body is not None:
        parcel = msgspec.structs.replace(parcel, body=failure.body, content_type=failure.content_type or MSGPACK)
        parcel = msgspec.structs.replace(parcel, content_encoding="")
    return _Piece(message=piece.message, record=record, parcel=parcel)


def _delay_s(move: Settlement, now_ms: int) -> float | None:
    if isinstance(move, Park):
        return None
    return max(move.delay_ms, move.due_ms - now_ms) / 1000


def _handler(handler: str | Function | type) -> Handler:
    if isinstance(handler, str):
        return load(handler)
    return prepare(handler, getattr(handler, "__qualname__", type(handler).__name__))


def _parcel(message: Job | Message | Mapping[str, Any] | bytes) -> Parcel:  # Any: a JSON document
    match message:
        case Message():
            return _raw(message)
        case Job():
            body, content_type = encode(message)
            attempt = message.attempt or None
            sent = Message(body=body, content_type=content_type, message_id=message.id, key=message.key)
            return msgspec.structs.replace(_raw(sent), attempt=-1 if attempt is None else attempt)
        case bytes():
            return _raw(Message(body=message))
        case _:
            return _raw(Message(body=msgspec.json.encode(message), content_type=JSON))


def _raw(message: Message) -> Parcel:
    now_ms = time.time_ns() // 1_000_000
    return Parcel(
        body=message.body,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        message_id=message.message_id,
        key=message.key,
        attempt=-1 if message.attempt is None else message.attempt,
        first_seen_ms=now_ms,
        published_ms=now_ms,
        received_ms=now_ms,
        traceparent=None,
        tracestate=None,
    )


def _require_known(settings: KitSettings) -> None:
    for name in settings.keys() - KitSettings.__annotations__.keys():
        near = get_close_matches(name, KitSettings.__annotations__, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigurationError(f"the test kit has no setting {name}{hint}")


def _wire(settings: KitSettings) -> WireLimits:
    fallback = WireLimits()
    return WireLimits(
        max_message_bytes=settings.get("max_message_bytes", fallback.max_message_bytes),
        max_records=settings.get("max_records", fallback.max_records),
        max_depth=settings.get("max_depth", fallback.max_depth),
    )


def _limits(settings: KitSettings) -> Limits:
    fallback = Limits()
    return Limits(
        rungs_ms=settings.get("rungs_ms", fallback.rungs_ms),
        max_retries=settings.get("max_retries", fallback.max_retries),
    )
