"""Settler: the last step of the path: retry copies and dead letters are published, then messages are acked.

Order: the row is committed (the router did that), or the copy is confirmed, and only then the ack. A message that is
not ours any more gets no copy: RabbitMQ delivers it again, and it would be worked twice from then on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import pyarrow as pa

from rabbitray.actors.backoff import Backoff, retry_while_unavailable
from rabbitray.actors.errors import ERROR_TEXT_MOST, DecodeError, EncodeError, FencedError, RabbitrayError
from rabbitray.actors.message.parcel import Record, records_of, whole_message
from rabbitray.actors.message.reply import Failure, Part
from rabbitray.actors.message.wire import REPORT_CODES, MessageLimits, TypeCodes
from rabbitray.actors.router.delivery import Batch, Delivery, message_failure, rejection
from rabbitray.actors.router.endings import Endings
from rabbitray.actors.router.settlement.copies import dead_letter_rows
from rabbitray.actors.router.settlement.failure_log import FailureLog
from rabbitray.actors.router.settlement.retries import Park, RetryLimits, Rung, Settlement
from rabbitray.actors.router.settlement.waits import Waits
from rabbitray.actors.router.status import Counts
from rabbitray.actors.secret import NO_SECRETS, Redactor
from rabbitray.actors.store.answers import Answer
from rabbitray.actors.telemetry.metrics import Latency
from rabbitray.actors.telemetry.rate_limit import LogThrottle
from rabbitray.actors.telemetry.span import ErrorText
from rabbitray.actors.telemetry.trace_context import trace_id_of
from rabbitray.actors.telemetry.tracing import Tracing

log = logging.getLogger(__name__)

GIVE_BACK = Backoff(first_s=0.5, most_s=30.0)


class Acks(Protocol):
    """The way back to RabbitMQ, as `Intake` does it. `finish` returns how many can be acked."""

    def finish(self, deliveries: Sequence[Delivery]) -> int: ...
    def give_back(self, deliveries: Iterable[Delivery]) -> None: ...
    def still_ours(self, deliveries: Iterable[Delivery]) -> list[Delivery]: ...


class Outbox(Protocol):
    """Publishes a copy; returns once the broker has confirmed it, else raises, PublishFailedError as a rule."""

    async def retry(self, delivery: Delivery, record: Record, rung: Rung) -> None: ...
    async def park(self, delivery: Delivery, failure: Failure, reason: str) -> None: ...
    async def again(self, delivery: Delivery, record: Record) -> None: ...
    async def renew(self, delivery: Delivery, *, dropped: bool = False) -> bool: ...


@dataclass(slots=True)
class Tally:
    """What became of jobs and messages since the start, see Counts."""

    done: int = 0
    duplicates: int = 0
    skipped: int = 0  # of the duplicates: not run
    retried: int = 0
    dead: int = 0
    acked: int = 0
    given_back: int = 0  # messages, because an outcome of theirs was not safe
    postponed: int = 0
    spared: int = 0
    strays: int = 0
    split: int = 0
    renewed: int = 0
    again: int = 0
    latest_due_ms: int = 0  # of all that was put into a rung, Unix ms
    acked_at: float | None = None  # of the last ack, Unix seconds
    latency: Latency = field(default_factory=Latency)  # publish to ack, ms

    def counts(self) -> Counts:
        """The counts, as they are now."""
        return Counts(
            done=self.done,
            duplicates=self.duplicates,
            retried=self.retried,
            dead=self.dead,
            acked=self.acked,
            postponed=self.postponed,
            spared=self.spared,
            strays=self.strays,
            split=self.split,
            renewed=self.renewed,
            again=self.again,
            skipped=self.skipped,
        )


class Settler:
    """Settles parts of batches. `record_dead_letters` appends rows (DEAD_LETTER_SCHEMA) to `dead_letters`; `redact`:
    what the error of a dead letter must not hold, in its headers, its row and the log.
    """

    def __init__(
        self,
        limits: RetryLimits,
        queue: str,
        *,
        acks: Acks,
        outbox: Outbox,
        record_dead_letters: Callable[[pa.Table], Awaitable[None]],
        tracing: Tracing | None = None,
        wire: MessageLimits | None = None,
        codes: TypeCodes = REPORT_CODES,
        redact: Redactor = NO_SECRETS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._waits = Waits(limits)
        self._queue = queue
        self._acks = acks
        self._outbox = outbox
        self._record_dead_letters = record_dead_letters
        self._tracing = tracing or Tracing(queue=queue)
        self._wire = wire or MessageLimits()
        self._codes = codes
        self._redact = redact
        self._backoff = GIVE_BACK
        self._stray_line = LogThrottle()
        self._failure_log = FailureLog()
        self._clock = clock
        self.tally = Tally()
        self.endings = Endings()

    async def settle(self, batch: Batch, part: Part, answer: Answer, unsafe: Set[int] = frozenset()) -> Set[int]:
        """`publish`, then `close`; returns the positions of `batch` that a later part may not ack."""
        unsafe = unsafe | await self.publish(batch, part, answer, unsafe)
        self.close(batch, part, unsafe)
        return unsafe

    async def publish(
        self,
        batch: Batch,
        part: Part,
        answer: Answer,
        unsafe: Set[int] = frozenset(),
        *,
        spared_s: float | None = None,
    ) -> Set[int]:
        """Counts the outcomes and publishes copies of what failed; the positions without a confirmed copy. Those whose
        copy was left out are among them: a channel that is given up may still take an ack.

        `unsafe`: positions that are given back whatever this part says of them. `spared_s`: there is an outage: what
        failed by a service is not charged, and waits so long at least.
        """
        known = frozenset(answer.already)  # both may have thousands of keys, which somebody chose
        failures = [failure for failure in part.failures if failure.key is None or failure.key not in known]
        self.tally.done += part.rows - len(answer.duplicates) - len(answer.rejected)
        self.tally.duplicates += len(answer.duplicates) + part.skipped + len(part.failures) - len(failures)
        self.tally.skipped += part.skipped
        if good := part.rows + part.skipped - len(answer.rejected):
            self.endings.add_good(good, self._clock())
        failures += self._rejections(batch, part, answer)
        if not failures:
            return frozenset()
        kept = self._without_lost(batch, failures, unsafe)
        self.tally.again += len(failures) - len(kept)
        left_out = {failure.position for failure in failures} - {failure.position for failure in kept}
        return left_out | await self._publish_copies(batch, kept, spared_s)

    def close(self, batch: Batch, part: Part, unsafe: Set[int]) -> None:
        """Acks the finished messages of a part; those at `unsafe` positions are given back after a pause."""
        self._ack(batch.at(position for position in part.finished if position not in unsafe), part.span)
        if back := batch.at(position for position in part.finished if position in unsafe):
            self._give_back_later(back)

    def count_again(self, part: Part) -> None:
        """No outcome of this part is safe: its jobs run again."""
        self.tally.again += part.rows + part.skipped + len(part.failures)

    async def park(self, delivery: Delivery, failure: Failure) -> None:
        """A whole message goes to the dead letters, e.g. one that may not be decoded; then it is acked.

        Where the failure knows no key, it gets the one that the message is worked under, if it is in one of our own
        forms. Of others the key stays unknown: what strangers wrote is read by workers only.
        """
        batch = Batch([delivery])
        if failure.key is None and delivery.refused is None and len(pieces := self._records(delivery)) == 1:
            failure = msgspec.structs.replace(failure, key=pieces[0].key, unread=False)
        self._trace(delivery, failure)
        await self.settle(batch, Part(failures=[failure], finished=[0]), Answer())

    async def part(self, delivery: Delivery, *, expect: Callable[[list[str]], None] | None = None) -> None:
        """A packed message becomes single ones in the main queue, so that one record cannot hurt the others.

        `expect` is told their keys before the first is sent.
        """
        if not self._acks.still_ours([delivery]):
            return
        try:
            pieces = records_of(delivery.parcel, self._wire, self._codes)
            if expect is not None:
                expect([piece.key for piece in pieces if piece.key is not None])
            await asyncio.gather(*(self._outbox.again(delivery, piece) for piece in pieces))
        except DecodeError as error:
            await self.park(delivery, message_failure(delivery, error.reason, error.detail, "DecodeError"))
        except EncodeError as error:  # the next try would end in the same way
            await self.park(delivery, message_failure(delivery, "not_encodable", str(error), "EncodeError"))
        except Exception as error:  # whatever it was: nobody else has this message
            log.error(
                "The records of a packed message could not be published singly, it stays: %s",
                error,
                exc_info=None if isinstance(error, RabbitrayError) else error,
            )
            self._give_back_later([delivery])
        else:
            log.warning("A packed message of %d records that ended a worker was taken apart", len(pieces))
            self.tally.split += 1
            self._ack([delivery])

    def must_wait(self, delivery: Delivery) -> bool:
        """Whether it came before its due time, and may wait for it."""
        return self._waits.must_wait(delivery)

    async def postpone(self, delivery: Delivery) -> None:
        """A message before its due time, which `must_wait`, goes into a rung again, at no charge."""
        if not self._acks.still_ours([delivery]):
            return
        record, rung = self._waits.next_hop(delivery)
        try:
            await self._outbox.retry(delivery, record, rung)
        except Exception:  # whatever it was: nobody else has this message
            log.exception("A message that is not due yet could not be put into its rung, and stays")
            self._give_back_later([delivery])
        else:
            self.tally.postponed += 1
            self._note_due(rung)
            self._ack([delivery])

    async def renew(self, delivery: Delivery, *, dropped: bool = False) -> bool:
        """Puts a message behind the others as a copy that is the same, so that RabbitMQ counts its deliveries anew.

        False where it has no key (a copy and its message could not be known as one), where no copy would be the same,
        and where the copy was not confirmed: then it is worked as it is.
        """
        if not self._acks.still_ours([delivery]):
            return True
        parcel = delivery.parcel
        if not (parcel.key or parcel.message_id or any(one.key for one in self._records(delivery))):
            return False
        try:
            sent = await self._outbox.renew(delivery, dropped=dropped)
        except Exception as error:  # whatever it was: nobody else has this message
            known = isinstance(error, RabbitrayError)
            text = "Message %s could not be put back as a fresh copy, it is worked as it is: %s"
            log.warning(text, parcel.message_id, error, exc_info=None if known else error)
            return False
        if sent:
            self.tally.renewed += 1
            self._ack([delivery])
        return sent

    def discard(self, delivery: Delivery) -> None:
        """A copy that was meant for another queue is acked and not run: that queue has it, too."""
        self.tally.strays += 1
        self._ack([delivery])
        if self._stray_line.due():
            log.warning(
                "Message %s came through our own exchange, meant for another queue than %s; such messages are acked "
                "and not run, %d so far. Is that no direct exchange, or is a queue bound to it under another's name?",
                delivery.parcel.message_id,
                self._queue,
                self.tally.strays,
            )

    def _without_lost(self, batch: Batch, failures: list[Failure], unsafe: Set[int]) -> list[Failure]:
        """Those of messages that will not be delivered again."""
        positions = {failure.position for failure in failures} - unsafe
        ours = set(self._acks.still_ours(batch.at(sorted(positions))))
        kept = [one for one in failures if one.position in positions and batch.deliveries[one.position] in ours]
        if left_out := len(failures) - len(kept):
            log.warning("%d copies are left out: RabbitMQ delivers their messages again", left_out)
        return kept

    def _rejections(self, batch: Batch, part: Part, answer: Answer) -> list[Failure]:
        """Rows that the store isolated as bad: permanent failures of those jobs."""
        read: dict[int, list[Record]] = {}
        found = []
        for row, reason in answer.rejected:
            position, record = part.row_positions[row], part.row_records[row] if part.row_records else 0
            delivery = batch.deliveries[position]
            if position not in read:
                read[position] = self._records(delivery)
            known = next((piece for piece in read[position] if piece.record == record), None)
            whole = msgspec.structs.replace(whole_message(delivery.parcel), record=record)
            found.append(rejection(known or whole, position, reason, unread=known is None))
            self._trace(delivery, found[-1], part.span)
        return found

    def _trace(self, delivery: Delivery, failure: Failure, batch: str | None = None) -> None:
        """A failure that no worker has seen gets its span here; `batch`: the traceparent of the batch's span."""
        self._tracing.failure(
            delivery.parcel.traceparent,
            delivery.parcel.message_id,
            ErrorText(failure.error_class, failure.error),
            attempt=failure.attempt,
            key=failure.key,
            batch=batch,
        )

    def _records(self, delivery: Delivery) -> list[Record]:
        """The records of a message; none where it is in none of our own forms."""
        try:
            return records_of(delivery.parcel, self._wire, self._codes)
        except DecodeError:
            return []

    async def _publish_copies(self, batch: Batch, failures: list[Failure], spared_s: float | None) -> set[int]:
        """Publishes the copies; the positions for which that failed."""
        after = self._waits.after_failure
        moves = [after(batch.deliveries[failure.position], failure, spared_s) for failure in failures]
        failures = [
            self._shown(failure) if isinstance(move, Park) else failure
            for failure, move in zip(failures, moves, strict=True)
        ]
        for failure, move in zip(failures, moves, strict=True):
            self._failure_log.tell(batch.deliveries[failure.position], failure, move, batch.worker)
        results = await asyncio.gather(
            *(self._move(batch.deliveries[f.position], f, move) for f, move in zip(failures, moves, strict=True)),
            return_exceptions=True,
        )
        unsafe: set[int] = set()
        dead: list[tuple[Delivery, Failure, str]] = []
        for failure, move, result in zip(failures, moves, results, strict=True):
            if isinstance(result, Exception):
                unsafe.add(failure.position)
                self.tally.again += 1
            elif isinstance(result, BaseException):
                raise result
            elif isinstance(move, Park):
                dead.append((batch.deliveries[failure.position], failure, move.reason))
            elif move.spared:
                self.tally.spared += 1
            else:
                self.tally.retried += 1
        if unsent := [result for result in results if isinstance(result, Exception)]:
            log.error(
                "%d copies for retry or dead letters not confirmed, their messages stay: %s", len(unsent), unsent[0]
            )
        if dead:
            _log_dead(dead)
            await self._record_dead(dead, batch.worker)
            self.tally.dead += len(dead)  # last: who sees the count finds the rows
            self.endings.add_dead((failure for _, failure, _ in dead), self._clock())
        return unsafe

    def _shown(self, failure: Failure) -> Failure:
        """As it is kept for people: a worker has hidden the secrets in its own, not those of the router's."""
        error = self._redact.cut(failure.error, ERROR_TEXT_MOST)
        error_class = self._redact.cut(failure.error_class, ERROR_TEXT_MOST)
        traceback = self._redact(failure.traceback)
        if (error, error_class, traceback) == (failure.error, failure.error_class, failure.traceback):
            return failure
        return msgspec.structs.replace(failure, error=error, error_class=error_class, traceback=traceback)

    async def _record_dead(self, dead: list[tuple[Delivery, Failure, str]], worker: str) -> None:
        """Appends to `dead_letters`. The copies are confirmed: giving the messages back now would double them."""
        try:
            rows = dead_letter_rows(dead, self._queue, worker)
            await retry_while_unavailable(lambda: self._record_dead_letters(rows))
        except FencedError:
            raise
        except Exception:
            log.exception("%d dead letters are in their queue but not in the table dead_letters", len(dead))

    async def _move(self, delivery: Delivery, failure: Failure, move: Settlement) -> None:
        match move:
            case Rung():
                await self._outbox.retry(delivery, failure, move)
                self._note_due(move)
            case Park(reason=reason):
                await self._outbox.park(delivery, failure, reason)

    def _note_due(self, rung: Rung) -> None:
        due_ms = rung.due_ms or time.time_ns() // 1_000_000 + rung.delay_ms
        self.tally.latest_due_ms = max(self.tally.latest_due_ms, due_ms)

    def _ack(self, deliveries: list[Delivery], span: str | None = None) -> None:
        if not deliveries:
            return
        with self._tracing.settle_span("ack", len(deliveries), batches=(span,)):
            self.tally.acked += self._acks.finish(deliveries)
        self._backoff = GIVE_BACK
        now_ms = time.time() * 1000
        self.tally.acked_at = now_ms / 1000
        for delivery in deliveries:
            if delivery.parcel.published_ms:
                self.tally.latency.add(now_ms - delivery.parcel.published_ms)

    def _give_back_later(self, deliveries: list[Delivery]) -> None:
        """With back-off, so that a full or missing queue does not make a busy loop."""
        delay_s, self._backoff = self._backoff.delay_s(), self._backoff.failed()
        self.tally.given_back += len(deliveries)
        asyncio.get_running_loop().call_later(delay_s, self._acks.give_back, deliveries)


def _log_dead(dead: list[tuple[Delivery, Failure, str]]) -> None:
    """One line for all dead letters of a part, with the ids of the first; every one of them is in the table."""
    delivery, first, reason = dead[0]
    ids = {"key": first.key, "message_id": first.message_id, "attempt": first.attempt}
    trace_id = trace_id_of(delivery.parcel.traceparent)
    log.warning(
        "%d to the dead letters, the first as %s: %s: %s",
        len(dead),
        reason,
        first.error_class,
        first.error[:200],
        extra=ids | ({"trace_id": trace_id} if trace_id else {}),
    )
