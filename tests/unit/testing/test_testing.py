"""The test kit: what a handler's author sees of the path, without broker and Ray."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from rabbitray import Job, Reject, Retry, WorkerBroken
from rabbitray.actors.errors import ConfigurationError, EncodeError, HandlerLoadError
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.wire import pack
from rabbitray.actors.testing import Message, Outcome, work, work_async
from rabbitray.actors.worker.handler.loading import batch
from tests.kit.steered_handler import handle


def steered(*payloads: dict[str, object], **settings: object) -> list[Outcome]:
    return work(handle, [Job(payload=payload) for payload in payloads], **settings)  # type: ignore[arg-type] # any


def test_each_verdict_in_order() -> None:
    done, raised, permanent, rejected, asked = steered(
        {"n": 1},
        {"do": "raise"},
        {"do": "permanent"},
        {"do": "reject", "text": "never"},
        {"do": "retry", "after_s": 30},
    )
    assert (done.status, done.result["n"], done.attempts, done.reason) == ("DONE", 1, 1, None)
    assert (raised.status, raised.delay_s, raised.category) == ("RETRY", 2.0, "transient")
    assert (raised.error_class, raised.error) == ("ConnectionError", "told to raise")
    assert (permanent.status, permanent.reason) == ("DEAD", "permanent")
    assert (rejected.status, rejected.reason, rejected.error) == ("DEAD", "rejected", "never")
    assert (asked.status, asked.reason, asked.delay_s) == ("RETRY", "retry_requested", 32.0)


def test_a_wait_beyond_the_ladder_is_told_as_it_was_asked() -> None:
    [outcome] = steered({"do": "retry", "after_s": 3_600})
    assert outcome.delay_s == 3_600.0


def test_the_last_attempt_is_a_dead_letter() -> None:
    [outcome] = work(handle, [Job(payload={"do": "raise"}, attempt=5)])
    assert (outcome.status, outcome.reason, outcome.attempts) == ("DEAD", "max_retries", 6)
    [outcome] = work(handle, [Job(payload={"do": "raise"}, attempt=5)], max_retries=6)
    assert outcome.status == "RETRY"


def test_following_retries_ends_with_done_or_dead() -> None:
    better, never = steered({"do": "raise", "times": 3}, {"do": "raise"}, follow_retries=True)
    assert (better.status, better.attempts, better.result["attempt"]) == ("DONE", 4, 3)
    assert (never.status, never.attempts) == ("DEAD", 6)


def test_a_mapping_is_a_document_of_another_producer() -> None:
    verbose = {"messageId": "m1", "userId": "u1", "messageType": "BIRTHDAY", "retryCount": 0, "payload": {"n": 7}}
    compact = {"i": "m2", "u": "u2", "t": "B", "p": {"n": 8}}
    foreign = {"n": 9}
    first, second, third = work(handle, [verbose, compact, foreign], message_format="report")
    assert first.job is not None
    assert (first.job.key, first.job.message_type, first.result["n"]) == ("m1", "BIRTHDAY", 7)
    assert second.job is not None
    assert (second.job.key, second.job.message_type, second.result["n"]) == ("m2", "BIRTHDAY", 8)
    assert third.job is not None
    assert (third.job.key, third.job.payload) == (None, {"n": 9})
    signed, plain = work(handle, [verbose, compact])
    assert signed.job is not None
    assert (signed.job.key, signed.result["n"]) == ("m1", 7)
    assert plain.job is not None
    assert (plain.job.key, plain.job.payload) == (None, compact), "the short letters are not guessed"


def test_bytes_that_are_no_job_are_dead_letters_and_the_rest_goes_on() -> None:
    torn, good, json = work(
        handle, [b"\x81", Job(payload={"n": 1}), Message(body=b"{nope", content_type="application/json")]
    )
    assert (torn.status, torn.error_class, torn.job) == ("DEAD", "DecodeError", None)
    assert good.done
    assert (json.status, json.reason) == ("DEAD", "bad_json")


def test_a_message_says_key_attempt_and_id() -> None:
    body = b'{"n": 1}'
    headers = {h.KEY: "k1", h.ATTEMPT: 2}
    [outcome] = work(handle, [Message(body=body, content_type="application/json", message_id="m1", headers=headers)])
    assert outcome.result["key"] == "k1"
    assert outcome.attempts == 3


def test_packed_records_have_an_outcome_each_and_retry_alone() -> None:
    jobs = [Job(id=f"r{n}", payload={"n": n, "do": "raise" if n == 1 else "ok", "times": 1}) for n in range(3)]
    body, content_type = pack(jobs)
    outcomes = work(handle, [Message(body=body, content_type=content_type)])
    assert [(o.message, o.record, o.status) for o in outcomes] == [(0, 0, "DONE"), (0, 1, "RETRY"), (0, 2, "DONE")]
    outcomes = work(handle, [Message(body=body, content_type=content_type)], follow_retries=True)
    assert [(o.record, o.status, o.attempts) for o in outcomes] == [(0, "DONE", 1), (1, "DONE", 2), (2, "DONE", 1)]
    assert outcomes[1].result["key"] == "r1"


def test_missing_id_can_be_refused() -> None:
    [outcome] = work(handle, [{"n": 1}], missing_id="reject")
    assert (outcome.status, outcome.reason) == ("DEAD", "missing_id")


def test_a_batch_handler_sees_batches_of_at_most_batch_size() -> None:
    sizes = []

    @batch
    def sized(jobs: list[Job]) -> list[object]:
        sizes.append(len(jobs))
        return [Reject("odd") if job.payload % 2 else job.payload for job in jobs]

    outcomes = work(sized, [Job(payload=n) for n in range(7)], batch_size=3)
    assert sizes == [3, 3, 1]
    assert [outcome.status for outcome in outcomes] == ["DONE", "DEAD"] * 3 + ["DONE"]


def test_slow_jobs_lose_nothing_although_parts_come_early() -> None:
    released = threading.Event()

    def waits(job: Job) -> int:
        if job.payload == 0:
            released.wait(1.3)  # longer than the worker waits before it gives the rest back
        return int(job.payload)

    outcomes = work(waits, [Job(payload=n) for n in range(4)])
    assert [outcome.result for outcome in outcomes] == [0, 1, 2, 3]


def test_own_error_categories() -> None:
    [outcome] = steered({"do": "permanent"}, error_categories={"ValueError": "transient"})
    assert outcome.status == "RETRY"


def test_an_async_job_that_hangs_is_cancelled() -> None:
    [outcome] = work("tests.kit.steered_handler:handle_async", [{"do": "hang"}], handler_timeout_s=0.1)
    assert (outcome.status, outcome.error_class) == ("RETRY", "TimeoutError")


def test_a_sync_job_that_hangs_is_an_error_of_the_test() -> None:
    released = threading.Event()
    with pytest.raises(TimeoutError, match=r"no job for 0\.1 s"):
        work(lambda job: released.wait(), [{}], handler_timeout_s=0.1)
    released.set()


def test_a_result_that_is_no_json_is_a_dead_letter() -> None:
    [outcome] = work(lambda job: object(), [Job()])
    assert (outcome.status, outcome.reason) == ("DEAD", "result_not_serialisable")


def test_a_class_is_set_up_and_closed_once() -> None:
    steps = []

    class Counted:
        def setup(self) -> None:
            steps.append("setup")

        async def __call__(self, job: Job) -> None:
            steps.append("call")
            if not job.attempt:
                raise Retry

        async def close(self) -> None:
            steps.append("close")

    work(Counted, [Job()], follow_retries=True)
    assert steps == ["setup", "call", "call", "close"]


def test_mistakes_are_told_at_once() -> None:
    with pytest.raises(HandlerLoadError, match="no 'handel'; did you mean 'handle'"):
        work("tests.kit.steered_handler:handel", [])
    with pytest.raises(HandlerLoadError, match="is of type int, not a function"):
        work(3, [])  # type: ignore[arg-type] # what is wrong here
    with pytest.raises(ConfigurationError, match="no setting max_retry; did you mean max_retries"):
        work(handle, [], max_retry=3)  # type: ignore[call-arg] # what is wrong here
    with pytest.raises(ConfigurationError, match=r"message_format 'reprot' must be one of .*; did you mean report"):
        work(handle, [], message_format="reprot")  # type: ignore[arg-type] # what is wrong here
    with pytest.raises(ConfigurationError, match="missing_id 'refuse' must be one of allow, reject"):
        work(handle, [], missing_id="refuse")  # type: ignore[arg-type] # what is wrong here
    with pytest.raises(ConfigurationError, match="key is text, not int"):
        work(handle, [], key=5)  # type: ignore[arg-type] # what is wrong here
    for alone in ({"do": "ok"}, b"{}", Message(body=b"{}"), Job()):
        with pytest.raises(ConfigurationError, match="messages are a list, not one "):
            work(handle, alone)  # type: ignore[arg-type] # what is wrong here
    with pytest.raises(EncodeError, match="the body of a message is bytes, not str: 'text'"):
        work(handle, [Message(body="text")])  # type: ignore[arg-type] # what is wrong here


async def test_inside_an_event_loop() -> None:
    [outcome] = await work_async(handle, [Job(payload={"n": 1})])
    assert outcome.done


def test_it_needs_neither_ray_nor_duckdb() -> None:
    script = (
        "import sys; from rabbitray.actors.testing import work; assert work(len, [[1, 2]] * 0) == []; "
        "print({'ray', 'duckdb', 'aio_pika'} & sys.modules.keys())"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ("default", "m-1"),
        ("header:order-id", "7"),
        ("property:correlation_id", "c-1"),
        ("property:type", "order.created"),
        ("body:/order/id", "o-7"),
        ("none", None),
    ],
)
def test_a_key_from_where_it_is(rule: str, key: str | None) -> None:
    message = Message(
        body=b'{"order": {"id": "o-7"}, "do": "raise", "times": 1}',
        content_type="application/json",
        message_id="m-1",
        correlation_id="c-1",
        type="order.created",
        headers={"order-id": 7},
    )
    [outcome] = work(handle, [message], key=rule, follow_retries=True)
    assert (outcome.status, outcome.attempts, outcome.result["key"]) == ("DONE", 2, key)


def test_a_key_that_is_missing_follows_the_setting() -> None:
    [outcome] = work(handle, [{"order": {"id": None}}], key="body:/order/id", missing_id="reject")
    assert (outcome.reason, outcome.error) == (
        "missing_id",
        "body:/order/id is null; key = body:/order/id (missing_id = reject)",
    )
    forged = Message(body=b"{}", content_type="application/json", headers={h.KEY: "forged"})
    [outcome] = work(handle, [forged], key="header:order-id")
    assert (outcome.status, outcome.result["key"]) == ("DONE", None)
    copy = Message(body=b"{}", content_type="application/json", headers={h.KEY: "o-7", h.ATTEMPT: 1})
    [outcome] = work(handle, [copy], key="header:order-id")
    assert outcome.result["key"] == "o-7"
    with pytest.raises(ConfigurationError, match="key 'body:order' must be default, "):
        work(handle, [], key="body:order")


def test_progress_and_a_broken_worker_in_a_test() -> None:
    deadlines: list[object] = []

    def call(job: Job) -> int:
        job.progress(0.5, "half")
        deadlines.append(job.deadline)
        if job.payload == 1:
            raise WorkerBroken("no CUDA")
        return int(job.payload)

    found = work(call, [Job(payload=n) for n in range(3)])
    assert [(one.status, one.reason) for one in found] == [("DONE", None), ("RETRY", "worker_broken"), ("DONE", None)]
    assert all(deadlines)
    assert len(deadlines) == 3
