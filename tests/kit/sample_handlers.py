"""Handlers of every shape, for the tests of loading and running."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from rabbitray import Job, Reject, Retry
from rabbitray.actors.worker.handler.loading import batch

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


class ExitsInSetUp:
    def setup(self) -> None:
        sys.exit("MAIL_TOKEN is not set")

    def __call__(self, job: Job) -> None: ...


class ExitsWhenMade:
    def __init__(self) -> None:
        sys.exit("MAIL_TOKEN is not set")

    def __call__(self, job: Job) -> None: ...


class InterruptsSetUp:
    def setup(self) -> None:
        raise KeyboardInterrupt

    def __call__(self, job: Job) -> None: ...


class _Later:
    def __await__(self) -> Iterator[None]:
        yield


class SetUpIsAwaitable:
    def setup(self) -> Any:
        return _Later()

    def __call__(self, job: Job) -> None: ...


def two_arguments(job: Job, database: str) -> None: ...


def no_argument() -> None: ...


def named_only(*, job: Job) -> None: ...


def needs_a_name(job: Job, *, database: str) -> None: ...


@batch
def many_and_one_more(jobs: list[Job], database: str) -> None: ...


class CallOfTwo:
    def __call__(self, job: Job, database: str) -> None: ...


class MadeOfOne:
    def __init__(self, database: str) -> None: ...

    def __call__(self, job: Job) -> None: ...


class SetUpOfOne:
    def setup(self, database: str) -> None: ...

    def __call__(self, job: Job) -> None: ...


def generator(job: Job) -> Iterator[Any]:
    yield job.payload


async def asynchronous_generator(job: Job) -> AsyncIterator[Any]:
    yield job.payload


class GeneratorCall:
    def __call__(self, job: Job) -> Iterator[Any]:
        yield job.payload


PARTIAL_GENERATOR = functools.partial(generator)
PARTIAL = functools.partial(two_arguments, database="here")


def _with_database(function: Callable[[Job, str], None]) -> Callable[[Job], None]:
    @functools.wraps(function)
    def inner(job: Job) -> None:
        return function(job, "here")

    return inner


@_with_database
def injected(job: Job, database: str) -> None: ...


def with_defaults(job: Job, database: str = "here", *, table: str = "jobs") -> None: ...


def any_arguments(*arguments: Any, **named: Any) -> None: ...


class CallIsStatic:
    @staticmethod
    def __call__(job: Job) -> None: ...


def _answer(job: Job) -> Any:
    match job.payload:
        case "reject":
            return Reject("no")
        case "retry":
            return Retry("later", after_s=9)
    return job.payload
