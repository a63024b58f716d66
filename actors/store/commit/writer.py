"""The store as plain, blocking code: everything that one thread does with the one writing connection."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from typing import TypeVar

import duckdb
import numpy as np
import pyarrow as pa

from rabbitray.actors.errors import FencedError, StoreOpenError, StoreUnavailableError
from rabbitray.actors.message.rows import RESULT_SCHEMA, conform
from rabbitray.actors.store import schema
from rabbitray.actors.store.answers import Answer, AnswerBuilder, Call, StoreStats
from rabbitray.actors.store.commit import records
from rabbitray.actors.store.commit.call_slice import CallSlice, halves
from rabbitray.actors.store.commit.failures import FailureTable
from rabbitray.actors.store.commit.transaction import Incoming
from rabbitray.actors.store.config import StoreConfig
from rabbitray.actors.store.dedupe import restore as loading
from rabbitray.actors.store.dedupe.bloom import SLOTS
from rabbitray.actors.store.dedupe.index import Dedupe, Sorted
from rabbitray.actors.store.dedupe.keys import Identities, differing, identities, identities_of
from rabbitray.actors.store.file import EPOCH_SQL, Connection, connect, connect_again, scalar, size_of, wal_of
from rabbitray.actors.store.file_watch import FileWatch
from rabbitray.actors.store.query import Readers

log = logging.getLogger(__name__)

T = TypeVar("T")

ROW_ERRORS = (
    duckdb.ConstraintException,
    duckdb.DataError,
    duckdb.InvalidInputException,
    pa.ArrowInvalid,
    pa.ArrowTypeError,
    pa.ArrowNotImplementedError,
    UnicodeDecodeError,
    KeyError,
)
"""Errors that a row causes; everything else of DuckDB is about the file or the instance."""

CLOSED = "the store is not open: it has been closed, or was not opened yet"

_NO_CONFLICTS = RESULT_SCHEMA.empty_table()
_SAVE_FILTER_EVERY = 8  # sealed segments; what a crash leaves to be added at start


class CommitThread:
    """One thread only. `open` first; a failure of the instance closes it, and the next use opens it again. What comes
    after `close` is refused: it would open the file behind whoever closed it.

    `incoming` makes what commits over a connection.
    """

    def __init__(
        self, config: StoreConfig, readers: Readers, incoming: Callable[[Connection], Incoming] = Incoming
    ) -> None:
        self._config = config
        self._incoming = incoming
        self._readers = readers
        self._open: Incoming | None = None  # the one writing connection
        self._watch: FileWatch | None = None  # of the file that it has open
        self._closed = True
        self._dedupe: Dedupe | None = None
        self._store_id = ""
        self._next_seq = 0
        self._epoch = 0
        self._filter_saved = 0
        self._failures = FailureTable()
        self._stats = StoreStats()

    def open(self) -> None:
        """One attempt; raises StoreOpenError (StoreLockedError when another process holds the file)."""
        self._connect()
        self._closed = False

    def _connect(self) -> None:
        path = self._config.path
        con = connect_again(self._config, self._store_id) if self._store_id else connect(self._config)
        try:
            self._store_id = schema.prepare(con, str(path))
            self._learn(con)
            self._failures.learn(con)
            self._epoch = scalar(con, EPOCH_SQL)
            self._watch = FileWatch(path, wal_of(path))
            self._open = self._incoming(con)
        except BaseException:
            con.close()
            raise
        self._readers.attach(con)
        self._stats = replace(self._stats, paused="")

    def close(self) -> None:
        """Checkpoint, keep the filter for the next start, let go of the file.

        Raises StoreUnavailableError, and leaves all as it is, where the file is damaged or not at its path any more.
        """
        self._closed = True
        why = ""
        if self._open is not None and self._watch is not None:
            try:
                self._readers.detach()
                why = self._watch.why_not(self._open.con)
                if not why:
                    self._save_filter(every=1)
                    self._checkpoint(self._open.con)
            finally:
                self._open.con.close()
        self._open, self._watch, self._dedupe, self._filter_saved, self._store_id = None, None, None, 0, ""
        if why:
            raise StoreUnavailableError(why)

    def _checkpoint(self, con: Connection) -> None:
        try:
            con.execute("CHECKPOINT")
        except duckdb.Error as error:
            log.warning("no checkpoint at close, the write-ahead log keeps the rows: %s", first_line(error))

    @property
    def lookup(self) -> Dedupe | None:
        """What is known of committed rows, for other threads; None where dedupe is switched off.

        Raises StoreUnavailableError while nothing can be committed: what this process remembers may not be in the file.
        """
        if self._stats.paused:
            raise StoreUnavailableError(self._stats.paused)
        return self._dedupe

    def stats(self) -> StoreStats:
        """Counters as they are now."""
        if self._open is not None:
            with contextlib.suppress(StoreUnavailableError):  # it is in `paused` then
                self._must_be_ours(self._open.con)
        dedupe = self._dedupe
        fill = len(dedupe.sealed) / SLOTS if dedupe else 0.0
        plane = dedupe.bloom.plane.nbytes if dedupe else 0
        size = size_of(self._config.path)
        return replace(self._stats, rows=self._next_seq, filter_fill=fill, filter_bytes=plane, bytes=size)

    def use(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on the connection, opened again if need be; raises StoreUnavailableError for a failing
        instance.
        """
        con = self._ready().con
        try:
            done = work(con)
        except ROW_ERRORS as error:
            raise ValueError(first_line(error)) from error
        except (duckdb.Error, StoreUnavailableError, MemoryError) as error:
            raise self._lose(error) from error
        self._must_be_ours(con)
        return done

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
            failed = self._lose(error)
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
            raise StoreUnavailableError(self._stats.paused)
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
        incoming = self._ready()
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
            raise self._lose(error) from error
        spent = self._stats.commit_s + time.perf_counter() - started
        self._stats = replace(self._stats, commits=self._stats.commits + 1, commit_s=spent)
        self._next_seq += rows.num_rows
        self._failures.written(failures.num_rows)
        if self._dedupe is not None:
            self._dedupe.add(ids)
        self._must_be_ours(incoming.con)

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

    def _learn(self, con: Connection) -> None:
        if not self._config.dedupe:
            self._next_seq = scalar(con, "SELECT coalesce(max(seq) + 1, 0) FROM results")
            return
        if self._dedupe is None:
            self._dedupe = loading.load(con, self._config, self._store_id)
        else:
            loading.catch_up(con, self._dedupe)
        self._next_seq = self._dedupe.next_seq

    def _ready(self) -> Incoming:
        if self._closed:
            raise StoreUnavailableError(CLOSED)
        if self._open is None:
            if not self._readers.ended():
                raise StoreUnavailableError("a query of the failed instance has not ended yet: try again")
            try:
                self._connect()
            except (StoreOpenError, duckdb.Error, MemoryError) as error:
                reason = first_line(error)
                self._stats = replace(self._stats, paused=reason)
                raise StoreUnavailableError(f"the results file cannot be opened again: {reason}") from error
        assert self._open is not None
        self._must_be_ours(self._open.con)
        return self._open

    def _must_be_ours(self, con: Connection) -> None:
        """Raises StoreUnavailableError as long as the file is not what DuckDB takes it for; says so once.

        The instance stays open: what was moved away can be put back, and of what was removed the bytes are still there.
        """
        assert self._watch is not None
        why = self._watch.why_not(con)
        if why != self._stats.paused:
            log.error("The store holds: %s", why) if why else log.warning("The store goes on: its file is back")
            self._stats = replace(self._stats, paused=why)
        if why:
            raise StoreUnavailableError(why)

    def _lose(self, error: Exception) -> StoreUnavailableError:
        """Close the instance, whose state is in doubt; the next use opens it and learns what it holds."""
        reason = first_line(error)
        log.warning("the store pauses: %s", reason)
        self._stats = replace(self._stats, paused=reason)
        lost, self._open = self._open, None
        self._readers.detach()
        if lost is not None:
            try:
                lost.con.close()
            except (duckdb.Error, MemoryError) as closing:
                log.warning("closing a failed instance: %s", first_line(closing))
        return StoreUnavailableError(f"cannot commit now, nothing was acknowledged: {reason}")

    def _save_filter(self, *, every: int) -> None:
        dedupe = self._dedupe
        if dedupe is None or len(dedupe.sealed) - self._filter_saved < every:
            return
        self._filter_saved = len(dedupe.sealed)
        try:
            loading.save_filter(dedupe, self._store_id, self._config.side_dir)
        except (OSError, MemoryError) as error:
            log.warning("the filter is not saved, the next start makes it again: %s", str(error))


def first_line(error: BaseException) -> str:
    """The first line of an error's text."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _only_queue(rows: pa.Table) -> str:
    queues = rows["queue"].unique().to_pylist() if rows.num_rows else []
    if len(queues) != 1 or queues[0] is None:
        raise ValueError("name the queue of failed_keys: the rows of this write do not")
    return str(queues[0])
