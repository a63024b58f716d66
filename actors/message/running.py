"""How a job reaches the run that it is in: what `job.progress` and `job.deadline` ask. Pure.

Workers of this process register what they run; outside a run nobody is registered, and nothing is told.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from rabbitray.actors.message.job import Job


class RunningJobs(Protocol):
    """The jobs that run in one worker. Both may be called from any thread; a job that does not run here is no error."""

    def progress(self, job: Job, fraction: float, text: str) -> bool:
        """Notes how far a job is; False where it does not run here."""
        ...

    def deadline(self, job: Job) -> datetime | None:
        """When the run of a job is ended; None where it does not run here."""
        ...


RUNNING: Final[list[RunningJobs]] = []
"""Of the workers of this process, which is one but in tests."""
