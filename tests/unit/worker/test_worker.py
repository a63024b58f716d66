"""The worker as a plain class: one outcome for each job, whatever the handler does."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import msgspec
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rabbitray import Job, Reject, WorkerBroken
from rabbitray.actors.errors import Retry
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.wire import REPORT_CODES, MessageLimits, decode, encode, pack
from rabbitray.actors.secret import Redactor, Secret
from rabbitray.actors.telemetry.tracing import Tracing
from rabbitray.actors.worker.batch.decoding import IdentityRules
from rabbitray.actors.worker.handler.loading import Handler, load, prepare
from rabbitray.actors.worker.handler.shape import Style
from rabbitray.actors.worker.outcome.verdict import Categories
from rabbitray.actors.worker.worker import UnknownBatchError, Worker, WorkerConfig
from tests.kit import sample_handlers
from tests.kit.canary import new_canary
from tests.kit.deliveries import parcel
from tests.kit.worker_batches import buffer, parcels, single, whole

SAMPLES = "tests.kit.sample_handlers"


def handler(call: Callable[..., Any], style: Style = "sync") -> Handler:
    return Handler(name="test", style=style, call=call, close=lambda: None)


@asynccontextmanager
async def worker_of(made: Handler, **changes: Any) -> AsyncIterator[Worker]:
    config = WorkerConfig(**{"name": "w-1", "queue": "q", "early_s": 10.0} | changes)
    worker = Worker(config, made, Categories(), Tracing(queue="q"))
    try:
        yield worker
    finally:
        await worker.close()


@pytest.mark.parametrize("name", ["plain", "asynchronous", "many", "many_asynchronous", "AsynchronousWithSetUp"])
async def test_every_style_gives_one_row_for_each_job(name: str) -> None:
    async with worker_of(load(f"{SAMPLES}:{name}")) as worker:
        (part,), rows = await whole(worker, buffer(*range(40)))
    assert sorted(part.finished) == list(range(40))
    assert (part.open, part.rows, part.jobs, part.failures, part.returned) == (0, 40, 40, [], [])
    by_key = {row["key"]: row["result"] for row in rows}
    assert by_key == {f"j{n}": str(n) for n in range(40)}
    assert {rows[index]["key"] for index in range(40)} == {f"j{position}" for position in part.row_positions}
    assert rows[0]["queue"] == "q"
    assert rows[0]["worker"] == "w-1"
    assert rows[0]["attempts"] == 1


async def test_a_worker_asks_for_messages_where_its_handler_does() -> None:
    async with worker_of(load("tests.kit.asking_handlers:order_and_message")) as worker:
        assert worker.asks_message
    async with worker_of(load("tests.kit.asking_handlers:an_order")) as worker:
        assert not worker.asks_message


async def test_a_class_is_set_up_once_and_closed() -> None:
    sample_handlers.closed.clear()
    async with worker_of(load(f"{SAMPLES}:WithSetUp")) as worker:
        _, rows = await whole(worker, buffer(1, 2))
    assert len({row["result"] for row in rows}) == 1, "sync jobs run in one thread"
    async with worker_of(load(f"{SAMPLES}:AsynchronousWithSetUp")):
        pass
    assert sample_handlers.closed == ["plain", "async"]


async def test_what_a_job_raises_is_its_own_outcome() -> None:
    errors: list[BaseException] = [
        ConnectionError("down"),
        ValueError("bad"),
        Reject("no"),
        Retry("later", after_s=9),
        SystemExit(1),
        KeyboardInterrupt(),
        StopIteration(),
        asyncio.CancelledError(),
        ValueError("\udc80"),
    ]

    def call(job: Job) -> str:
        if job.payload < len(errors):
            raise errors[job.payload]
        return "fine"

    async def call_async(job: Job) -> str:
        return call(job)

    for made in (handler(call), handler(call_async, "async")):
        async with worker_of(made) as worker:
            (part,), rows = await whole(worker, buffer(*range(len(errors) + 1)))
        assert [row["key"] for row in rows] == [f"j{len(errors)}"]
        assert sorted(part.finished) == list(range(len(errors) + 1))
        verdicts = {failure.position: (failure.verdict, failure.reason) for failure in part.failures}
        assert len(verdicts) == len(errors)
        assert verdicts[0] == ("retry", "exception")
        assert verdicts[1] == ("dead", "permanent")
        assert verdicts[2] == ("dead", "rejected")
        assert verdicts[3] == ("retry", "retry_requested")
        assert part.failures[3].after_s == 9
        assert all(failure.key == f"j{failure.position}" for failure in part.failures)


async def test_a_wait_of_more_than_30_days_is_cut_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    def call(job: Job) -> None:
        raise Retry("later", after_s=86_400 * (31 if job.payload else 30))

    async with worker_of(handler(call)) as worker:
        (part,), _ = await whole(worker, buffer(0, 1, 1))
    assert [failure.after_s for failure in part.failures] == [86_400 * 30] * 3
    assert caplog.text.count("more than 30 days") == 1


async def test_a_slow_job_holds_up_no_other() -> None:
    go = threading.Event()

    def call(job: Job) -> Any:
        if job.payload == "slow":
            go.wait(20)
        return job.payload

    async with worker_of(handler(call), early_s=0.5) as worker:
        first, rows = await worker.run("b", buffer(1, "slow", 3, 4))
        assert (first.finished, first.returned, first.executing, first.open) == ([0], [2, 3], [1], 1)
        assert rows.num_rows == 1
        waiting = asyncio.ensure_future(worker.more("b"))
        go.set()
        last, rows = await waiting
        assert (last.finished, last.open, rows.num_rows) == ([1], 0, 1)
        with pytest.raises(UnknownBatchError):
            await worker.more("b")


@pytest.mark.parametrize("name", ["plain", "many", "asynchronous"])
async def test_large_results_go_out_in_parts_of_bounded_size(name: str) -> None:
    """Arrow's own bound, 2 GiB in a column, is far above; a part is never without a row, however large that is."""
    texts = ["x" * size for size in (100, 100, 100, 5_000, 100, 0, 100, 100)]
    async with worker_of(load(f"{SAMPLES}:{name}"), part_chars=250) as worker:
        async with asyncio.timeout(10):  # the next part is ready at once: none waits for a sign of life
            parts, rows = await whole(worker, buffer(*texts))
    assert [part.rows for part in parts] == [3, 1, 4] if name != "asynchronous" else len(parts) > 2
    assert [part.open for part in parts] == [5, 4, 0] if name != "asynchronous" else parts[-1].open == 0
    assert sorted(row["key"] for row in rows) == [f"j{n}" for n in range(8)]
    assert sorted(position for part in parts for position in part.finished) == list(range(8))
    assert sum(part.jobs for part in parts) == 8


async def test_what_is_left_of_a_part_goes_out_while_a_job_still_runs() -> None:
    go = threading.Event()

    def call(job: Job) -> Any:
        if job.payload == "slow":
            go.wait(20)
        return job.payload

    async with worker_of(handler(call), early_s=0.5, part_chars=1) as worker:
        first, _ = await worker.run("b", buffer("a", "b", "slow", "never begun"))
        assert (first.finished, first.returned, first.executing, first.open) == ([0], [3], [2], 2)
        second, _ = await worker.more("b")
        assert (second.finished, second.executing, second.open) == ([1], [2], 1)
        go.set()
        last, _ = await worker.more("b")
        assert (last.finished, last.open) == ([2], 0)


async def test_a_batch_behind_a_slow_one_is_given_back_whole() -> None:
    go = threading.Event()

    def call(job: Job) -> Any:
        go.wait(20)

    async with worker_of(handler(call), early_s=0.5) as worker:
        slow, _ = await worker.run("slow", buffer("x"))
        behind, _ = await worker.run("behind", buffer(1, 2, 3))
        assert slow.open == 1
        assert (behind.returned, behind.finished, behind.open) == ([0, 1, 2], [], 0)
        go.set()
        last, _ = await worker.more("slow")
        assert last.finished == [0]


async def test_slots_bound_async_jobs_over_all_batches() -> None:
    now, most = 0, 0

    async def call(job: Job) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1

    async with worker_of(handler(call, "async"), slots=5) as worker:
        await asyncio.gather(whole(worker, buffer(*range(30)), "a"), whole(worker, buffer(*range(30)), "b"))
        assert worker.slots == 5
    assert most == 5


async def test_an_async_job_is_cancelled_after_its_time() -> None:
    async def call(job: Job) -> Any:
        if job.payload == "hang":
            await asyncio.Event().wait()
        return job.payload

    async with worker_of(handler(call, "async"), handler_timeout_s=0.05) as worker:
        (part,), rows = await whole(worker, buffer(1, "hang", 3))
    assert sorted(row["key"] for row in rows) == ["j0", "j2"]
    (failure,) = part.failures
    assert (failure.position, failure.verdict, failure.category) == (1, "retry", "transient")
    assert (failure.error_class, failure.reason) == ("TimeoutError", "handler_timeout")
    assert failure.error.startswith("no result within handler_timeout_s=0.05 s: the job was cancelled")


async def test_a_time_out_of_the_handlers_own_is_told_apart() -> None:
    async def call(job: Job) -> Any:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    async with worker_of(handler(call, "async")) as worker:
        (part,), _ = await whole(worker, buffer(1))
    (failure,) = part.failures
    assert (failure.reason, failure.error, failure.category) == ("exception", "TimeoutError", "transient")


async def test_categories_of_ones_own_hold_for_our_time_out_too() -> None:
    async def call(job: Job) -> Any:
        await asyncio.Event().wait()

    config = WorkerConfig(name="w-1", queue="q", early_s=10.0, handler_timeout_s=0.02)
    worker = Worker(config, handler(call, "async"), Categories({"TimeoutError": "permanent"}), Tracing(queue="q"))
    (part,), _ = await whole(worker, buffer(1))
    await worker.close()
    (failure,) = part.failures
    assert (failure.verdict, failure.category, failure.reason) == ("dead", "permanent", "handler_timeout")


async def test_an_async_batch_is_cancelled_after_its_time() -> None:
    async def call(jobs: list[Job]) -> list[Any]:
        if any(job.payload == "hang" for job in jobs):
            await asyncio.Event().wait()
        return [job.payload for job in jobs]

    async with worker_of(handler(call, "async_batch"), handler_timeout_s=0.05) as worker:
        (part,), rows = await whole(worker, buffer(1, "hang", 3))
    assert {row["key"] for row in rows} == {"j0", "j2"}
    (failure,) = part.failures
    assert failure.reason == "handler_timeout"
    assert "handler_timeout_s=0.05 s: the call for 1 jobs was cancelled" in failure.error


async def test_closing_ends_running_jobs_and_starts_no_other() -> None:
    started: list[Any] = []
    running = asyncio.Event()

    async def call(job: Job) -> None:
        started.append(job.payload)
        running.set()
        await asyncio.Event().wait()

    async with worker_of(handler(call, "async"), slots=1) as worker:
        call_of_it = asyncio.ensure_future(worker.run("b", buffer(1, 2, 3)))
        await running.wait()
        await worker.close()
        await asyncio.sleep(0)
        call_of_it.cancel()
    assert started == [1]


@pytest.mark.parametrize("name", ["many", "many_asynchronous"])
async def test_a_batch_call_that_raises_runs_its_jobs_singly(name: str) -> None:
    sample_handlers.calls.clear()
    async with worker_of(load(f"{SAMPLES}:{name}")) as worker:
        (part,), rows = await whole(worker, buffer(1, "bad", "reject", "retry"))
    assert sample_handlers.calls == [["j0", "j1", "j2", "j3"], ["j0"], ["j1"], ["j2"], ["j3"]]
    assert [row["key"] for row in rows] == ["j0"]
    reasons = {failure.position: failure.reason for failure in part.failures}
    assert reasons == {1: "exception", 2: "rejected", 3: "retry_requested"}


async def test_singly_run_jobs_tell_their_progress() -> None:
    go = threading.Event()

    def call(jobs: list[Job]) -> list[Any]:
        if len(jobs) > 1:
            raise ConnectionError("as a whole")
        if jobs[0].payload == "slow":
            go.wait(20)
        return [1]

    async with worker_of(handler(call, "batch"), early_s=0.5) as worker:
        first, _ = await worker.run("b", buffer(1, "slow"))
        assert (first.finished, first.open) == ([0], 1)
        go.set()
        last, _ = await worker.more("b")
        assert last.finished == [1]


@pytest.mark.parametrize("name", ["too_few", "no_list"])
async def test_a_batch_handler_with_a_wrong_answer_commits_nothing(name: str) -> None:
    async with worker_of(load(f"{SAMPLES}:{name}")) as worker:
        (part,), rows = await whole(worker, buffer(1, 2))
    assert rows == []
    assert [failure.error_class for failure in part.failures] == ["TypeError", "TypeError"]
    assert "returned" in part.failures[0].error


@pytest.mark.parametrize("style", ["batch", "async_batch"])
async def test_a_batch_handler_is_not_called_for_nothing(style: Style) -> None:
    called: list[int] = []

    def call(jobs: list[Job]) -> list[Any]:
        called.append(len(jobs))
        return []

    async def call_async(jobs: list[Job]) -> list[Any]:
        return call(jobs)

    async with worker_of(handler(call if style == "batch" else call_async, style)) as worker:
        (part,), _ = await whole(worker, parcels(parcel(b"{not json")))
    assert called == []
    assert part.finished == [0]


async def test_results_that_cannot_be_kept_fail_their_job_only() -> None:
    results: list[Any] = [lambda: 1, "\ud800", "x" * 2_000, object(), {"fine": 1}]
    async with worker_of(handler(lambda job: results[job.payload]), max_result_bytes=1_000) as worker:
        (part,), rows = await whole(worker, buffer(*range(5)))
    assert [row["key"] for row in rows] == ["j4"]
    assert {failure.reason for failure in part.failures} == {"result_not_serialisable"}
    assert {failure.verdict for failure in part.failures} == {"dead"}
    assert len(part.failures) == 4


async def test_messages_that_cannot_be_read_fail_alone() -> None:
    deep = b"[" * 100_000
    bad = [b"{not json", b"\xff\xfe", deep, b""]
    good = single(9, "fine")
    async with worker_of(handler(lambda job: job.payload)) as worker:
        (part,), rows = await whole(worker, parcels(*(parcel(body, message_id=f"m{body[:1]!r}") for body in bad), good))
    assert [row["key"] for row in rows] == ["j9"]
    assert sorted(part.finished) == [0, 1, 2, 3, 4]
    assert all(failure.verdict == "dead" and failure.reason for failure in part.failures)
    assert part.failures[0].reason == "bad_json"


async def test_packed_messages_fail_record_by_record() -> None:
    body, content_type = pack([Job(id=f"r{n}", payload=n) for n in range(4)])
    item = parcel(body, content_type=content_type, key="forged for all", attempt=2)

    def call(job: Job) -> Any:
        if job.payload == 2:
            raise ConnectionError("down")
        return job.payload

    async with worker_of(handler(call)) as worker:
        (part,), rows = await whole(worker, parcels(item, single(9, 9)))
    assert [row["key"] for row in rows] == ["r0", "r1", "r3", "j9"]
    assert part.row_positions == [0, 0, 0, 1]
    assert part.row_records == [0, 1, 3, 0]
    assert sorted(part.finished) == [0, 1]
    (failure,) = part.failures
    assert (failure.position, failure.record, failure.key, failure.attempt) == (0, 2, "r2", 2)
    assert failure.body is not None, "the record alone, to be published as a message of its own"
    assert failure.content_type == h.JOB_MSGPACK
    async with worker_of(handler(call)) as worker:
        again = parcel(failure.body, content_type=failure.content_type, key=failure.key, attempt=3)
        (part,), _ = await whole(worker, parcels(again))
    assert (part.failures[0].key, part.failures[0].attempt) == ("r2", 3)


async def test_a_record_is_retried_as_it_came_whatever_the_handler_did_to_it() -> None:
    body, content_type = pack([Job(id=f"r{n}", payload={"token": "secret", "n": n}) for n in range(3)])

    def call(job: Job) -> Any:
        if job.payload["n"] == 1:
            job.payload.pop("token")
            job.payload["open"] = object()  # has no msgpack form
            raise ConnectionError("down")
        return job.payload["n"]

    async with worker_of(handler(call)) as worker:
        (part,), rows = await whole(worker, parcels(parcel(body, content_type=content_type)))
    assert [row["key"] for row in rows] == ["r0", "r2"]
    (failure,) = part.failures
    assert decode(failure.body or b"", failure.content_type)[0].payload == {"token": "secret", "n": 1}


async def test_a_record_that_we_could_not_write_is_retried_all_the_same() -> None:
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    records = [{"i": "deep", "p": deep}, {"i": "bytes", "p": {b"key": 1}}, {"i": "fine", "p": 2}]
    body = gzip.compress(msgpack.packb(records))

    def call(job: Job) -> Any:
        if job.id != "fine":
            raise ConnectionError("down")
        return job.payload

    limits = MessageLimits(max_depth=500)
    item = parcel(body, content_type=h.PACKED, content_encoding="gzip")
    async with worker_of(handler(call), wire=limits) as worker:
        (part,), rows = await whole(worker, parcels(item))
    assert [row["key"] for row in rows] == ["fine"]
    pieces = [decode(failure.body or b"", failure.content_type, None, limits)[0] for failure in part.failures]
    assert [(piece.id, piece.payload) for piece in pieces] == [("deep", deep), ("bytes", {b"key": 1})]


async def test_type_codes_of_ones_own_are_read() -> None:
    codes = REPORT_CODES.extended({"C": "CHRISTMAS"})
    body, content_type = encode(Job(id="1", message_type="CHRISTMAS"), codes=codes)
    async with worker_of(handler(lambda job: job.message_type), codes=codes) as worker:
        _, rows = await whole(worker, parcels(parcel(body, content_type=content_type)))
    assert (rows[0]["result"], rows[0]["message_type"]) == ('"CHRISTMAS"', "CHRISTMAS")


async def test_a_packed_message_is_given_back_only_when_none_of_it_ran() -> None:
    go = threading.Event()
    body, content_type = pack([Job(id=f"r{n}", payload=n) for n in range(3)])

    def call(job: Job) -> Any:
        if job.payload == 1:
            go.wait(20)
        return job.payload

    async with worker_of(handler(call), early_s=0.5) as worker:
        first, rows = await worker.run("b", parcels(*(parcel(body, content_type=content_type) for _ in range(2))))
        assert (first.returned, first.finished, first.open) == ([1], [], 2)
        assert rows.num_rows == 1
        go.set()
        finished: list[int] = []
        part = first
        while part.open:
            part, _ = await worker.more("b")
            finished += part.finished
        assert finished == [0], "complete once all its records are, and told once"


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"key": "from the header"}, "from the header"),
        ({"key": None}, "j0"),
    ],
)
async def test_the_key_header_beats_the_body(changes: dict[str, Any], key: str) -> None:
    async with worker_of(handler(lambda job: job.key)) as worker:
        _, rows = await whole(worker, buffer(1, **changes))
    assert rows[0]["key"] == key
    assert rows[0]["result"] == f'"{key}"'


async def test_a_message_without_any_id() -> None:
    item = parcel(b'{"hello": 1}', message_id=None)
    async with worker_of(handler(lambda job: job.payload)) as worker:
        _, rows = await whole(worker, parcels(item))
    assert rows[0]["key"] is None
    rules = IdentityRules(missing_id="reject")
    async with worker_of(handler(lambda job: job.payload), identity=rules) as worker:
        (part,), rows = await whole(worker, parcels(item))
    assert rows == []
    assert [(failure.reason, failure.verdict) for failure in part.failures] == [("missing_id", "dead")]


@pytest.mark.parametrize(("header", "attempt"), [(-1, 0), (0, 0), (4, 4)])
async def test_the_handler_is_told_its_attempt(header: int, attempt: int) -> None:
    async with worker_of(handler(lambda job: job.attempt)) as worker:
        _, rows = await whole(worker, buffer(1, attempt=header))
    assert (rows[0]["result"], rows[0]["attempts"]) == (str(attempt), attempt + 1)


@pytest.mark.parametrize("style", ["sync", "async"])
async def test_no_job_is_told_twice_or_forgotten_while_parts_are_taken(style: Style) -> None:
    """The handler's thread finishes jobs while the event loop takes parts: many short races."""

    def call(job: Job) -> Any:
        return job.payload

    async def call_async(job: Job) -> Any:
        await asyncio.sleep(0)
        return job.payload

    made = handler(call if style == "sync" else call_async, style)
    async with worker_of(made, early_s=0.0, slots=3) as worker:
        left = {f"j{n}": single(n, n) for n in range(300)}
        told: list[str] = []
        while left:
            names = list(left)
            found, rows = await whole(worker, parcels(*left.values()))
            told += [row["key"] for row in rows]
            finished = [names[position] for part in found for position in part.finished]
            returned = [names[position] for part in found for position in part.returned]
            assert sorted(finished + returned) == sorted(names)
            left = {name: left[name] for name in returned}
    assert sorted(told) == sorted(f"j{n}" for n in range(300))


async def test_a_body_that_cannot_be_read_fails_in_the_trace_of_its_message() -> None:
    memory, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    config = WorkerConfig(name="w-1", queue="q", early_s=10.0)
    worker = Worker(config, load(f"{SAMPLES}:plain"), Categories(), Tracing(queue="q", provider=provider))
    broken = parcel(b"{broken", message_id="m1", traceparent=f"00-{'ab' * 16}-{'cd' * 8}-01", attempt=1)
    (part,), _ = await whole(worker, parcels(single(0, 1), broken))
    await worker.close()
    (failed,) = [span for span in memory.get_finished_spans() if span.name == "fail q"]
    assert f"{failed.context.trace_id:032x}" == "ab" * 16
    assert [f"{link.context.span_id:016x}" for link in failed.links] == [str(part.span)[36:52]]
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "DecodeError"
    assert (failed.attributes["messaging.message.id"], failed.attributes["rabbitray.attempt"]) == ("m1", 1)
    assert failed.status.description == part.failures[0].error


async def test_the_error_of_a_job_holds_no_secret_of_the_pool() -> None:
    canary = new_canary()
    url = f"amqp://user:{canary.in_url}@host/"

    def careless(job: Job) -> None:
        raise ConnectionError(canary.careless(url))

    async with worker_of(handler(careless), redact=Redactor(Secret(url))) as worker:
        (part,), _ = await whole(worker, buffer("a"))
    assert "cannot reach amqp://host by amqp://***@host/" in part.failures[0].error
    assert canary.word not in part.failures[0].error


async def test_why_a_payload_does_not_fit_holds_no_secret_of_the_pool_wherever_it_is_cut() -> None:
    canary = new_canary()
    url = f"amqp://user:{canary.in_url}@host/"

    def takes(order: Any) -> None: ...

    takes.__annotations__ = {"order": msgspec.defstruct("Nothing", [], forbid_unknown_fields=True)}
    names = [f"{'s' * before}{url}{'s' * 5_000}" for before in range(440, 500, 6)] + [f"{url} " * 300]
    async with worker_of(prepare(takes, "takes"), redact=Redactor(Secret(url))) as worker:
        (part,), _ = await whole(worker, buffer(*({name: 1} for name in names)))
    errors = [failure.error for failure in part.failures]
    assert [failure.reason for failure in part.failures] == ["invalid_payload"] * len(names)
    assert max(map(len, errors)) <= 500
    assert not [error for error in errors if canary.in_url[:6] in error]


async def test_an_error_of_many_urls_costs_no_more_than_what_is_kept_of_it() -> None:
    def careless(job: Job) -> None:
        raise ConnectionError("http://user:secret@host:80/x," * 15_000)

    async with worker_of(handler(careless)) as worker:
        (part,), _ = await whole(worker, buffer("a"))
    assert "secret" not in part.failures[0].error


def fails(job: Job) -> Any:
    return {}[job.payload]


async def fails_async(job: Job) -> Any:
    return fails(job)


def fail_together(jobs: list[Job]) -> list[Any]:
    return [fails(job) for job in jobs]


async def fail_together_async(jobs: list[Job]) -> list[Any]:
    return fail_together(jobs)


@pytest.mark.parametrize(
    ("call", "style"),
    [(fails, "sync"), (fails_async, "async"), (fail_together, "batch"), (fail_together_async, "async_batch")],
    ids=["sync", "async", "batch", "async_batch"],
)
async def test_a_failure_tells_where_it_was_raised(call: Any, style: Style) -> None:
    async with worker_of(handler(call, style)) as worker:
        (part,), _ = await whole(worker, buffer("the user's value", 2))
    for failure in part.failures:
        lines = failure.traceback.splitlines()
        assert lines[0].partition(" in ")[2].startswith(call.__name__), "ours above the call are left out"
        assert lines[-1].endswith("in fails: return {}[job.payload]")
        assert lines[-1].startswith(failure.raised_in)
        assert failure.raised_in.startswith("tests/unit/worker/test_worker.py:")
        assert "the user's value" not in failure.traceback
    assert len(part.failures) == 2


async def test_a_result_that_cannot_be_kept_tells_where_its_own_code_failed() -> None:
    class Lazy(dict[str, Any]):
        def items(self) -> Any:
            return fails(Job(payload="x"))

    async with worker_of(handler(lambda _: Lazy(a=1))) as worker:
        (part,), _ = await whole(worker, buffer(1))
    (failure,) = part.failures
    assert failure.reason == "result_not_serialisable"
    assert failure.traceback.splitlines()[-1].endswith("in fails: return {}[job.payload]")


async def test_a_message_that_cannot_be_read_has_its_reason_once_and_no_traceback() -> None:
    async with worker_of(handler(fails)) as worker:
        (part,), _ = await whole(worker, parcels(parcel(b"\xc1", content_type=h.MSGPACK)))
    (failure,) = part.failures
    assert (failure.reason, failure.traceback, failure.raised_in) == ("bad_msgpack", "", "")
    assert "bad_msgpack" not in failure.error


async def test_a_time_out_tells_where_the_job_stood() -> None:
    async def stands() -> None:
        await asyncio.Event().wait()

    async def call(job: Job) -> None:
        await stands()

    for made in (handler(call, "async"), handler(lambda jobs: call(jobs[0]), "async_batch")):
        async with worker_of(made, handler_timeout_s=0.05) as worker:
            (part,), _ = await whole(worker, buffer(1))
        (failure,) = part.failures
        assert failure.reason == "handler_timeout"
        assert any(line.endswith(".stands: await asyncio.Event().wait()") for line in failure.traceback.splitlines())
        assert failure.raised_in.startswith("tests/unit/worker/test_worker.py:")


async def test_a_worker_tells_where_a_job_stands_that_may_run_into_its_time_out() -> None:
    ended = threading.Event()

    def stands(job: Job) -> None:
        ended.wait(10)

    async with worker_of(handler(stands), handler_timeout_s=1.0, early_s=0.05) as worker:
        part, _ = await worker.run("b", buffer(1))
        assert (part.open, part.stands) == (1, ""), "it is not late yet"
        while not part.stands:
            part, _ = await worker.more("b")
        assert part.stands.splitlines()[0].endswith(".stands: ended.wait(10)")
        ended.set()
        while part.open:
            part, _ = await worker.more("b")
    assert part.stands == ""


@pytest.mark.parametrize("style", ["sync", "async", "batch", "async_batch"])
async def test_a_broken_worker_says_so_at_once_and_begins_no_other_job(style: Style) -> None:
    ran: list[Any] = []

    def one(job: Job) -> Any:
        ran.append(job.payload)
        if job.payload == "breaks":
            raise WorkerBroken("no CUDA") from RuntimeError("driver")
        return job.payload

    async def one_awaited(job: Job) -> Any:
        return one(job)

    def many(jobs: list[Job]) -> list[Any]:
        return [one(job) for job in jobs]

    async def many_awaited(jobs: list[Job]) -> list[Any]:
        return many(jobs)

    calls: dict[Style, Any] = {"sync": one, "async": one_awaited, "batch": many, "async_batch": many_awaited}
    async with worker_of(handler(calls[style], style), slots=1) as worker:
        part, rows = await worker.run("b", buffer(1, "breaks", 3))
        later, _ = await worker.run("c", buffer(4))
    assert part.broken == "no CUDA; caused by RuntimeError: driver"
    assert {failure.reason for failure in part.failures} == {"worker_broken"}
    assert ran == [1, "breaks"]
    if "batch" in style:
        assert len(part.failures) == 3, "its call says nothing of one job alone"
    else:
        assert (rows.num_rows, part.returned, part.open) == (1, [2], 0)
    assert (later.broken, later.returned) == ("", [0]), "nothing runs here any more"


async def test_a_packed_message_that_has_run_in_part_ends_with_a_broken_worker() -> None:
    def call(job: Job) -> Any:
        raise WorkerBroken("no CUDA")

    body, content_type = pack([Job(id=f"r{n}", payload=n) for n in range(3)])
    sent = parcel(body, content_type=content_type)
    async with worker_of(handler(call)) as worker:
        parts, _ = await whole(worker, parcels(sent))
    assert [part.finished for part in parts][-1] == [0]
    assert sum(len(part.failures) for part in parts) == 3
