"""A coverage-guided search: inputs are changed at random, and what reaches new lines is kept and changed further."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

Case = TypeVar("Case")
Step = tuple[str, int, int]
"""From one line to another, in a file."""


def search(
    seeds: Sequence[Case],
    tries: int,
    chance: random.Random,
    *,
    changed: Callable[[Case, Sequence[Case], random.Random], Case],
    check: Callable[[Case], None],
    files: Collection[str],
) -> list[Case]:
    """The seeds that reach steps of their own in `files`, and what was found beside them; raises what `check` does."""
    seen: set[Step] = set()
    found: list[Case] = []
    for number in range(len(seeds) + tries):
        case = seeds[number] if number < len(seeds) else changed(chance.choice(found), found, chance)
        before = len(seen)
        try:
            with _steps(seen, files):
                check(case)
        except BaseException:
            print(f"the input that is at fault: {case!r}")  # noqa: T201
            raise
        if len(seen) > before:
            found.append(case)
    return found


@contextmanager
def _steps(seen: set[Step], files: Collection[str]) -> Iterator[None]:
    """Adds each step from line to line in these files."""

    def on_call(frame: FrameType, _event: str, _arg: object) -> Any:  # Any: a trace function
        name = frame.f_code.co_filename
        if name not in files:
            return None
        before = 0

        def on_line(frame: FrameType, _event: str, _arg: object) -> Any:  # Any: as above
            nonlocal before
            seen.add((name, before, frame.f_lineno))
            before = frame.f_lineno
            return on_line

        return on_line

    others = sys.gettrace()
    sys.settrace(on_call)
    try:
        yield
    finally:
        sys.settrace(others)
