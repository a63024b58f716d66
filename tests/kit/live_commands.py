"""`rabbitray` commands one after the other in one process beside the test's own, so that Ray is imported once.

The child reads one command a line, `[arguments, environ]` in JSON, and answers with one JSON object each.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shlex
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO

from rabbitray.cluster.cli.app import main
from tests.kit.command_line import Ran
from tests.kit.eventually import eventually_sync
from tests.kit.root import ROOT

DEGRADED = 1


class LiveCommands:
    """Commands in a process of their own; `told` is what they printed, as a shell with `set -x` shows it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.told: list[str] = []

    def run(self, *arguments: str, **environ: str) -> Ran:
        """Runs one to its end, whatever that is; `environ` is there from now on."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([arguments, environ]) + "\n")
        self._process.stdin.flush()
        ran = Ran(**json.loads(self._process.stdout.readline()))
        self.told.append(f"+ rabbitray {shlex.join(arguments)}\n{ran.out}{ran.err}+ ended with {ran.code}\n")
        return ran

    def ask(self, *arguments: str) -> str:
        """What it prints; it must end with 0.

        On a busy machine a pool may be degraded for a moment, which is what `status` then ends with: it is run again.
        """

        def settled() -> Ran | None:
            ran = self.run(*arguments)
            return None if ran.code == DEGRADED and arguments[0] == "status" else ran

        ran = eventually_sync(settled, message="the pool stays degraded")
        assert ran is not None
        assert ran.code == 0, "".join(self.told)
        return ran.out


@contextlib.contextmanager
def live_commands(environ: Mapping[str, str], *, folder: Path = ROOT) -> Iterator[LiveCommands]:
    """They run in `folder`, with `environ` over the environment of the test run."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.kit.live_commands"],
        cwd=folder,
        env=os.environ | environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:  # its end is the end of its input
        yield LiveCommands(process)


class Printed(io.TextIOWrapper):
    """Takes what a command prints, also the bytes that it writes to the `buffer`."""

    def __init__(self) -> None:
        self._bytes = io.BytesIO()
        super().__init__(self._bytes, encoding="utf-8", write_through=True)

    @property
    def text(self) -> str:
        """All of it so far."""
        return self._bytes.getvalue().decode()


def ran(arguments: list[str], environ: dict[str, str]) -> Ran:
    """Runs one command as its program would."""
    os.environ.update(environ)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    out, err, code = Printed(), Printed(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except Exception:  # noqa: BLE001 # whatever it is, Python would print it and end with 1
            traceback.print_exc()
            code = 1
    root.handlers[:], root.level = handlers, level  # a command sets up the log of its process
    return Ran(code=code, out=out.text, err=err.text)


def answer_all(questions: IO[str], answers: IO[str]) -> None:
    for line in questions:
        answers.write(json.dumps(asdict(ran(*json.loads(line)))) + "\n")
        answers.flush()


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # whatever Ray prints there is no answer
        answer_all(sys.stdin, answers)
