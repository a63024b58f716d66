"""What `publish` reads and how it sends, without a broker."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitray.actors.errors import UnroutableError
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.wire import REPORT_CODES
from rabbitray.actors.publisher import FailedJob, PublishReport
from rabbitray.cluster.publish.feed import BadLine, Chunk, LineReader, from_lines
from rabbitray.cluster.publish.pump import Pump, SendPace
from tests.kit.eventually import eventually

LINE = b'{"i":"%d","t":"B"}\n'


@given(st.lists(st.integers(1, 40), max_size=30))
def test_lines_are_the_same_however_they_arrive(cuts: list[int]) -> None:
    text = b"".join(LINE % number for number in range(20)) + b"broken\n\n" + b'{"i":"last","t":"B"}'
    reader, jobs, bad, at = LineReader(1_000), [], [], 0
    for cut in [*cuts, len(text)]:
        part = reader.feed(text[at : at + cut])
        at += cut
        jobs += part.jobs
        bad += part.bad
    end = reader.end()
    assert [job.id for job in jobs + end.jobs] == [*(str(number) for number in range(20)), "last"]
    assert [line.number for line in bad + end.bad] == [21]


def test_a_line_that_is_too_long_is_reported_and_never_kept() -> None:
    reader = LineReader(100)
    parts = [reader.feed(b"x" * 80) for _ in range(50)] + [reader.feed(b"\n" + LINE % 7)]
    assert [(line.number, line.reason) for part in parts for line in part.bad] == [(1, "longer than 100 bytes")]
    assert [job.id for job in parts[-1].jobs] == ["7"]
    assert len(reader._rest) <= 100


def test_strict_reads_nothing_beyond_the_first_bad_line() -> None:
    part = LineReader(1_000, strict=True).feed(LINE % 1 + b"broken\n" + LINE % 2)
    assert [job.id for job in part.jobs] == ["1"]


@pytest.mark.parametrize("error", [OSError("no such device"), ValueError("I/O operation on closed file")])
async def test_whatever_a_stream_raises_ends_the_reading(error: Exception) -> None:
    class Broken(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            raise error

    with pytest.raises(type(error), match=str(error)):
        await asyncio.wait_for(anext(from_lines(Broken(), 1_000)), 10)


async def test_a_slow_pipe_holds_back_nothing() -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as stream:
        parts = from_lines(stream, 1_000)
        os.write(write, LINE % 1)
        assert [job.id for job in (await anext(parts)).jobs] == ["1"]
        os.write(write, LINE % 2)
        assert [job.id for job in (await anext(parts)).jobs] == ["2"]
        os.close(write)
        assert [part.jobs async for part in parts] == [[]]


async def test_a_stream_that_fails_says_so() -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        [part async for part in from_lines(Broken(), 1_000)]  # type: ignore[arg-type] # a stream in part


class FakeSender:
    """Confirms what it is given, or nothing once `broken`."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken
        self.calls: list[int] = []

    async def publish_many(self, jobs: Sequence[Job], packed: int = 0) -> PublishReport:
        self.calls.append(len(jobs))
        if self.broken:
            error = UnroutableError("no queue")
            return PublishReport(unroutable=tuple(FailedJob(job=job, error=error) for job in jobs))
        return PublishReport(confirmed=tuple(jobs))


async def _parts(*sizes: int) -> AsyncIterator[Chunk]:
    for size in sizes:
        yield Chunk(jobs=[Job() for _ in range(size)], size=size)


async def test_a_queue_that_takes_nothing_ends_the_command_early() -> None:
    pump = Pump(FakeSender(broken=True), SendPace())
    sent = await pump.run(_parts(500, 500, 500))
    assert sent.failed["unroutable"] == 500
    assert sent.stopped == "none of the last 500 jobs was confirmed"
    assert len(sent.errors) == 20
    assert not sent.ok


async def test_a_few_failures_end_nothing() -> None:
    sent = await Pump(FakeSender(broken=True), SendPace()).run(_parts(2, 2))
    assert (sent.failed["unroutable"], sent.stopped) == (4, None)


@pytest.mark.parametrize(
    ("pace", "jobs", "due_s"),
    [
        (SendPace(), 10_000, 0.0),
        (SendPace(rate=50), 100, 2.0),
        (SendPace(rate=50, packed=10), 1_000, 2.0),
        (SendPace(rate=0.5), 1, 2.0),
    ],
)
def test_the_rate_counts_messages(pace: SendPace, jobs: int, due_s: float) -> None:
    assert pace.due_s(jobs) == pytest.approx(due_s)


@pytest.mark.parametrize(
    ("pace", "size"), [(SendPace(), 2_000), (SendPace(rate=200), 20), (SendPace(rate=0.1, packed=7), 7)]
)
def test_a_slice_is_a_tenth_of_a_second(pace: SendPace, size: int) -> None:
    assert pace.slice_jobs == size


@pytest.mark.parametrize(
    ("pace", "size"),
    [
        (SendPace(packed=300), 1_800),
        (SendPace(packed=2_000), 2_000),
        (SendPace(packed=5_000), 5_000),
        (SendPace(packed=5_000, rate=100), 5_000),
        (SendPace(packed=300, rate=50), 1_500),
    ],
)
def test_a_slice_holds_whole_messages(pace: SendPace, size: int) -> None:
    assert pace.slice_jobs == size


async def test_messages_are_full_however_the_lines_come_in() -> None:
    sender = FakeSender()
    sent = await Pump(sender, SendPace(packed=100)).run(_parts(30, 30, 130, 5, 0, 55, 60))
    assert sender.calls == [100, 100, 100, 10], "only the last one is not full"
    assert sent.published == 310


async def test_an_unfilled_message_goes_out_when_no_more_comes() -> None:
    sender, more = FakeSender(), asyncio.Event()

    async def slow() -> AsyncIterator[Chunk]:
        yield Chunk(jobs=[Job(), Job()], size=2)
        await more.wait()
        yield Chunk(jobs=[Job()], size=1)

    running = asyncio.create_task(Pump(sender, SendPace(packed=100)).run(slow()))
    await eventually(lambda: sender.calls == [2])
    more.set()
    assert (await running).published == 3


async def test_a_bad_line_holds_back_nothing_that_came_before_it() -> None:
    async def feed() -> AsyncIterator[Chunk]:
        yield Chunk(jobs=[Job(), Job()], bad=[BadLine(number=3, reason="no job")], size=3)
        yield Chunk(jobs=[Job()], size=1)

    sent = await Pump(FakeSender(), SendPace(packed=100), strict=True).run(feed())
    assert (sent.published, sent.stopped) == (2, "line 3 is no job")


async def test_lines_may_use_type_codes_of_ones_own() -> None:
    codes = REPORT_CODES.extended({"C": "CHRISTMAS"})
    [part, _] = [part async for part in from_lines(io.BytesIO(b'{"i":"1","t":"C"}\n'), 1_000, codes=codes)]
    assert [job.message_type for job in part.jobs] == ["CHRISTMAS"]
