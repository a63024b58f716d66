"""One round of one side: `rounds.py` in a process of its own, and the CPU of all its processes meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.ab.processes import MARK, NOT_COUNTED, Tree
from bench.ab.sides import Side, Unusable

SCRIPT: Final = Path(__file__).with_name("rounds.py")
ROUND_WITHIN_S: Final = 600.0
LOOK_S: Final = 0.5
ENDS_WITHIN_S: Final = 60.0

Spent = dict[tuple[int, int], float]
CpuUs = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one round found: `result` as the side's code gives it; µs of CPU per message, by window and role."""

    result: Any  # JSON
    cpu_us: CpuUs


def counted_us(by_role: Mapping[str, float]) -> float:
    """The sum over processes that the rule asks for: without the broker's and Ray's own."""
    return sum(spent for name, spent in by_role.items() if name not in NOT_COUNTED)


def measure(side: Side, bench: str, *, url: str, broker_pid: int = 0) -> Measured:
    """Runs one round to its end; Unusable, with the end of what it printed, where that fails."""
    mark = uuid.uuid4().hex
    log = side.folder.with_suffix(".log")
    with log.open("wb") as printed, _started(side, bench, mark, url, printed) as process:
        tree = Tree(process.pid, mark, {"broker": broker_pid} if broker_pid else {})
        try:
            found = _Conversation(process, tree).result()
        finally:
            tree.end()
    if found is None:
        last = log.read_text(errors="replace").strip().splitlines()[-15:]
        raise Unusable("\n".join([f"a round of {bench} failed at {side.name} ({side.commit[:12]}):", *last]))
    return found


@contextlib.contextmanager
def _started(side: Side, bench: str, mark: str, url: str, printed: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A session of its own, so that Ctrl-C is ours alone."""
    own = {"PYTHONPATH": str(side.folder), "RABBITMQ_URL": url, MARK: mark}
    with subprocess.Popen(
        [side.python, str(SCRIPT), bench],
        cwd=side.folder,
        env={**os.environ, **own},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=printed,
        bufsize=0,
        start_new_session=True,
    ) as process:
        yield process


class _Conversation:
    """With one round: answers its marks, looks at its processes between them."""

    def __init__(self, process: subprocess.Popen[bytes], tree: Tree) -> None:
        self._process = process
        self._tree = tree
        self._before: Spent = {}
        self._spent_s: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._messages: dict[str, int] = defaultdict(int)

    def result(self) -> Measured | None:
        """None where the round ended without figures."""
        for line in self._lines():
            if "figures" in line:
                self._tree.wait_for_root(ENDS_WITHIN_S)  # with Ray and the rest, in order
                return Measured(result=line["figures"], cpu_us=self._cpu_us())
            self._note(line)
            self._answer()
        return None

    def _note(self, line: dict[str, Any]) -> None:  # Any: JSON values
        if "begin" in line:
            self._before = self._tree.look()
            return
        window = line["end"]
        self._messages[window] += line["count"]
        for name, spent_s in self._tree.spent_s(self._before).items():
            self._spent_s[window][name] += spent_s

    def _cpu_us(self) -> CpuUs:
        return {
            window: {name: spent_s / self._messages[window] * 1e6 for name, spent_s in by_role.items()}
            for window, by_role in self._spent_s.items()
        }

    def _answer(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended; its last lines say why
            self._process.stdin.write(b"\n")

    def _lines(self) -> Iterator[dict[str, Any]]:  # Any: JSON values
        """Until the round closes its end; Unusable where it takes too long."""
        assert self._process.stdout is not None
        pipe, rest, deadline = self._process.stdout.fileno(), b"", time.monotonic() + ROUND_WITHIN_S
        while time.monotonic() < deadline:
            if not select.select([pipe], [], [], LOOK_S)[0]:
                self._tree.look()  # a process that ends before the next mark keeps what it was seen to have spent
                continue
            read = os.read(pipe, 65_536)
            if not read:
                return
            *lines, rest = (rest + read).split(b"\n")
            yield from map(json.loads, lines)
        raise Unusable(f"a round took more than {ROUND_WITHIN_S:g} s")
