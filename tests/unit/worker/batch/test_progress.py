"""What a job tells of its run: it travels with the next part, lets its time begin again, and costs nobody else."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rabbitray import Job
from rabbitray.actors.message.reply import Part, Progress
from rabbitray.actors.message.running import RUNNING
from rabbitray.actors.secret import Redactor, Secret
from rabbitray.actors.telemetry.tracing import Tracing
from rabbitray.actors.worker.outcome.verdict import Categories
from rabbitray.actors.worker.worker import Worker, WorkerConfig
from tests.kit.eventually import eventually
from tests.kit.worker_batches import buffer, parcels, single, whole
from tests.unit.worker.test_worker import handler, worker_of

SHORT = {"early_s": 0.02}


async def until_told(worker: Worker, batch_id: str = "b") -> tuple[list[Progress], list[Part]]:
    parts = [(await worker.more(batch_id))[0]]
    while not parts[-1].progress:
        parts.append((await worker.more(batch_id))[0])
    return parts[-1].progress, parts


async def test_what_a_job_tells_comes_with_the_next_part_once() -> None:
    goes_on = threading.Event()

    def call(job: Job) -> None:
        for page in range(1, 8):
            job.progress(page / 7, f"page {page}\n of 7")
        goes_on.wait(10)

    before = time.time()
    async with worker_of(handler(call), **SHORT) as worker:
        first, _ = await worker.run("b", buffer(0))
        found = first.progress or (await until_told(worker))[0]
        (told,) = found
        assert (told.key, told.fraction, told.text) == ("j0", 1.0, "page 7 of 7")
        assert before <= told.started_at <= told.told_at <= time.time()
        goes_on.set()
        last, _ = await worker.more("b")
    assert (last.open, last.progress) == (0, [])


async def test_many_words_within_a_second_travel_together() -> None:
    ends = threading.Event()

    def call(job: Job) -> None:
        while not ends.wait(0.002):
            job.progress(0.5, "again")

    async with worker_of(handler(call), **SHORT) as worker:
        await worker.run("b", buffer(0))
        until, parts = time.monotonic() + 2.5, 0
        while time.monotonic() < until:
            await worker.more("b")
            parts += 1
        ends.set()
        await worker.more("b")
    assert 1 <= parts <= 4


@pytest.mark.parametrize("style", ["sync", "async"])
async def test_a_job_has_a_deadline_that_progress_puts_off_up_to_its_longest_run(style: Any) -> None:
    seen: list[datetime | None] = []

    def work(job: Job) -> None:
        seen.append(job.deadline)
        time.sleep(0.05)
        job.progress(0.5)
        seen.append(job.deadline)

    async def awaited(job: Job) -> None:
        work(job)

    began = datetime.now(UTC)
    call = work if style == "sync" else awaited
    async with worker_of(handler(call, style), handler_timeout_s=60.0, max_run_s=60.03) as worker:
        await whole(worker, buffer(0))
    first, second = seen
    assert first is not None
    assert second is not None
    assert timedelta(seconds=59) < first - began < timedelta(seconds=61)
    assert second - first == pytest.approx(timedelta(seconds=0.03), abs=timedelta(seconds=0.001))


async def test_progress_lets_the_time_of_an_async_job_begin_again() -> None:
    async def call(job: Job) -> str:
        for step in range(10):
            await asyncio.sleep(0.1)
            job.progress(step / 10)
        return "all ten"

    async with worker_of(handler(call, "async"), handler_timeout_s=0.5, **SHORT) as worker:
        _, rows = await whole(worker, buffer(0))
    assert [row["result"] for row in rows] == ['"all ten"']


@pytest.mark.parametrize("style", ["async", "async_batch"])
async def test_but_not_beyond_its_longest_run(style: Any) -> None:
    async def call(job: Any) -> None:
        while True:
            await asyncio.sleep(0.01)
            (job if isinstance(job, Job) else job[0]).progress(0.5)

    began = time.monotonic()
    async with worker_of(handler(call, style), handler_timeout_s=0.1, max_run_s=0.3) as worker:
        parts, _ = await whole(worker, buffer(0))
    assert 0.3 <= time.monotonic() - began < 5
    (failure,) = [failure for part in parts for failure in part.failures]
    assert failure.reason == "handler_timeout"
    assert failure.error.startswith("no progress within handler_timeout_s=0.1 s, and no result within max_run_s=0.3 s")


async def test_each_job_of_a_batch_tells_its_own_from_any_thread() -> None:
    ends = asyncio.Event()

    async def call(jobs: list[Job]) -> list[None]:
        await asyncio.gather(*(asyncio.to_thread(job.progress, n / 10) for n, job in enumerate(jobs)))
        await ends.wait()
        return [None] * len(jobs)

    async with worker_of(handler(call, "async_batch"), **SHORT) as worker:
        first, _ = await worker.run("b", buffer(0, 1, 2))
        found = list(first.progress)
        while len(found) < 3:
            found += (await until_told(worker))[0]
        assert {(one.position, one.fraction) for one in found} == {(0, 0.0), (1, 0.1), (2, 0.2)}
        ends.set()
        await worker.more("b")


async def test_a_secret_in_what_is_told_is_hidden() -> None:
    ends = threading.Event()

    def call(job: Job) -> None:
        job.progress(0.5, "amqp://u:geheim@host/")
        ends.wait(10)

    async with worker_of(handler(call), redact=Redactor(Secret("amqp://u:geheim@host/")), **SHORT) as worker:
        first, _ = await worker.run("b", buffer(0))
        (told,) = first.progress or (await until_told(worker))[0]
        ends.set()
        await worker.more("b")
    assert "geheim" not in told.text


async def test_the_span_of_the_batch_has_what_was_told_last() -> None:
    memory, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    config = WorkerConfig(name="w-1", queue="q", early_s=0.1)
    worker = Worker(config, handler(tells), Categories(), Tracing(queue="q", provider=provider, clock=lambda: 0.0))
    traced = single(0, "x", traceparent=f"00-{'ab' * 16}-{'cd' * 8}-01")
    await worker.run("b", parcels(traced))
    ENDS.set()
    while (await worker.more("b"))[0].open:
        pass
    await eventually(memory.get_finished_spans)
    await worker.close()
    (span,) = [one for one in memory.get_finished_spans() if one.name == "process q"]
    assert span.attributes is not None
    assert span.attributes["rabbitray.job.progress"] == "40% page 3 of 7"


ENDS = threading.Event()


def tells(job: Job) -> None:
    job.progress(0.4, "page 3 of 7")
    ENDS.wait(10)


async def test_outside_a_run_nothing_is_told() -> None:
    job = Job(id="j0")
    async with worker_of(handler(lambda _: None)) as worker:
        await whole(worker, buffer(0))
        job.progress(0.5)
        assert job.deadline is None
        assert len(RUNNING) == 1
    assert not RUNNING
    for wrong in (-0.1, 1.01, float("nan")):
        with pytest.raises(ValueError, match="a fraction from 0 to 1"):
            job.progress(wrong)
    await eventually(lambda: not RUNNING)
