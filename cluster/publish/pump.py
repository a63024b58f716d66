"""Publishes a feed: part after part, paced, counted, and stopped when nothing gets through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass, field
from typing import Final, Protocol

from rabbitray.actors.message.job import Job
from rabbitray.actors.publisher import FailedJob, PublishReport
from rabbitray.cluster.publish.feed import BadLine, Chunk

KINDS: Final = ("unroutable", "refused", "timed_out", "uncertain", "unwritable")
ERRORS_KEPT: Final = 20
HOPELESS_FROM: Final = 20
"""A slice of at least so many jobs of which none was confirmed ends the command."""

MOST_AT_ONCE: Final = 2_000
LINGER_S: Final = 0.1
"""What an unfilled packed message waits for more jobs; a slow pipe holds back nothing for longer."""


class Sender(Protocol):
    """What sends jobs, as `Publisher` does it."""

    async def publish_many(self, jobs: Sequence[Job], packed: int = 0) -> PublishReport: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SendPace:
    """`packed`: jobs in one message, 0 for one each. `rate`: messages per second, 0 for as fast as it goes."""

    packed: int = 0
    rate: float = 0.0

    @property
    def slice_jobs(self) -> int:
        """Jobs that go out together: a tenth of a second's worth, about 2,000 at most, in whole messages."""
        each = max(1, self.packed)
        most = max(1, MOST_AT_ONCE // each)
        return each * (most if not self.rate else min(most, max(1, int(self.rate / 10))))

    def due_s(self, jobs: int) -> float:
        """When, after the start, so many jobs may have gone out."""
        return jobs / max(1, self.packed) / self.rate if self.rate else 0.0


@dataclass(slots=True, kw_only=True)
class Sent:
    """What became of a feed. `errors`: the first texts, for people. `stopped`: why it ended early."""

    published: int = 0
    failed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    bad_lines: int = 0
    errors: list[str] = field(default_factory=list)
    duration_s: float = 0.0
    stopped: str | None = None

    @property
    def ok(self) -> bool:
        """Whether everything was confirmed."""
        return not self.bad_lines and not any(self.failed.values()) and self.stopped is None

    @property
    def rate(self) -> float:
        """Confirmed jobs per second."""
        return self.published / self.duration_s if self.duration_s else 0.0


class Pump:
    """Sends a feed. `on_bad`: called with each bad line; `on_sent`: with bytes (or jobs) read and jobs confirmed."""

    def __init__(
        self,
        sender: Sender,
        pace: SendPace,
        *,
        strict: bool = False,
        on_bad: Callable[[BadLine], None] = lambda _: None,
        on_sent: Callable[[int, int], None] = lambda *_: None,
        span: Callable[[int], AbstractContextManager[object]] = lambda _: nullcontext(),
    ) -> None:
        self._sender = sender
        self._pace = pace
        self._strict = strict
        self._on_bad = on_bad
        self._on_sent = on_sent
        self._span = span
        self._handed_out = 0
        self.sent = Sent()

    async def run(self, feed: AsyncIterator[Chunk]) -> Sent:
        """Sends until the feed ends, or nothing gets through any more; what was confirmed is counted either way."""
        began = time.monotonic()
        try:
            async with aclosing(filled(feed, self._pace.packed)) as parts:
                async for part in parts:
                    await self._part(part, began)
                    if self.sent.stopped is not None:
                        break
        finally:
            self.sent.duration_s = time.monotonic() - began
        return self.sent

    async def _part(self, part: Chunk, began: float) -> None:
        for jobs in self._slices(part.jobs):
            await asyncio.sleep(max(0.0, began + self._pace.due_s(self._handed_out) - time.monotonic()))
            self._handed_out += len(jobs)
            with self._span(len(jobs)):
                self._count(len(jobs), await self._sender.publish_many(jobs, self._pace.packed))
            if self.sent.stopped is not None:
                return
        self._count_bad(part.bad)
        self._on_sent(part.size, self.sent.published)

    def _slices(self, jobs: list[Job]) -> Iterator[list[Job]]:
        size = self._pace.slice_jobs
        return (jobs[start : start + size] for start in range(0, len(jobs), size))

    def _count(self, size: int, report: PublishReport) -> None:
        self.sent.published += len(report.confirmed)
        for kind in KINDS:
            some: tuple[FailedJob, ...] = getattr(report, kind)
            self.sent.failed[kind] += len(some)
            for one in some[: ERRORS_KEPT - len(self.sent.errors)]:
                self.sent.errors.append(f"{one.job.id}: {kind}: {one.error}")
        if not report.confirmed and len(report.unwritable) < size and size >= HOPELESS_FROM:
            self.sent.stopped = f"none of the last {size:,} jobs was confirmed"

    def _count_bad(self, bad: list[BadLine]) -> None:
        self.sent.bad_lines += len(bad)
        for line in bad:
            self._on_bad(line)
        if bad and self._strict:
            self.sent.stopped = f"line {bad[0].number} is no job"


async def filled(feed: AsyncIterator[Chunk], packed: int) -> AsyncGenerator[Chunk]:
    """The parts of a feed, cut so that messages of `packed` jobs are full while more jobs come within LINGER_S."""
    rest: list[Job] = []
    coming: asyncio.Future[Chunk | None] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(_next(feed))
            if not (await asyncio.wait({coming}, timeout=LINGER_S if rest else None))[0]:
                yield Chunk(jobs=rest)
                rest = []
                continue
            part, coming = coming.result(), None
            if part is None:
                break
            jobs = rest + part.jobs
            full = len(jobs) if part.bad else len(jobs) - len(jobs) % max(1, packed)
            rest = jobs[full:]
            yield Chunk(jobs=jobs[:full], bad=part.bad, size=part.size)
        if rest:
            yield Chunk(jobs=rest)
    finally:
        if coming is not None:
            coming.cancel()


async def _next(feed: AsyncIterator[Chunk]) -> Chunk | None:
    return await anext(feed, None)
