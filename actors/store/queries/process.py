"""QueryProcess: a process that runs queries, one at a time, as its owner sees it.

It is started by its first question, ends by itself when none comes for a while, and with its owner. It knows no secrets
and has no descriptor of its owner's but its two pipes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Final

import pyarrow as pa

from rabbitray.actors.errors import QueryError
from rabbitray.actors.store.config import MIB, QueryLimits
from rabbitray.actors.store.guard.parsing import require_short
from rabbitray.actors.store.queries import frames
from rabbitray.actors.store.queries.frames import ProcessGoneError, Question

SPILL_PREFIX: Final = "query-"
_INHERITED = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPYCACHEPREFIX")  # no secrets
_OF_ALLOCATORS = {"DUCKDB_JE_MALLOC_CONF": "retain:false", "ARROW_DEFAULT_MEMORY_POOL": "system"}
"""Else they keep addresses that they do not use, which the kernel's limit counts."""


class QueryProcess:
    """Blocking; one `Query` at a time, but `kill` from any thread. `spill`: the folder in which it may have one of its
    own; None: it writes nothing. `returned`: what the last one that ended did.
    """

    def __init__(self, limits: QueryLimits, spill: Path | None = None) -> None:
        self.limits = limits
        self.returned: int | None = None
        self._spill = spill
        self._child: subprocess.Popen[bytes] | None = None
        self._killed: subprocess.Popen[bytes] | None = None  # it may be there for a moment still
        self._folder: Path | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Starts the process where there is none, and waits until it takes questions."""
        child = self._child
        if child is not None and child is not self._killed and child.poll() is None:
            return child
        self.close()
        try:
            child = self._child = self._start()
        except OSError as error:  # a full disk, too many processes
            raise QueryError(f"no process can be started for the query: {error}") from error
        assert child.stdout is not None
        frames.read_frame(child.stdout.fileno(), self.limits.growth)
        return child

    def ask(self, line: bytes) -> int:
        """Hands a question over, to a new process where there is none; the descriptor of its answers."""
        child = self.start()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(line)
            child.stdin.flush()
        except BrokenPipeError as error:
            raise ProcessGoneError from error
        return child.stdout.fileno()

    def kill(self) -> None:
        """At once, without waiting; `close` comes after it."""
        child = self._killed = self._child
        if child is not None:
            child.kill()

    def close(self) -> None:
        """Ends the process and waits for that. May be called twice."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate()
            self.returned = child.returncode
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)  # the next start of the store looks after what is left

    def _start(self) -> subprocess.Popen[bytes]:
        if self._spill is not None:
            self._spill.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix=SPILL_PREFIX, dir=self._spill))
        places = os.pathsep.join(place or os.getcwd() for place in sys.path)
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        told = {"owner": os.getpid(), "limits": asdict(self.limits), "spill": self._folder and str(self._folder)}
        return subprocess.Popen(  # -P: what lies in the folder of whoever asks is no module of ours
            [sys.executable, "-P", "-m", "rabbitray.actors.store.queries.child", json.dumps(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment | _OF_ALLOCATORS | {"PYTHONPATH": places},
            start_new_session=True,
        )


class Query:
    """One question to a process that nobody else asks meanwhile. `why` it was ended, "" as long as it was not."""

    def __init__(self, process: QueryProcess) -> None:
        self.process = process
        self.why = ""

    def end(self, why: str) -> None:
        """At once, from any thread, without waiting: its process is killed. What was read until then is thrown away."""
        self.why = self.why or why
        self.process.kill()

    def prepare(self) -> None:
        """Its process takes questions from now on: to start one takes longer than a snapshot should be held for it.

        Raises QueryError.
        """
        try:
            self.process.start()
        except ProcessGoneError as gone:
            self.process.close()
            raise QueryError(self.why or self._fate()) from gone

    def batches(self, question: Question) -> Generator[pa.RecordBatch, None, bool]:
        """The rows, a record batch at a time, at least one; whether there were more. Raises QueryError, and for a
        file without a snapshot what `connect_read_only` raises.
        """
        require_short(question.sql)
        answered = False
        try:
            pipe, kind, body = self._begun(question.encode())
            while kind == frames.BATCH:
                yield frames.batch_of(body)
                kind, body = self._next(pipe)
            answered = True
        except ProcessGoneError as gone:
            self.process.close()
            raise QueryError(self.why or self._fate()) from gone
        finally:
            if not answered:
                self.process.close()
        if kind == frames.FAILED:
            raise frames.error_of(body)
        return bool(json.loads(body))

    def _begun(self, line: bytes) -> tuple[int, bytes, bytearray]:
        """The pipe and the first frame. A process that was there may have ended just now, for want of questions."""
        try:
            pipe = self._ask(line)
            return pipe, *self._next(pipe)
        except ProcessGoneError:
            self.process.close()
            if self.why or self.process.returned != 0:
                raise
        pipe = self._ask(line)
        return pipe, *self._next(pipe)

    def _ask(self, line: bytes) -> int:
        pipe = self.process.ask(line)
        if self.why:  # ended before the process was there to be killed
            raise ProcessGoneError
        return pipe

    def _next(self, pipe: int) -> tuple[bytes, bytearray]:
        frame = frames.read_frame(pipe, self.process.limits.growth)
        if self.why:
            raise ProcessGoneError
        return frame

    def _fate(self) -> str:
        returned = self.process.returned
        end = f"exit code {returned}" if returned is None or returned >= 0 else signal.Signals(-returned).name
        most = self.process.limits.growth // MIB
        return (
            f"the query ended its process ({end}): it goes too deep, or needs more memory than the {most:,} MiB that a "
            "query may take"
        )


def remove_leftovers(spill: Path) -> None:
    """The folders of processes whose owner was killed. Only for who holds the results file."""
    for folder in spill.glob(f"{SPILL_PREFIX}*"):
        shutil.rmtree(folder, ignore_errors=True)
