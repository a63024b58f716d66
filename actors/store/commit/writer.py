"""The store as plain, blocking code: everything that one thread does with the one writing connection."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from typing import TypeVar

import duckdb
import numpy as np
import pyarrow as pa

from rabbitray.actors.errors import FencedError, StoreUnavailableError
from rabbitray.actors.message.rows import RESULT_SCHEMA, conform
from rabbitray.actors.store.answers import Answer, AnswerBuilder, Call, StoreStats
from rabbitray.actors.store.commit import records
from rabbitray.actors.store.commit.call_slice import CallSlice, halves
from rabbitray.actors.store.commit.failures import FailureTable
from rabbitray.actors.store.commit.instance import ROW_ERRORS, Instance
from rabbitray.actors.store.commit.transaction import Incoming
from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.dedupe import restore as loading
from rabbitray.actors.store.dedupe.bloom import SLOTS
from rabbitray.actors.store.dedupe.index import Dedupe, Sorted
from rabbitray.actors.store.dedupe.keys import Identities, differing, identities, identities_of
from rabbitray.actors.store.file import EPOCH_SQL, Connection, first_line, scalar, size_of
from rabbitray.actors.store.queries.snapshots import Snapshots

log = logging.getLogger(__name__)

T = TypeVar("T")

_NO_CONFLICTS = RESULT_SCHEMA.empty_table()
_SAVE_FILTER_EVERY = 8  # sealed segments; what a crash leaves to be added at start


class CommitThread:
    """One thread only. `open` first; what comes after `close` is refused. `incoming` makes what commits over a
    connection.
    """

    def __init__(
        self, config: StoreConfig, snapshots: Snapshots, incoming: Callable[[Connection], Incoming] = Incoming
    ) -> None:
        self._config = config
        self._instance = Instance(config, snapshots, incoming, self._learn)
        self._dedupe: Dedupe | None = None
        self._next_seq = 0
        self._epoch = 0
        self._filter_saved = 0
        self._failures = FailureTable()
        self._stats = StoreStats()

    def open(self) -> None:
        """One attempt; raises StoreOpenError (StoreLockedError when another process holds the file)."""
        self._instance.open()

    def close(self) -> None:
        """Checkpoint, keep the filter for the next start, let go of the file.

        Raises StoreUnavailableError, and leaves all as it is, where the file is damaged or not at its path any more.
        """
        why = self._instance.close(lambda: self._save_filter(every=1))
        self._dedupe, self._filter_saved = None, 0
        if why:
            raise StoreUnavailableError(why)

    @property
    def lookup(self) -> Dedupe | None:
        """What is known of committed rows, for other threads; None where dedupe is switched off.

        Raises StoreUnavailableError while nothing can be committed: what this process remembers may not be in the file.
        """
        if self._instance.paused:
            raise StoreUnavailableError(self._instance.paused)
        return self._dedupe

    def stats(self) -> StoreStats:
        """Counters as they are now."""
        self._instance.look()
        dedupe = self._dedupe
        fill = len(dedupe.sealed) / SLOTS if dedupe else 0.0
        plane = dedupe.bloom.plane.nbytes if dedupe else 0
        size = size_of(self._config.path)
        return replace(
            self._stats,
            rows=self._next_seq,
            filter_fill=fill,
            filter_bytes=plane,
            bytes=size,
            paused=self._instance.paused,
        )

    def use(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on the connection, opened again if need be; raises StoreUnavailableError for a failing
        instance.
        """
        return self._instance.use(work)

    def register(self, router: str) -> int:
        """Issue the next epoch."""
        self._epoch = self.use(lambda con: records.register(con, router))
        return self._epoch

    def commit(self, calls: Sequence[Call]) -> list[Answer | Exception]:
        """Commit many calls in one transaction, or in more when a row is bad or they are too large for one; one answer
        or error for each call.
        """
        answers: list[Answer | Exception] = [StoreUnavailableError("not tried")] * len(calls)
        parts: dict[int, CallSlice] = {}
        for index, call in enumerate(calls):
            if call.epoch == self._epoch:
                parts[index] = CallSlice(call=call, tally=AnswerBuilder())
            else:
                answers[index] = FencedError(f"epoch {call.epoch} has ended: epoch {self._epoch} is current")
        failed: Exception | None = None
        self._failures.take(part.call for part in parts.values())
        try:
            self._commit_parts(list(parts.values()))
        except (StoreUnavailableError, FencedError) as error:
            failed = error
        except MemoryError as error:  # between any two steps: what the dedupe knows is in doubt, too
            failed = self._instance.lose(error)
            self._dedupe = None
        for index, part in parts.items():
            answers[index] = self._answer(part) if failed is None or part.is_safe else failed
        if failed is None:
            self._write_failures()
            self._save_filter(every=_SAVE_FILTER_EVERY)
        return answers

    def _write_failures(self) -> None:
        """The failed runs that went with no transaction of results."""
        if not self._failures.has_work:
            return
        try:
            self.use(lambda con: self._failures.write_rest(con, self._epoch))
        except (StoreUnavailableError, FencedError, ValueError) as error:
            log.warning("%d failed runs are not in the table failures: %s", self._failures.give_up(), error)

    def _answer(self, part: CallSlice) -> Answer | Exception:
        try:
            part.tally.already = self._already(part.call)
        except (ValueError, StoreUnavailableError) as error:
            return error
        except MemoryError as error:
            return StoreUnavailableError(first_line(error))
        return part.tally.answer()

    def _already(self, call: Call) -> tuple[str, ...]:
        if not call.failed_keys or not self._config.dedupe:
            return ()
        if self._dedupe is None:
            raise StoreUnavailableError(self._instance.paused)
        queue = call.queue or _only_queue(call.rows)
        known = self._dedupe.known(identities_of(queue, list(call.failed_keys)))
        return tuple(key for key, is_known in zip(call.failed_keys, known, strict=True) if is_known)

    def _commit_parts(self, parts: list[CallSlice]) -> None:
        """Commit together; by halves what is too large for one transaction, and, down to the bad row, what fails for
        a row.
        """
        single = len(parts) == 1 and parts[0].call.rows.num_rows <= 1
        if not single and sum(part.call.rows.nbytes for part in parts) > self._config.transaction_bytes:
            self._commit_halves(parts)
            return
        try:
            self._attempt(parts)
        except ROW_ERRORS as error:
            if single:
                self._reject(parts[0], first_line(error))
            else:
                self._commit_halves(parts)

    def _commit_halves(self, parts: list[CallSlice]) -> None:
        middle = len(parts) // 2
        for half in (parts[:middle], parts[middle:]) if middle else halves(parts[0]):
            self._commit_parts(half)

    def _reject(self, part: CallSlice, reason: str) -> None:
        part.tally.rejected.append((part.call.offset, reason))
        self._stats = replace(self._stats, rejected=self._stats.rejected + 1)

    def _attempt(self, parts: list[CallSlice]) -> None:
        """One transaction; raises a ROW_ERROR with nothing changed, or StoreUnavailableError."""
        incoming = self._instance.ready()
        if not any(part.call.rows.num_rows for part in parts):
            return
        rows = pa.concat_tables([conform(part.call.rows, RESULT_SCHEMA) for part in parts]).combine_chunks()
        ids = identities(rows)
        verdict = self._dedupe.sort(ids) if self._dedupe else Sorted(fresh=np.arange(rows.num_rows))
        conflicts = differing(rows, ids, verdict.duplicates, verdict.winners)
        others = rows.take(pa.array(conflicts, pa.int64())) if conflicts else _NO_CONFLICTS
        if verdict.duplicates:
            rows, ids = rows.take(pa.array(verdict.fresh)), ids.take(verdict.fresh)
        self._insert(incoming, rows, ids, others)
        self._count(parts, verdict, set(conflicts))

    def _insert(self, incoming: Incoming, rows: pa.Table, ids: Identities, conflicts: pa.Table) -> None:
        if not rows.num_rows and not conflicts.num_rows:
            return
        started, failures = time.perf_counter(), self._failures.joined
        try:
            incoming.append(rows, ids, self._next_seq, self._epoch, conflicts, failures)
        except ROW_ERRORS:
            self._failures.set_apart()
            raise
        except (duckdb.Error, StoreUnavailableError) as error:
            raise self._instance.lose(error) from error
        spent = self._stats.commit_s + time.perf_counter() - started
        self._stats = replace(self._stats, commits=self._stats.commits + 1, commit_s=spent)
        self._next_seq += rows.num_rows
        self._failures.written(failures.num_rows)
        if self._dedupe is not None:
            self._dedupe.add(ids)
        self._instance.committed()

    def _count(self, parts: list[CallSlice], verdict: Sorted, conflicts: Set[int]) -> None:
        ends = np.cumsum([part.call.rows.num_rows for part in parts])
        for part in parts:
            part.tally.committed += part.call.rows.num_rows
        owners = np.searchsorted(ends, np.array(verdict.duplicates, np.int64), side="right").tolist()
        starts = (ends - [part.call.rows.num_rows for part in parts]).tolist()
        for row, index in zip(verdict.duplicates, owners, strict=True):
            parts[index].tally.committed -= 1
            parts[index].tally.duplicates.append(row - starts[index] + parts[index].call.offset)
            parts[index].tally.conflicts += row in conflicts
        stats = self._stats
        self._stats = replace(
            stats,
            duplicates=stats.duplicates + len(verdict.duplicates),
            conflicts=stats.conflicts + len(conflicts),
        )

    def _learn(self, con: Connection, store_id: str) -> None:
        """What an instance holds that was just opened."""
        self._learn_keys(con, store_id)
        self._failures.learn(con)
        self._epoch = scalar(con, EPOCH_SQL)

    def _learn_keys(self, con: Connection, store_id: str) -> None:
        if not self._config.dedupe:
            self._next_seq = scalar(con, "SELECT coalesce(max(seq) + 1, 0) FROM results")
            return
        if self._dedupe is None:
            self._dedupe = loading.load(con, self._config, store_id)
        else:
            loading.catch_up(con, self._dedupe)
        self._next_seq = self._dedupe.next_seq

    def _save_filter(self, *, every: int) -> None:
        dedupe = self._dedupe
        if dedupe is None or len(dedupe.sealed) - self._filter_saved < every:
            return
        self._filter_saved = len(dedupe.sealed)
        try:
            loading.save_filter(dedupe, self._instance.store_id, self._config.side_dir)
        except (OSError, MemoryError) as error:
            log.warning("the filter is not saved, the next start makes it again: %s", str(error))


def _only_queue(rows: pa.Table) -> str:
    queues = rows["queue"].unique().to_pylist() if rows.num_rows else []
    if len(queues) != 1 or queues[0] is None:
        raise ValueError("name the queue of failed_keys: the rows of this write do not")
    return str(queues[0])
