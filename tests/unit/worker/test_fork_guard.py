"""A handler may fork: the child ends where it leaves the handler, and the parent's batch goes on as if nothing was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from rabbitray.actors.worker.fork_guard import exit_code
from tests.kit.forking_handlers import AROUND, LEAVES, SHAPES
from tests.kit.root import ROOT


@pytest.mark.slow
def test_a_forked_child_ends_where_it_leaves_the_handler(tmp_path: Path) -> None:
    """In a process of its own: what a child that goes on would do is done in there."""
    seen = tmp_path / "seen"
    command = [sys.executable, "-m", "tests.kit.forking_handlers", str(seen)]
    parent = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    )
    try:
        out, err = parent.communicate(timeout=60)
    finally:
        end_all_of(parent)
    entered = [f"{shape} {how}" for shape in SHAPES for how in SHAPES[shape]] + [f"SetUp {how}" for how in AROUND]
    lines = [line.split(" ", 1) for line in seen.read_text().splitlines()]
    assert sorted(what for _, what in lines) == sorted(entered)
    assert {pid for pid, _ in lines} == {str(parent.pid)}, "no child entered a handler"
    expected = {shape: [LEAVES.get(how, 0) for how in SHAPES[shape]] for shape in SHAPES}
    assert [json.loads(line) for line in out.splitlines()] == [expected], "and only the parent answers"
    told = [line for line in err.splitlines() if f"forked by the handler's code in process {parent.pid}, " in line]
    assert len(told) == len(entered)
    assert sum(r"raised ValueError: from the\x1b[2J child: it ends here with code 1" in line for line in told) == 6


def end_all_of(parent: subprocess.Popen[str]) -> None:
    """Children that went on, too."""
    with suppress(ProcessLookupError):
        os.killpg(parent.pid, 9)
    parent.wait()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (SystemExit(), 0),
        (SystemExit(0), 0),
        (SystemExit(3), 3),
        (SystemExit(-1), 255),
        (SystemExit(256), 0),
        (SystemExit("text"), 1),
        (KeyboardInterrupt(), 1),
        (ValueError(), 1),
    ],
)
def test_the_exit_code_is_the_interpreter_s(error: BaseException | None, code: int) -> None:
    assert exit_code(error) == code
