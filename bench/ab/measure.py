"""One round: `rounds.py` of both sides, each in a process of its own, of which only one is at work at any time.

Both stop at the marks of `rounds.py` until they are answered. So the driver lets them take turns from one measured
window to the next, seconds apart, and counts the CPU of all their processes within.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from bench.ab.processes import MARK, NOT_COUNTED, Tree
from bench.ab.sides import Side, Unusable

SCRIPT: Final = Path(__file__).with_name("rounds.py")
TURN_WITHIN_S: Final = 600.0
LOOK_S: Final = 0.5
ENDS_WITHIN_S: Final = 60.0

CpuUs = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one side found: `result` as its code gives it; µs of CPU per message, by window and role."""

    result: Any  # JSON
    cpu_us: CpuUs


def counted_us(by_role: Mapping[str, float]) -> float:
    """The sum over processes that the rule asks for: without the broker's and Ray's own."""
    return sum(spent for name, spent in by_role.items() if name not in NOT_COUNTED)


def take_turns(rounds: Sequence[Round]) -> list[Measured]:
    """Runs all to their ends: one turn each, then one turn each in the opposite order, and so on."""
    left, order = set(rounds), list(rounds)
    while left:
        for one in order:
            if one in left and not one.turn():
                left.remove(one)
        order.reverse()
    return [one.measured() for one in rounds]


class Round:
    """One side's process: started by its first turn, ended with the block, whatever became of it."""

    def __init__(self, side: Side, bench: str, *, url: str, broker_pid: int = 0) -> None:
        self._side, self._bench, self._url = side, bench, url
        self._extra = {"broker": broker_pid} if broker_pid else {}
        self._log = side.folder.with_suffix(".log")
        self._all = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: Iterator[dict[str, Any]] = iter(())  # Any: JSON values
        self._before: dict[tuple[int, int], float] = {}
        self._spent_s: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._messages: dict[str, int] = defaultdict(int)
        self._result: Any = None  # Any: JSON

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._all.close()

    def turn(self) -> bool:
        """Up to the end of the next window; False after the last turn. Unusable where the side fails."""
        if self._process is None:
            self._process = self._start()
        else:
            self._answer()
        for line in self._lines:
            if "figures" in line:
                self._result = line["figures"]
                self._tree.wait_for_root(ENDS_WITHIN_S)  # with Ray and the rest, in order
                return False
            self._note(line)
            if "begin" not in line:
                return True
            self._answer()
        raise self._failed()

    def measured(self) -> Measured:
        """After the last turn."""
        cpu_us = {
            window: {name: spent_s / self._messages[window] * 1e6 for name, spent_s in by_role.items()}
            for window, by_role in self._spent_s.items()
        }
        return Measured(result=self._result, cpu_us=cpu_us)

    def _start(self) -> subprocess.Popen[bytes]:
        """In a session of its own, so that Ctrl-C is the driver's alone."""
        mark = uuid.uuid4().hex
        own = {"PYTHONPATH": str(self._side.folder), "RABBITMQ_URL": self._url, MARK: mark}
        process = self._all.enter_context(
            subprocess.Popen(
                [self._side.python, str(SCRIPT), self._bench],
                cwd=self._side.folder,
                env={**os.environ, **own},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._all.enter_context(self._log.open("wb")),
                bufsize=0,
                start_new_session=True,
            )
        )
        self._tree = Tree(process.pid, mark, self._extra)
        self._all.callback(self._tree.end)
        assert process.stdout is not None
        self._lines = self._read(process.stdout.fileno())
        return process

    def _note(self, line: dict[str, Any]) -> None:  # Any: JSON values
        if "begin" in line:
            self._before = self._tree.look()
        elif "end" in line:
            window = line["end"]
            self._messages[window] += line["count"]
            for name, spent_s in self._tree.spent_s(self._before).items():
                self._spent_s[window][name] += spent_s

    def _answer(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended; its last lines say why
            self._process.stdin.write(b"\n")

    def _read(self, pipe: int) -> Iterator[dict[str, Any]]:  # Any: JSON values
        """Until the round closes its end; Unusable where a line takes too long."""
        rest, deadline = b"", time.monotonic() + TURN_WITHIN_S
        while time.monotonic() < deadline:
            if not select.select([pipe], [], [], LOOK_S)[0]:
                self._tree.look()  # a process that ends before the next mark keeps what it was seen to have spent
                continue
            read = os.read(pipe, 65_536)
            if not read:
                return
            *lines, rest = (rest + read).split(b"\n")
            yield from map(json.loads, lines)
            deadline = time.monotonic() + TURN_WITHIN_S
        raise Unusable(f"{self._bench} at {self._side.name} did not go on for {TURN_WITHIN_S:g} s")

    def _failed(self) -> Unusable:
        last = self._log.read_text(errors="replace").strip().splitlines()[-15:]
        where = f"{self._side.name} ({self._side.commit[:12]})"
        return Unusable("\n".join([f"a round of {self._bench} failed at {where}:", *last]))
