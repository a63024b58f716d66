"""Tally: what became of jobs and messages, counted as they are settled."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rabbitray.actors.router.settlement.retries import Rung
from rabbitray.actors.router.status import Counts
from rabbitray.actors.telemetry.metrics import Latency


@dataclass(slots=True)
class Tally:
    """What became of jobs and messages since the start, see Counts."""

    done: int = 0
    duplicates: int = 0
    skipped: int = 0  # of the duplicates: not run
    retried: int = 0
    dead: int = 0
    acked: int = 0
    given_back: int = 0  # messages, because an outcome of theirs was not safe
    postponed: int = 0
    spared: int = 0
    strays: int = 0
    split: int = 0
    renewed: int = 0
    again: int = 0
    latest_due_ms: int = 0  # of all that was put into a rung, Unix ms
    acked_at: float | None = None  # of the last ack, Unix seconds
    latency: Latency = field(default_factory=Latency)  # publish to ack, ms

    def note_due(self, rung: Rung) -> None:
        """A copy was put into a rung."""
        due_ms = rung.due_ms or time.time_ns() // 1_000_000 + rung.delay_ms
        self.latest_due_ms = max(self.latest_due_ms, due_ms)

    def counts(self) -> Counts:
        """The counts, as they are now."""
        return Counts(
            done=self.done,
            duplicates=self.duplicates,
            retried=self.retried,
            dead=self.dead,
            acked=self.acked,
            postponed=self.postponed,
            spared=self.spared,
            strays=self.strays,
            split=self.split,
            renewed=self.renewed,
            again=self.again,
            skipped=self.skipped,
        )
