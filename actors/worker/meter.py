"""Measurements of a worker's process: durations of jobs, CPU and memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rabbitray.actors.telemetry import kpi
from rabbitray.actors.telemetry.metrics import Recorder, sample


class Timed(Protocol):
    """A job that ran: from when to when, in microseconds."""

    started_us: int
    finished_us: int


class WorkerMeter:
    """Records what one worker does: a sample of its jobs' durations at each part, its process at each look."""

    def __init__(self, metrics: Recorder) -> None:
        self._metrics = metrics
        self._jobs = 0
        self._at: float | None = None

    def jobs(self, done: Sequence[Timed]) -> None:
        """The jobs of one part."""
        self._jobs += len(done)
        for job in sample(done):
            self._metrics.record(kpi.PROCESSING_DURATION.name, max(0, job.finished_us - job.started_us) / 1000)

    def unasked(self, jobs: int) -> None:
        """So many jobs were run although the store did not say whether they have their result."""
        self._metrics.record(kpi.UNASKED.name, jobs)

    def look(self, now: float, *, cpu_percent: float, rss_bytes: int) -> None:
        """One look at the process; `now` in monotonic seconds."""
        if self._at is not None and now > self._at:
            self._metrics.record(kpi.WORKER_THROUGHPUT.name, self._jobs / (now - self._at))
        self._jobs, self._at = 0, now
        self._metrics.record(kpi.WORKER_CPU.name, cpu_percent)
        self._metrics.record(kpi.WORKER_MEMORY.name, rss_bytes)
