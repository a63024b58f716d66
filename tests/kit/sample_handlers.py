"""Handlers of every shape, for the tests of loading and running."""

from __future__ import annotations

import threading
from typing import Any

from rabbitray import Job, Reject, Retry
from rabbitray.actors.worker.handlers import batch

NOT_CALLABLE = 7
closed: list[str] = []
calls: list[list[str | None]] = []


def plain(job: Job) -> Any:
    return job.payload


async def asynchronous(job: Job) -> Any:
    return job.payload


@batch
def many(jobs: list[Job]) -> list[Any]:
    """Raises as a whole when a payload is `bad`; gives each `reject` its own verdict."""
    calls.append([job.id for job in jobs])
    if any(job.payload == "bad" for job in jobs):
        raise ConnectionError("one of them is bad")
    return [_answer(job) for job in jobs]


@batch
async def many_asynchronous(jobs: list[Job]) -> list[Any]:
    return many(jobs)


@batch
def too_few(jobs: list[Job]) -> list[Any]:
    return [None] * (len(jobs) - 1)


@batch
def no_list(jobs: list[Job]) -> Any:
    return "all done"


class WithSetUp:
    def __init__(self) -> None:
        self.ready = False

    def setup(self) -> None:
        self.ready = True

    def __call__(self, job: Job) -> Any:
        assert self.ready
        return threading.current_thread().name

    def close(self) -> None:
        closed.append("plain")


class AsynchronousWithSetUp:
    async def __call__(self, job: Job) -> Any:
        return job.payload

    async def close(self) -> None:
        closed.append("async")


@batch
class ManyWithSetUp:
    def __call__(self, jobs: list[Job]) -> list[Any]:
        return [job.payload for job in jobs]


class NotCallable:
    """No __call__."""


class AsynchronousSetUp:
    async def setup(self) -> None: ...

    def __call__(self, job: Job) -> None: ...


class FailingSetUp:
    def setup(self) -> None:
        raise RuntimeError("no database")

    def __call__(self, job: Job) -> None: ...


def _answer(job: Job) -> Any:
    match job.payload:
        case "reject":
            return Reject("no")
        case "retry":
            return Retry("later", after_s=9)
    return job.payload
