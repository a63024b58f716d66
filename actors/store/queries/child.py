"""What a query process does: reads questions, runs them, writes frames, within limits that it cannot raise again."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final

import duckdb
import pyarrow as pa

from rabbitray.actors.errors import QueryError, StoreOpenError
from rabbitray.actors.store.config import QueryLimits
from rabbitray.actors.store.file import connect_read_only, connect_snapshot, first_line
from rabbitray.actors.store.queries import frames
from rabbitray.actors.store.queries.frames import Question
from rabbitray.actors.store.queries.snapshot import Snapshot
from rabbitray.actors.store.queries.snapshot_files import URL, SnapshotFiles
from rabbitray.actors.store.query import Reading, TooMuchMemoryError, up_to

IDLE_S: Final = 30.0
"""Without a question, then it ends: the next one starts another."""

_PR_SET_PDEATHSIG = 1
_SPILL_SHARE = 4  # of what is free on the disk


@dataclass(slots=True)
class Opened:
    """The file of this process as it is open now, for all questions about the same snapshot."""

    snapshot: Snapshot | None
    con: duckdb.DuckDBPyConnection
    files: SnapshotFiles | None
    reading: Reading

    def close(self) -> None:
        """Lets go of it."""
        self.con.close()
        if self.files is not None:
            self.files.close()


class Answering:
    """The questions of one process, all about one file. Raises nothing that is an answer."""

    def __init__(self, limits: QueryLimits, spill: Path | None, answers: IO[bytes]) -> None:
        self._limits = limits
        self._spill = spill
        self._answers = answers
        self._opened: Opened | None = None

    def answer(self, question: Question) -> bool:
        """Writes the frames of an answer. Returns whether this process is still fit for another."""
        fit, last = True, b""
        try:
            cut = self._send_rows(question)
            last = frames.text_frame(frames.END, cut)
        except (QueryError, StoreOpenError) as error:
            fit = not isinstance(error, TooMuchMemoryError)
            last = frames.text_frame(frames.FAILED, frames.failure(error))
        except MemoryError:
            fit, last = False, frames.text_frame(frames.FAILED, frames.failure(TooMuchMemoryError(self._limits)))
        except BrokenPipeError:  # nobody is there to be told
            raise
        except OSError as error:  # e.g. its folder for what does not fit into the memory has gone
            fit, last = False, frames.text_frame(frames.FAILED, frames.failure(QueryError(first_line(error))))
        if question.snapshot is None:
            self._close()  # a pool may want to start
        self._answers.write(last)
        self._answers.flush()
        return fit

    def _send_rows(self, question: Question) -> bool:
        try:
            reading = self._reading(question)
        except (duckdb.OutOfMemoryException, MemoryError) as error:  # the rows of the log are in memory, too
            raise TooMuchMemoryError(self._limits) from error
        except duckdb.Error as error:
            raise QueryError(first_line(error)) from error
        rows = up_to(reading.batches(question.sql, question.batch_rows), question.max_rows, question.max_bytes)
        while True:
            try:
                batch = next(rows)
            except StopIteration as ended:
                return bool(ended.value)
            self._send(batch)

    def _send(self, batch: pa.RecordBatch) -> None:
        try:
            head, body = frames.batch_frame(batch)
        except (MemoryError, pa.ArrowException) as error:
            raise TooMuchMemoryError(self._limits) from error
        if body.size > self._limits.answer:
            raise QueryError(f"one row of the answer has {body.size:,} bytes, more than an answer may have")
        self._answers.write(head)
        self._answers.write(body)
        self._answers.flush()

    def _reading(self, question: Question) -> Reading:
        """Of the file as the question means it, opened anew unless it is open so."""
        there = self._opened
        if there is None or there.snapshot != question.snapshot:
            self._close()
            there = self._opened = self._open(question)
        return there.reading

    def _close(self) -> None:
        there, self._opened = self._opened, None
        if there is not None:
            there.close()

    def _open(self, question: Question) -> Opened:
        path, snapshot = Path(question.path), question.snapshot
        if snapshot is None:
            con, files = connect_read_only(path, self._limits.duckdb), None
        else:
            files = SnapshotFiles(path, snapshot)
            try:
                con = connect_snapshot(files, URL, path, self._at_present(), self._spill)
            except BaseException:
                files.close()
                raise
        return Opened(snapshot, con, files, Reading(con, self._limits))

    def _at_present(self) -> QueryLimits:
        if self._spill is None:
            return self._limits
        free = shutil.disk_usage(self._spill).free
        return replace(self._limits, spill=min(self._limits.spill, free // _SPILL_SHARE))


def questions(pipe: int, idle_s: float) -> Iterator[Question]:
    """One after another, until the pipe ends or none comes within `idle_s`."""
    with os.fdopen(pipe, "rb") as lines:
        while select.select([pipe], [], [], idle_s)[0]:
            line = lines.readline()
            if not line:
                return
            yield Question.decode(line)


def end_with(owner: int) -> None:
    """From now on the kernel kills this process when the thread that started it ends, and so with its process."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != owner:
        os._exit(1)


def limit(limits: QueryLimits) -> None:
    """By how much this process may grow: private and writable memory, used or not. No core is dumped of it."""
    taken = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (taken + limits.growth, taken + limits.growth))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(told: str) -> None:
    """The life of the process; `told` is what its owner has to say, in JSON."""
    setup = json.loads(told)
    end_with(setup["owner"])
    limits = QueryLimits(**setup["limits"])
    limit(limits)
    with suppress(BrokenPipeError):
        answers = sys.stdout.buffer
        answers.write(frames.text_frame(frames.READY, None))
        answers.flush()
        answering = Answering(limits, setup["spill"] and Path(setup["spill"]), answers)
        for question in questions(sys.stdin.fileno(), IDLE_S):
            if not answering.answer(question):
                break
    os._exit(0)  # nothing is to be torn down


if __name__ == "__main__":
    main(sys.argv[1])
