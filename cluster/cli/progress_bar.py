"""A progress bar on standard error, for commands that take long; nothing where no terminal is."""

from __future__ import annotations

import os
import stat
from types import TracebackType
from typing import BinaryIO, Self

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from rabbitray.cluster.cli.terminal import Terminal


class Bar:
    """Shows how far a piece of work is; `total` None: not known. A context manager."""

    def __init__(self, text: str, total: int | None, *, quiet: bool = False) -> None:
        console = Terminal(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[done]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task(text, total=total, done="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self, by: int, done: int) -> None:
        """`by`: further, in the unit of the total; `done`: the number that people care for."""
        self._progress.update(self._task, advance=by, done=f"{done:,} done")


def size_left(stream: BinaryIO | None) -> int | None:
    """Bytes of a regular file; None for a pipe and for what is no file at all."""
    try:
        found = os.fstat(stream.fileno()) if stream is not None else None
    except OSError:  # a stream in memory
        return None
    return found.st_size if found is not None and stat.S_ISREG(found.st_mode) else None
