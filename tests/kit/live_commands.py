"""Child process of a test: runs `rabbitray` commands one after the other in one process, so that Ray is imported once.

Standard input: a JSON list of their arguments. Ends with the code of the first one that fails, or 0.
"""

from __future__ import annotations

import json
import shlex
import sys
import time

from rabbitray.cluster.cli.app import main

DEGRADED = 1
WELL_WITHIN_S = 30.0


def code_of(arguments: list[str]) -> int:
    """Runs one command as its program would."""
    try:
        main(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def patient_code_of(arguments: list[str]) -> int:
    """As `code_of`; on a busy machine a pool may be degraded for a moment, which is what `status` then ends with."""
    deadline = time.monotonic() + WELL_WITHIN_S
    while (code := code_of(arguments)) == DEGRADED and arguments[0] == "status" and time.monotonic() < deadline:
        time.sleep(0.5)
    return code


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def run_all(commands: list[list[str]]) -> int:
    """Says what it runs, as a shell with `set -x` does."""
    for arguments in commands:
        say(f"+ rabbitray {shlex.join(arguments)}")
        began = time.monotonic()
        if code := patient_code_of(arguments):
            say(f"+ ended with {code}")
            return code
        say(f"+ took {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(run_all(json.load(sys.stdin)))
