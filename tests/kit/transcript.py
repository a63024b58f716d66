"""Transcript: what was done to a cluster and when, and a row of the table for each fault, as they happen."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

COLUMNS: Final = (
    "fault", "work again after s", "at most s", "orders", "lost, doubled, charged", "handlers run twice",
    "of them not on the host itself", "lines of the job's log",
)  # fmt: skip


class Transcript:
    """Writes each line at once, so that a run that is ended early has told what it knew; and keeps it in `file`."""

    def __init__(self, write: Callable[[str], None], file: Path) -> None:
        self._write, self._file = write, file
        file.parent.mkdir(parents=True, exist_ok=True)

    def columns(self) -> None:
        """Begins a table."""
        self._say(f"| {' | '.join(COLUMNS)} |")

    def event(self, text: str) -> None:
        """What is done now."""
        self._say(f"{datetime.now(UTC):%H:%M:%S} {text}")

    def row(self, *cells: object) -> None:
        """One of the table; as many cells as there are COLUMNS."""
        assert len(cells) == len(COLUMNS), cells
        self._say(f"| {' | '.join(f'{cell:.1f}' if isinstance(cell, float) else str(cell) for cell in cells)} |")

    def _say(self, line: str) -> None:
        self._write(line)
        with self._file.open("a") as kept:
            kept.write(f"{line}\n")
