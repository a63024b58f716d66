"""ParserProcess: statements are parsed in a process of its own first, which they may exhaust instead of the store's.

DuckDB 2.0 goes through some wrong statements for ever: 9 times `WITH a AS (` take minutes and all memory, and 3,000
times `(` take seconds, in which Python's lock is held. What was parsed here within the limits of time and memory is
parsed again, by the same DuckDB, where it is run.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import duckdb

from rabbitray.actors.errors import QueryError
from rabbitray.actors.store.guard.parsing import Parsed, parse

CPU_S = 5.0
_INHERITED = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPYCACHEPREFIX")  # no secrets

MEMORY = 512 * 1024 * 1024
"""Of one parser, beyond what it takes when it starts."""


_TOO_MUCH = "the statement takes too much time or memory to parse"


class ParserProcess:
    """Started by the first statement, and anew after one that ended it. Thread-safe; one statement at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def parse(self, sql: str) -> Parsed:
        """As `parsing.parse`, but raises QueryError for every error, and for a statement beyond the limits."""
        with self._lock:
            answer = self._asked(json.dumps(sql).encode() + b"\n")
        if not answer:
            raise QueryError(_TOO_MUCH)
        text, tree, error = json.loads(answer)
        if error is not None:
            raise QueryError(error)
        return Parsed(text, tree)

    def close(self) -> None:
        """Ends the process. May be called twice."""
        with self._lock:
            self._end()

    def _asked(self, question: bytes) -> bytes:
        """The answer, a line; empty from a process that ended over the question."""
        child = self._child
        if child is None or child.poll() is not None:
            self._end()
            child = self._child = _start()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(question)
            child.stdin.flush()
        except BrokenPipeError:
            answer = b""
        else:
            answer = child.stdout.readline()
        if not answer.endswith(b"\n"):
            self._end()
            return b""
        return answer

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate()


def _start() -> subprocess.Popen[bytes]:
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-m", "rabbitray.actors.store.guard.parser_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,
    )


def answer_all(questions: IO[bytes], answers: IO[bytes]) -> None:
    """The child: one line of JSON for each, until there are no more. A question beyond the limits ends the process."""
    con = duckdb.connect(config={"threads": 1})
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for question in questions:
        signal.setitimer(signal.ITIMER_PROF, CPU_S)  # its signal ends the process, whoever holds Python's lock
        answer = _answer(con, json.loads(question))
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _answer(con: duckdb.DuckDBPyConnection, sql: str) -> tuple[str, str, str | None]:
    try:
        parsed = parse(con, sql)
    except (duckdb.OutOfMemoryException, MemoryError):
        return "", "", _TOO_MUCH
    except Exception as error:  # noqa: BLE001 # whatever it is, it is the answer
        return "", "", next(iter(str(error).strip().splitlines()), type(error).__name__)
    return parsed.text, parsed.tree, None


if __name__ == "__main__":
    answer_all(sys.stdin.buffer, sys.stdout.buffer)
