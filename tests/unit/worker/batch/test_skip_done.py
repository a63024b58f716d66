"""Jobs whose result exists are acked without a run; where nobody can say so, they run."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rabbitray import Job
from rabbitray.actors.errors import StoreUnavailableError
from rabbitray.actors.message.key_hash import kind_of
from rabbitray.actors.message.parcel import Parcel
from rabbitray.actors.message.wire import encode, pack
from rabbitray.actors.telemetry.tracing import SKIP_SPANS_PER_S, Tracing
from rabbitray.actors.worker.batch.skip_done import FinishedJobs, SkipDone
from rabbitray.actors.worker.handler.loading import Handler, Style
from rabbitray.actors.worker.outcome.verdict import Categories
from rabbitray.actors.worker.worker import Worker, WorkerConfig
from tests.kit.deliveries import parcel
from tests.kit.fake_known_keys import FakeKnownKeys
from tests.kit.worker_batches import parcels, whole

JOBS = [Job(id=f"j{n}", user_id="u", message_type="M", payload={"n": n}) for n in range(6)]


class Calls:
    """A handler of any style, and the ids of the jobs that it ran, call by call."""

    def __init__(self) -> None:
        self.ran: list[list[str | None]] = []

    def of(self, style: Style) -> Handler:
        calls = {"sync": self._one, "async": self._one_async, "batch": self._many, "async_batch": self._many_async}
        return Handler(name="test", style=style, call=calls[style], close=lambda: None)

    def _one(self, job: Job) -> Any:
        self.ran.append([job.id])
        return job.payload

    async def _one_async(self, job: Job) -> Any:
        return self._one(job)

    def _many(self, jobs: list[Job]) -> list[Any]:
        self.ran.append([job.id for job in jobs])
        return [job.payload for job in jobs]

    async def _many_async(self, jobs: list[Job]) -> list[Any]:
        return self._many(jobs)


@asynccontextmanager
async def worker_of(
    known: FakeKnownKeys,
    calls: Calls,
    style: Style = "sync",
    *,
    mode: SkipDone = "always",
    tracing: Tracing | None = None,
    **changes: Any,
) -> AsyncIterator[Worker]:
    config = WorkerConfig(**{"name": "w-1", "queue": "q", "early_s": 10.0} | changes)
    finished = FinishedJobs(known, mode)
    worker = Worker(config, calls.of(style), Categories(), tracing or Tracing(queue="q"), finished=finished)
    try:
        yield worker
    finally:
        await worker.close()


def sent(job: Job, **changes: Any) -> Parcel:
    body, content_type = encode(job)
    return parcel(body, **{"content_type": content_type, "message_id": job.id} | changes)


@pytest.mark.parametrize("style", ["sync", "async", "batch", "async_batch"])
async def test_a_job_with_its_result_is_finished_and_not_run(style: Style) -> None:
    known, calls = FakeKnownKeys(JOBS[1], JOBS[4]), Calls()
    async with worker_of(known, calls, style) as worker:
        (part,), rows = await whole(worker, parcels(*map(sent, JOBS)))
    assert sorted(part.finished) == list(range(6))
    assert (part.rows, part.jobs, part.skipped, part.failures, part.open) == (4, 6, 2, [], 0)
    assert sorted(row["key"] for row in rows) == ["j0", "j2", "j3", "j5"]
    assert sorted(name for call in calls.ran for name in call if name) == ["j0", "j2", "j3", "j5"]
    assert known.asked == [["j0", "j1", "j2", "j3", "j4", "j5"]], "once a batch"


@pytest.mark.parametrize("style", ["sync", "async", "batch", "async_batch"])
async def test_a_batch_of_which_all_have_their_result_calls_no_handler(style: Style) -> None:
    known, calls = FakeKnownKeys(*JOBS), Calls()
    async with worker_of(known, calls, style) as worker:
        (part,), rows = await whole(worker, parcels(*map(sent, JOBS)))
    assert (part.finished, part.skipped, part.rows, part.open) == (list(range(6)), 6, 0, 0)
    assert rows == calls.ran == []


@pytest.mark.parametrize(
    "other",
    [
        Job(id="j0", user_id="u", message_type="M", payload={"n": "another"}),
        Job(id="j0", user_id="somebody", message_type="M", payload={"n": 0}),
        Job(id="j0", user_id="u", message_type="N", payload={"n": 0}),
    ],
)
async def test_another_message_under_a_known_key_runs(other: Job) -> None:
    """Its result is kept in the table conflicts, as long as it has one."""
    known, calls = FakeKnownKeys(JOBS[0]), Calls()
    async with worker_of(known, calls) as worker:
        (part,), rows = await whole(worker, parcels(sent(other), sent(JOBS[0])))
    assert [row["key"] for row in rows] == ["j0"]
    assert (part.row_positions, part.skipped) == ([0], 1)


async def test_a_row_of_an_earlier_version_has_no_hash_of_its_payload() -> None:
    known, calls = FakeKnownKeys(), Calls()
    known.winners = {"j0": kind_of("M", "u"), "j1": kind_of("M", "somebody")}
    async with worker_of(known, calls) as worker:
        (part,), rows = await whole(worker, parcels(*map(sent, JOBS[:2])))
    assert (part.skipped, [row["key"] for row in rows]) == (1, ["j1"])


async def test_of_a_packed_message_the_records_without_a_result_run() -> None:
    known, calls = FakeKnownKeys(JOBS[0], JOBS[2], *JOBS[3:5]), Calls()
    some, all_done = (parcel(pack(jobs)[0], content_type=pack(jobs)[1]) for jobs in (JOBS[:3], JOBS[3:5]))
    async with worker_of(known, calls) as worker:
        (part,), rows = await whole(worker, parcels(some, all_done))
    assert (sorted(part.finished), part.skipped, part.row_positions, part.row_records) == ([0, 1], 4, [0], [1])
    assert [row["key"] for row in rows] == ["j1"]


async def test_records_beside_skipped_ones_are_given_back_with_them_and_counted_once() -> None:
    """Behind a slow job: nothing of the packed message was started, so another worker may have it."""
    known, go = FakeKnownKeys(JOBS[0], JOBS[5]), threading.Event()
    packed, content_type = pack(JOBS[:3])

    class Slow(Calls):
        def _one(self, job: Job) -> Any:
            go.wait(20)

    async with worker_of(known, Slow(), early_s=0.3) as worker:
        shipment = parcels(sent(JOBS[4]), parcel(packed, content_type=content_type), sent(JOBS[5]))
        first, _ = await worker.run("b", shipment)
        assert (first.finished, first.returned, first.skipped, first.open) == ([2], [1], 1, 1)
        go.set()
        last, _ = await worker.more("b")
        assert (last.finished, last.skipped, last.open) == ([0], 0, 0)


async def test_jobs_without_a_key_are_never_asked_after() -> None:
    known, calls = FakeKnownKeys(JOBS[0]), Calls()
    known.winners["None"] = 0
    nameless = [parcel(b'{"n": 1}', message_id=None) for _ in range(2)]
    async with worker_of(known, calls) as worker:
        (part,), _ = await whole(worker, parcels(*nameless))
        assert (part.rows, known.asked) == (2, [])
        (part,), _ = await whole(worker, parcels(nameless[0], sent(JOBS[0])), "c")
    assert (part.rows, part.skipped, known.asked) == (1, 1, [["j0"]])


async def test_where_only_redelivered_ones_are_asked_after_a_first_delivery_runs() -> None:
    """Delivered before, by its flag or as a copy of ours, or a charged run before this one."""
    known, calls = FakeKnownKeys(*JOBS), Calls()
    shipment = parcels(sent(JOBS[0]), sent(JOBS[1], again=True), sent(JOBS[2], attempt=1), sent(JOBS[3], attempt=0))
    async with worker_of(known, calls, mode="redelivered") as worker:
        (part,), _ = await whole(worker, shipment)
        assert (part.skipped, known.asked, calls.ran) == (2, [["j1", "j2"]], [["j0"], ["j3"]])
        await whole(worker, parcels(sent(JOBS[0])), "c")
    assert len(known.asked) == 1


@pytest.mark.parametrize("fail", [StoreUnavailableError("it is being restarted"), ValueError("a bug"), None])
async def test_without_an_answer_all_run_and_the_next_batches_do_not_wait(
    fail: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    known, now, told = FakeKnownKeys(JOBS[0]), [100.0], list[int]()
    known.fail, known.silent = fail, fail is None
    finished = FinishedJobs(known, within_s=0.05, unasked=told.append, clock=lambda: now[0])
    calls = Calls()
    worker = Worker(
        WorkerConfig(name="w", queue="q"), calls.of("sync"), Categories(), Tracing(queue="q"), finished=finished
    )

    async def rows_of_batch() -> int:
        (part,), _ = await whole(worker, parcels(sent(JOBS[0]), sent(JOBS[1])))
        return part.rows

    assert await rows_of_batch() == 2
    assert (len(known.asked), finished.unasked, told) == (1, 2, [2])
    assert await rows_of_batch() == 2, "and is not asked within the pause"
    now[0] += 1.1
    assert await rows_of_batch() == 2
    assert (len(known.asked), finished.unasked) == (2, 6)
    now[0] += 1.1
    assert await rows_of_batch() == 2, "the second pause is longer"
    assert len(known.asked) == 2
    known.fail, known.silent = None, False
    now[0] += 1.1
    assert await rows_of_batch() == 1
    assert told == [2, 2, 2, 2]
    assert caplog.text.count("does not say which jobs have their result") == 1
    await worker.close()


async def test_the_trace_says_that_a_job_was_skipped() -> None:
    memory, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    known, tracing = FakeKnownKeys(*JOBS), Tracing(queue="q", provider=provider, clock=lambda: 0.0)
    traced = sent(JOBS[0], traceparent=f"00-{'ab' * 16}-{'cd' * 8}-01")
    unsampled = sent(JOBS[1], traceparent=f"00-{'ab' * 16}-{'cd' * 8}-00")
    async with worker_of(known, Calls(), tracing=tracing) as worker:
        (part,), _ = await whole(worker, parcels(traced, unsampled, sent(JOBS[2])))
        await whole(worker, parcels(*[traced] * (SKIP_SPANS_PER_S + 9)), "c")
    spans: dict[str, list[ReadableSpan]] = {}
    for span in memory.get_finished_spans():
        spans.setdefault(span.name, []).append(span)
    skip, batch = spans["skip q"][0], spans["process q"][0]
    assert f"{skip.context.trace_id:032x}" == "ab" * 16
    assert [f"{link.context.span_id:016x}" for link in skip.links] == [str(part.span)[36:52]]
    assert skip.attributes is not None
    assert batch.attributes is not None
    assert (skip.attributes["rabbitray.key"], skip.attributes["rabbitray.reason"]) == ("j0", "result exists")
    assert batch.attributes["rabbitray.batch.skipped"] == 3
    assert len(spans["skip q"]) == SKIP_SPANS_PER_S, "a flood of them costs no more"
