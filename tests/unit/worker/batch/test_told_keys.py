"""Keys that stand in bodies are told before a job runs: whatever the batch ends in, the router has them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from rabbitray import Job
from rabbitray.actors.message.keys import parse_key_rule
from rabbitray.actors.message.parcel import Parcel
from rabbitray.actors.message.reply import decode_part, encode_part
from rabbitray.actors.message.wire import pack
from rabbitray.actors.telemetry.tracing import Tracing
from rabbitray.actors.worker.batch.decoding import IdentityRules
from rabbitray.actors.worker.batch.skip_done import FinishedJobs
from rabbitray.actors.worker.handler.loading import Handler, Style
from rabbitray.actors.worker.outcome.verdict import Categories
from rabbitray.actors.worker.worker import Worker, WorkerConfig
from tests.kit.deliveries import parcel
from tests.kit.eventually import eventually
from tests.kit.fake_known_keys import FakeKnownKeys
from tests.kit.worker_batches import parcels, whole

STYLES: tuple[Style, ...] = ("sync", "async", "batch", "async_batch")


class Calls:
    """A handler of any style, and the keys of the jobs that it ran. `go`: it waits for it."""

    def __init__(self) -> None:
        self.ran: list[str | None] = []
        self.go = threading.Event()
        self.go.set()

    def of(self, style: Style) -> Handler:
        calls = {"sync": self._one, "async": self._one_async, "batch": self._many, "async_batch": self._many_async}
        return Handler(name="test", style=style, call=calls[style], close=lambda: None)

    def _one(self, job: Job) -> Any:
        self.ran.append(job.key)
        self.go.wait(20)
        return job.payload

    async def _one_async(self, job: Job) -> Any:
        return self._one(job)

    def _many(self, jobs: list[Job]) -> list[Any]:
        return [self._one(job) for job in jobs]

    async def _many_async(self, jobs: list[Job]) -> list[Any]:
        return self._many(jobs)


@asynccontextmanager
async def worker_of(
    calls: Calls, style: Style = "sync", rule: str = "body:/id", finished: FinishedJobs | None = None, **own: Any
) -> AsyncIterator[Worker]:
    missing_id = own.pop("missing_id", "allow")
    identity = IdentityRules(missing_id=missing_id, key=parse_key_rule(rule))
    config = WorkerConfig(**{"name": "w-1", "queue": "q", "early_s": 10.0, "identity": identity} | own)
    worker = Worker(config, calls.of(style), Categories(), Tracing(queue="q"), finished=finished)
    try:
        yield worker
    finally:
        await worker.close()


def sent(*documents: Any, **changes: Any) -> list[Parcel]:
    return [
        parcel(msgspec.json.encode(document), **{"message_id": f"m-{n}"} | changes)
        for n, document in enumerate(documents)
    ]


@pytest.mark.parametrize("style", STYLES)
async def test_the_first_part_tells_keys_and_no_job_runs_before_the_next_one_is_asked(style: Style) -> None:
    calls = Calls()
    async with worker_of(calls, style) as worker:
        part, rows = await worker.run("b", parcels(*sent({"id": "a"}, {"id": 7}, {"no": 1})))
        part = decode_part(encode_part(part))
        assert part.keys == {0: ["a"], 1: ["7"]}
        assert (part.open, part.finished, part.failures, part.returned, rows.num_rows) == (3, [], [], [], 0)
        await asyncio.sleep(0.05)
        assert calls.ran == []
        part, rows = await worker.more("b")
    assert sorted(map(str, calls.ran)) == ["7", "None", "a"]
    assert (part.keys, sorted(part.finished), part.open, part.jobs) == ({}, [0, 1, 2], 0, 3)
    assert sorted(map(str, rows["key"].to_pylist())) == ["7", "None", "a"]


@pytest.mark.parametrize("rule", ["default", "header:id", "property:type", "none"])
async def test_other_rules_cost_no_part(rule: str) -> None:
    calls = Calls()
    async with worker_of(calls, rule=rule) as worker:
        (part,), _ = await whole(worker, parcels(*sent({"id": "a"}, key=None)))
    assert (part.keys, part.finished) == ({}, [0])


async def test_where_there_is_nothing_to_tell_or_to_run_there_is_no_part_more() -> None:
    calls, known = Calls(), FakeKnownKeys()
    async with worker_of(calls) as worker:
        (part,), _ = await whole(worker, parcels(*sent({"no": 1}, [])))
        assert (part.keys, part.finished) == ({}, [0, 1])
        (part,), _ = await whole(worker, parcels(parcel(b"{")))
        assert [failure.reason for failure in part.failures] == ["bad_json"]
    known.winners = {"a": 0}
    finished = FinishedJobs(known, "always")
    async with worker_of(calls, finished=finished) as worker:
        parts, _ = await whole(worker, parcels(*sent({"id": "a"}, {"id": "b"})))
    assert [part.keys for part in parts] == [{0: ["a"], 1: ["b"]}, {}]
    assert known.asked == [["a", "b"]], "skip_done asks by these keys"


async def test_what_waits_behind_a_slow_job_is_given_back_after_the_keys_as_before() -> None:
    calls = Calls()
    calls.go.clear()
    async with worker_of(calls, early_s=0.1) as worker:
        part, _ = await worker.run("b", parcels(*sent({"id": "a"}, {"id": "b"})))
        assert (part.returned, part.open) == ([], 2)
        part, _ = await worker.more("b")
        assert (part.returned, part.executing, part.open) == ([1], [0], 1)
        calls.go.set()
        part, _ = await worker.more("b")
        assert (part.finished, part.open) == ([0], 0)


async def test_of_a_packed_message_each_record_is_told() -> None:
    calls = Calls()
    body, content_type = pack([Job(id=f"own-{n}", payload={"id": n} if n else {}) for n in range(3)])
    async with worker_of(calls) as worker:
        part, _ = await worker.run("b", parcels(parcel(body, content_type=content_type)))
        assert part.keys == {0: [None, "1", "2"]}
        part, _ = await worker.more("b")
    await eventually(lambda: len(calls.ran) == 3)
    assert calls.ran == [None, "1", "2"]


@pytest.mark.parametrize(
    ("rule", "changes", "said"),
    [
        ("body:/id", {}, "body:/id is true or false; key = body:/id (missing_id = reject)"),
        (
            "header:x",
            {"missing": "there is no header 'x'"},
            "there is no header 'x'; key = header:x (missing_id = reject)",
        ),
        ("default", {}, "no key header, no id in the body, no message_id (missing_id = reject)"),
    ],
)
async def test_a_missing_key_is_refused_with_words_that_name_the_rule(
    rule: str, changes: dict[str, Any], said: str
) -> None:
    calls = Calls()
    async with worker_of(calls, rule=rule, missing_id="reject") as worker:
        (part,), _ = await whole(worker, parcels(*sent({"id": True}, message_id=None, **changes)))
    [failure] = part.failures
    assert (failure.reason, failure.error, failure.key, calls.ran) == ("missing_id", said, None, [])
