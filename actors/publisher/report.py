"""What publishing many jobs, and closing, came to. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from actors.errors import (
    EncodeError,
    PublisherClosedError,
    PublishTimeoutError,
    RefusedError,
    UncertainError,
    UnroutableError,
)
from actors.job import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedJob:
    """A job that was not confirmed, and why; the class of `error` says how certain that is."""

    job: Job
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishReport:
    """How each of many jobs ended; every job is in exactly one of the six.

    Certain: `confirmed` jobs are in a queue; `unroutable`, `refused` and `unwritable` ones are in none.
    Ambiguous: `timed_out` and `uncertain` ones may still arrive; publish them again under the same id.
    """

    confirmed: tuple[Job, ...] = ()
    unroutable: tuple[FailedJob, ...] = ()
    refused: tuple[FailedJob, ...] = ()
    timed_out: tuple[FailedJob, ...] = ()
    uncertain: tuple[FailedJob, ...] = ()
    unwritable: tuple[FailedJob, ...] = ()

    @property
    def failed(self) -> tuple[FailedJob, ...]:
        """All jobs that were not confirmed."""
        return self.unroutable + self.refused + self.timed_out + self.uncertain + self.unwritable

    @property
    def ok(self) -> bool:
        """True when every job was confirmed."""
        return not self.failed


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseReport:
    """What stayed open when a publisher closed: ids of messages whose confirm had not come. Empty is good."""

    open: tuple[str, ...] = ()


_KINDS: dict[type[Exception], str] = {
    UnroutableError: "unroutable",
    RefusedError: "refused",
    PublishTimeoutError: "timed_out",
    UncertainError: "uncertain",
    EncodeError: "unwritable",
    PublisherClosedError: "refused",
}


def report(ends: Iterable[tuple[Job, Exception | None]]) -> PublishReport:
    """Return the report of jobs and what each ended with (None: confirmed); unknown errors are uncertain."""
    confirmed: list[Job] = []
    failed: dict[str, list[FailedJob]] = {kind: [] for kind in _KINDS.values()}
    for job, error in ends:
        if error is None:
            confirmed.append(job)
        else:
            failed[_KINDS.get(type(error), "uncertain")].append(FailedJob(job=job, error=error))
    return PublishReport(confirmed=tuple(confirmed), **{kind: tuple(some) for kind, some in failed.items()})
