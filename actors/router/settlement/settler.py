"""Settler: the last step of the path: retry copies and dead letters are published, then messages are acked.

Order: the row is committed (the router did that), or the copy is confirmed, and only then the ack. A message that is
not ours any more gets no copy: RabbitMQ delivers it again, and it would be worked twice from then on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Set
from typing import Protocol

import msgspec
import pyarrow as pa

from rabbitray.actors.message.keys import DEFAULT_RULE, KeyRule
from rabbitray.actors.message.parcel import Record
from rabbitray.actors.message.reply import Failure, Part
from rabbitray.actors.message.wire import REPORT_CODES, MessageFormat, MessageLimits, TypeCodes
from rabbitray.actors.router.delivery import Batch, Delivery, rejection
from rabbitray.actors.router.endings import Endings
from rabbitray.actors.router.settlement.acker import Acker, Acks
from rabbitray.actors.router.settlement.dead_letters import DeadLetterTable
from rabbitray.actors.router.settlement.failure_log import FailureLog, log_dead_letters
from rabbitray.actors.router.settlement.retries import Park, RetryLimits, Rung, Settlement
from rabbitray.actors.router.settlement.tally import Tally
from rabbitray.actors.router.settlement.waits import Waits
from rabbitray.actors.router.settlement.whole_messages import WholeMessages, WholeOutbox
from rabbitray.actors.secret import NO_SECRETS, Redactor
from rabbitray.actors.store.answers import Answer
from rabbitray.actors.telemetry.span import ErrorText
from rabbitray.actors.telemetry.tracing import Tracing

log = logging.getLogger(__name__)


class Outbox(WholeOutbox, Protocol):
    """Publishes the copies of jobs, too."""

    async def park(self, delivery: Delivery, failure: Failure, reason: str) -> None: ...


class Settler:
    """Settles parts of batches. `whole`: what is done with messages that are not worked as they came.

    `record_dead_letters` appends rows (DEAD_LETTER_SCHEMA) to `dead_letters`; `redact`: what the error of a dead letter
    must not hold, in its headers, its row and the log. `rule`: where keys are.
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
        message_format: MessageFormat = "auto",
        rule: KeyRule = DEFAULT_RULE,
        redact: Redactor = NO_SECRETS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._waits = Waits(limits)
        self._outbox = outbox
        self._tracing = tracing or Tracing(queue=queue)
        self._clock = clock
        self._dead_letters = DeadLetterTable(queue, record_dead_letters, redact, rule)
        self._failure_log = FailureLog()
        self.tally = Tally()
        self.endings = Endings()
        self._acker = Acker(acks, self.tally, self._tracing)
        self.whole = WholeMessages(
            queue,
            self._waits,
            acker=self._acker,
            outbox=outbox,
            tally=self.tally,
            park=self.park,
            wire=wire or MessageLimits(),
            codes=codes,
            message_format=message_format,
            rule=rule,
        )

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
        self._acker.ack(batch.at(position for position in part.finished if position not in unsafe), part.span)
        if back := batch.at(position for position in part.finished if position in unsafe):
            self._acker.give_back_later(back)

    def count_again(self, part: Part) -> None:
        """No outcome of this part is safe: its jobs run again."""
        self.tally.again += part.rows + part.skipped + len(part.failures)

    async def park(self, delivery: Delivery, failure: Failure) -> None:
        """A whole message goes to the dead letters, e.g. one that may not be decoded; then it is acked.

        Where the failure knows no key, it gets the one that the message is worked under, if it is in one of our own
        forms. Of others the key stays unknown: what strangers wrote is read by workers only.
        """
        batch = Batch([delivery])
        if failure.key is None and delivery.refused is None and len(pieces := self.whole.records(delivery)) == 1:
            failure = msgspec.structs.replace(failure, key=pieces[0].key, unread=False)
        self._trace(delivery, failure)
        await self.settle(batch, Part(failures=[failure], finished=[0]), Answer())

    def _without_lost(self, batch: Batch, failures: list[Failure], unsafe: Set[int]) -> list[Failure]:
        """Those of messages that will not be delivered again."""
        positions = {failure.position for failure in failures} - unsafe
        ours = set(self._acker.still_ours(batch.at(sorted(positions))))
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
                read[position] = self.whole.records(delivery)
            known = next((piece for piece in read[position] if piece.record == record), None)
            whole = msgspec.structs.replace(delivery.whole(), record=record, key=delivery.key_of(record))
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

    async def _publish_copies(self, batch: Batch, failures: list[Failure], spared_s: float | None) -> set[int]:
        """Publishes the copies; the positions for which that failed."""
        after = self._waits.after_failure
        moves = [after(batch.deliveries[failure.position], failure, spared_s) for failure in failures]
        failures = [
            self._dead_letters.shown(failure) if isinstance(move, Park) else failure
            for failure, move in zip(failures, moves, strict=True)
        ]
        for failure, move in zip(failures, moves, strict=True):
            self._failure_log.tell(batch.deliveries[failure.position], failure, move, batch.worker)
        results = await asyncio.gather(
            *(self._move(batch.deliveries[f.position], f, move) for f, move in zip(failures, moves, strict=True)),
            return_exceptions=True,
        )
        unsafe, dead = self._count_copies(batch, failures, moves, results)
        if dead:
            log_dead_letters(dead)
            await self._dead_letters.record(dead, batch.worker)
            self.tally.dead += len(dead)  # last: who sees the count finds the rows
            self.endings.add_dead((failure for _, failure, _ in dead), self._clock())
        return unsafe

    def _count_copies(
        self, batch: Batch, failures: list[Failure], moves: list[Settlement], results: list[BaseException | None]
    ) -> tuple[set[int], list[tuple[Delivery, Failure, str]]]:
        """Counts the retries; the positions whose copy is not confirmed, and the dead letters whose copy is."""
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
        return unsafe, dead

    async def _move(self, delivery: Delivery, failure: Failure, move: Settlement) -> None:
        match move:
            case Rung():
                await self._outbox.retry(delivery, failure, move)
                self.tally.note_due(move)
            case Park(reason=reason):
                await self._outbox.park(delivery, failure, reason)
