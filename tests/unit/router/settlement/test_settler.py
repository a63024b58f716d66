"""The last step: copies are confirmed, then messages are acked; what could not be made safe is given back."""

from __future__ import annotations

import asyncio
import gzip
import time
from typing import Any

import msgpack
import msgspec
import pyarrow as pa
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pamqp.commands import Basic

from rabbitray.actors.errors import (
    EncodeError,
    FencedError,
    PublisherClosedError,
    PublishTimeoutError,
    RefusedError,
    StoreUnavailableError,
    UnroutableError,
)
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.headers import WAIT_MOST_MS
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.keys import parse_key_rule
from rabbitray.actors.message.parcel import whole_message
from rabbitray.actors.message.reply import Failure, Part
from rabbitray.actors.message.wire import REPORT_CODES, MessageFormat, MessageLimits, decode, encode, pack
from rabbitray.actors.router.delivery import Batch, Delivery, message_failure, refusal
from rabbitray.actors.router.settlement.acker import GIVE_BACK
from rabbitray.actors.router.settlement.retries import RetryLimits, Rung
from rabbitray.actors.router.settlement.settler import Settler
from rabbitray.actors.router.status import Counts
from rabbitray.actors.secret import Redactor, Secret
from rabbitray.actors.store.answers import Answer
from rabbitray.actors.telemetry.tracing import Tracing
from tests.kit.canary import new_canary
from tests.kit.deliveries import delivery
from tests.kit.eventually import eventually
from tests.kit.fake_acks import FakeAcks
from tests.kit.fake_outbox import FakeOutbox
from tests.kit.virtual_time import in_virtual_time


class Harness:
    """A settler whose every effect is in one log, in order."""

    def __init__(self, limits: RetryLimits | None = None, **own: Any) -> None:
        self.log: list[str] = []
        self.acks = FakeAcks(self.log)
        self.outbox = FakeOutbox(self.log)
        self.buried: list[dict[str, Any]] = []
        self.bury_failures: list[Exception] = []
        self.settler = Settler(
            limits or RetryLimits(),
            "q",
            acks=self.acks,
            outbox=self.outbox,
            record_dead_letters=self._record_dead_letters,
            **own,
        )

    async def _record_dead_letters(self, rows: pa.Table) -> None:
        if self.bury_failures:
            raise self.bury_failures.pop(0)
        self.log.append(f"buried {rows.num_rows}")
        self.buried += rows.to_pylist()


def batch_of(count: int) -> Batch:
    return Batch([delivery(tag) for tag in range(1, count + 1)])


def failure(position: int, verdict: Any = "retry", **changes: Any) -> Failure:
    plain: dict[str, Any] = {
        "reason": "exception" if verdict == "retry" else "rejected",
        "error": "x",
        "error_class": "ConnectionError",
        "category": "transient",
        "key": f"k{position}",
    }
    return Failure(position=position, verdict=verdict, **(plain | changes))


def done(*positions: int, failures: list[Failure] | None = None) -> Part:
    """A part with rows for these positions; failed messages are finished as well."""
    failures = failures or []
    finished = sorted({*positions, *(one.position for one in failures)})
    return Part(
        rows=len(positions),
        row_positions=list(positions),
        failures=failures,
        finished=finished,
        jobs=len(finished),
    )


async def test_done_is_acked() -> None:
    held = Harness()
    await held.settler.settle(batch_of(2), done(0, 1), Answer(committed=2))
    assert held.acks.acked == [1, 2]
    tally = held.settler.tally
    assert (tally.done, tally.acked, tally.retried, tally.dead) == (2, 2, 0, 0)


async def test_what_was_not_run_since_it_has_its_result_is_acked_as_a_duplicate() -> None:
    held = Harness()
    part = Part(rows=1, row_positions=[0], finished=[0, 1, 2], jobs=3, skipped=2)
    await held.settler.settle(batch_of(3), part, Answer(committed=0, duplicates=(0,)))
    assert held.acks.acked == [1, 2, 3]
    tally = held.settler.tally
    assert (tally.done, tally.duplicates, tally.skipped, tally.acked) == (0, 3, 2, 3)
    counts = Counts(done=5, duplicates=tally.duplicates, skipped=tally.skipped, retried=1, dead=1)
    assert counts.runs == 5 + 1 + 1 + 1, "one of the three duplicates was run"


async def test_a_copy_is_confirmed_before_its_message_is_acked() -> None:
    held = Harness()
    part = done(failures=[failure(0), failure(1, "dead")])
    await held.settler.settle(batch_of(2), part, Answer())
    assert held.log == ["retry 1 confirmed", "park 2 confirmed", "buried 1", "ack 1", "ack 2"]
    assert held.outbox.retried[0][2] == Rung(delay_ms=2_000, attempt=1)
    assert (held.settler.tally.retried, held.settler.tally.dead) == (1, 1)
    assert [(row["key"], row["reason"], row["attempts"]) for row in held.buried] == [("k1", "rejected", 1)]
    assert held.buried[0]["body"] == b"{}"


async def test_in_an_outage_what_failed_by_a_service_is_not_charged_and_all_else_goes_its_own_way() -> None:
    held = Harness()
    batch = batch_of(4)
    batch.deliveries[1].properties = Basic.Properties(headers={h.SPARED: 2})
    failures = [
        failure(0, attempt=5),
        failure(1, reason="handler_timeout"),
        failure(2, reason="retry_requested"),
        failure(3, "dead", category="permanent"),
    ]
    await held.settler.publish(batch, done(failures=failures), Answer(), spared_s=4.0)
    assert [rung for _, _, rung in held.outbox.retried] == [
        Rung(delay_ms=4_000, attempt=5, spared=1, hops=1),
        Rung(delay_ms=8_000, attempt=0, spared=3, hops=1),
        Rung(delay_ms=2_000, attempt=1),
    ]
    assert len(held.outbox.parked) == 1
    assert held.settler.tally.retried == 1, "those that are charged"


@pytest.mark.parametrize(
    "error",
    [UnroutableError("x"), RefusedError("x"), PublishTimeoutError("x"), PublisherClosedError("x"), OSError("x")],
)
@in_virtual_time
async def test_what_is_not_confirmed_is_given_back_and_never_acked(error: Exception) -> None:
    held = Harness()
    held.outbox.failures.extend([None, error, None])
    part = done(3, failures=[failure(0), failure(1), failure(2, "dead")])
    await held.settler.settle(batch_of(4), part, Answer(committed=1))
    assert held.acks.acked == [1, 3, 4]
    assert held.acks.returned == [], "after a pause only"
    await eventually(lambda: held.acks.returned == [2])
    assert held.settler.tally.retried == 1
    assert held.settler.tally.given_back == 1


@in_virtual_time
async def test_give_backs_in_a_row_wait_longer_each_time() -> None:
    held, loop, waited = Harness(), asyncio.get_running_loop(), []
    for _ in range(3):
        held.outbox.failures.append(RefusedError("full"))
        began, before = loop.time(), len(held.acks.returned)
        await held.settler.settle(batch_of(1), done(failures=[failure(0, "dead")]), Answer())
        while len(held.acks.returned) == before:  # noqa: ASYNC110 # virtual time, in which a wait costs nothing
            await asyncio.sleep(0.05)
        waited.append(loop.time() - began)
    assert waited == pytest.approx([GIVE_BACK.first_s, 2 * GIVE_BACK.first_s, 4 * GIVE_BACK.first_s], abs=0.06)


async def test_a_failure_of_a_key_with_a_result_is_acked_not_published() -> None:
    held = Harness()
    part = done(failures=[failure(0), failure(1, "dead"), failure(2)])
    await held.settler.settle(batch_of(3), part, Answer(already=("k0", "k1")))
    assert held.acks.acked == [1, 2, 3]
    assert [one.tag for one, _, _ in held.outbox.retried] == [3]
    assert held.outbox.parked == []


class Compared(str):
    """A key that counts how often it is compared."""

    times = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return str.__eq__(self, other)


async def test_a_batch_of_known_keys_that_fail_costs_no_comparison_of_each_with_each() -> None:
    """As many as a packed message may hold, all under keys that somebody made known before."""
    held, keys = Harness(), [f"key-{number}" for number in range(1_000)]
    failures = [msgspec.structs.replace(failure(0), record=at, key=Compared(key)) for at, key in enumerate(keys)]
    await held.settler.settle(batch_of(1), done(failures=failures), Answer(already=tuple(keys)))
    assert held.acks.acked == [1]
    assert Compared.times <= 10 * len(keys)


async def test_a_row_that_the_store_rejects_is_buried() -> None:
    held = Harness()
    answer = Answer(committed=1, duplicates=(1,), rejected=((2, "too long"),))
    await held.settler.settle(batch_of(3), done(0, 1, 2), answer)
    assert [(one.tag, reason, found.error) for one, found, reason in held.outbox.parked] == [
        (3, "store_rejected", "too long")
    ]
    assert held.acks.acked == [1, 2, 3]
    tally = held.settler.tally
    assert (tally.done, tally.duplicates, tally.dead) == (1, 1, 1)


async def test_a_rejected_row_of_a_packed_message_is_buried_as_that_record_alone() -> None:
    held = Harness()
    body, _ = pack([Job(id=f"r{n}", message_type="BIRTHDAY", payload=n) for n in range(4)])
    batch = Batch([delivery(1), delivery(2, body, content_type=h.PACKED, attempt=3, key="forged for all")])
    part = Part(rows=5, row_positions=[0, 1, 1, 1, 1], row_records=[0, 0, 1, 2, 3], finished=[0, 1], jobs=5)
    await held.settler.settle(batch, part, Answer(committed=3, rejected=((2, "too long"), (4, "no UTF-8"))))
    found = [(one.tag, found.key, found.attempt, found.record, found.error) for one, found, _ in held.outbox.parked]
    assert found == [(2, "r1", 3, 1, "too long"), (2, "r3", 3, 3, "no UTF-8")]
    buried = [decode(row["body"], row["content_type"])[0].payload for row in held.buried]
    assert buried == [1, 3]
    assert [(row["key"], row["attempts"], row["message_type"]) for row in held.buried] == [
        ("r1", 4, "BIRTHDAY"),
        ("r3", 4, "BIRTHDAY"),
    ]


async def test_a_rejected_row_keeps_the_key_and_attempts_of_its_message() -> None:
    held = Harness()
    one = delivery(1, b'{"i":"own","t":"B","r":2}', content_type=h.JOB_JSON)
    await held.settler.settle(Batch([one]), done(0), Answer(rejected=((0, "too long"),)))
    assert [(row["key"], row["attempts"], row["body"]) for row in held.buried] == [("own", 3, one.parcel.body)]


async def test_the_row_of_a_dead_letter_names_its_worker() -> None:
    held = Harness()
    await held.settler.settle(
        Batch([delivery(1)], worker="w-7"), Part(failures=[failure(0, "dead")], finished=[0]), Answer()
    )
    await held.settler.park(delivery(2), message_failure(delivery(2), "too_large", "x", "RefusedMessage"))
    assert [row["worker"] for row in held.buried] == ["w-7", None]


async def test_the_line_of_a_dead_letter_names_its_job_and_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    held = Harness()
    one = delivery(1, traceparent=f"00-{'ab' * 16}-{'cd' * 8}-01")
    await held.settler.settle(Batch([one]), Part(failures=[failure(0, "dead", key="k1")], finished=[0]), Answer())
    line = next(record for record in caplog.records if "to the dead letters" in record.getMessage())
    assert (vars(line)["key"], vars(line)["trace_id"]) == ("k1", "ab" * 16)


SAMPLED = f"00-{'ab' * 16}-{'cd' * 8}-01"
BATCH = f"00-{'12' * 16}-{'34' * 8}-01"


class Traced(Harness):
    """A settler whose spans of failed jobs stay in memory."""

    def __init__(self) -> None:
        self._memory, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._memory))
        super().__init__(tracing=Tracing(queue="q", provider=provider))

    @property
    def failed(self) -> list[ReadableSpan]:
        return [span for span in self._memory.get_finished_spans() if span.name == "fail q"]


@pytest.mark.parametrize(
    ("changes", "error_class", "text"),
    [
        ({}, "WorkerLost", "it died"),
        ({"refused": "too_large: body of 9 bytes"}, "RefusedMessage", "body of 9 bytes"),
    ],
)
async def test_a_message_that_no_worker_gave_an_outcome_fails_in_its_own_trace(
    changes: dict[str, Any], error_class: str, text: str
) -> None:
    held = Traced()
    one = delivery(1, b'{"i":"own"}', content_type=h.JOB_JSON, traceparent=SAMPLED, attempt=2, **changes)
    found = refusal(one) if one.refused else message_failure(one, "worker_crashed", "it died", "WorkerLost")
    await held.settler.park(one, found)
    (span,) = held.failed
    assert f"{span.context.trace_id:032x}" == "ab" * 16
    assert span.attributes is not None
    assert span.attributes["error.type"] == error_class
    assert (span.attributes["messaging.message.id"], span.attributes["rabbitray.attempt"]) == ("m-1", 2)
    assert span.attributes.get("rabbitray.key") == (None if one.refused else "own")
    assert span.status.description == text


async def test_a_row_that_the_store_rejects_fails_in_its_own_trace_and_names_its_batch() -> None:
    held = Traced()
    marked = {"content_type": h.JOB_JSON}
    batch = Batch([delivery(1, b'{"i":"a"}', **marked), delivery(2, b'{"i":"b"}', traceparent=SAMPLED, **marked)])
    part = Part(rows=2, row_positions=[0, 1], finished=[0, 1], jobs=2, span=BATCH)
    await held.settler.settle(batch, part, Answer(committed=1, rejected=((1, "too long"),)))
    (span,) = held.failed
    assert f"{span.context.trace_id:032x}" == "ab" * 16
    assert span.attributes is not None
    assert (span.attributes["error.type"], span.attributes["rabbitray.key"]) == ("RejectedRow", "b")
    assert [f"{link.context.trace_id:032x}" for link in span.links] == ["12" * 16]


async def test_what_a_worker_has_traced_is_not_traced_again() -> None:
    held = Traced()
    await held.settler.settle(batch_of(2), done(failures=[failure(0), failure(1, "dead")]), Answer())
    assert held.failed == []


def nested(levels: int) -> Any:
    deep: Any = 1
    for _ in range(levels):
        deep = [deep]
    return deep


async def test_a_packed_message_is_taken_apart_whatever_is_in_it() -> None:
    """Bytes as keys and 200 levels are read, but our own writer refuses them: it used to come back for ever."""
    held = Harness(wire=MessageLimits(max_depth=500))
    body = msgpack.packb([{"i": "a", "p": {b"key": 1}}, {"i": "b", "p": nested(200)}, {"i": "c", "r": 2}])
    await held.settler.whole.take_apart(delivery(1, body, content_type=h.PACKED))
    assert held.log == ["again 1.0 confirmed", "again 1.1 confirmed", "again 1.2 confirmed", "ack 1"]
    assert [piece.key for _, piece in held.outbox.singled] == ["a", "b", "c"]
    assert [piece.attempt for _, piece in held.outbox.singled] == [0, 0, 2], "the record's own where no header says it"


async def test_a_packed_message_of_one_record_is_not_taken_apart_twice() -> None:
    held = Harness()
    body, _ = pack([Job(id="only")])
    await held.settler.whole.take_apart(delivery(1, body, content_type=h.PACKED, key="k"))
    ((_, piece),) = held.outbox.singled
    assert (piece.key, piece.content_type) == ("k", h.JOB_MSGPACK), (
        "no packed message any more: the quarantine counts it"
    )


@in_virtual_time
async def test_a_packed_message_that_cannot_be_taken_apart_for_a_fault_of_ours_is_given_back() -> None:
    held = Harness()
    held.outbox.failures.append(RuntimeError("nobody foresaw it"))
    body, _ = pack([Job(id="a"), Job(id="b")])
    await held.settler.whole.take_apart(delivery(1, body, content_type=h.PACKED))
    await eventually(lambda: held.acks.returned == [1])


async def test_a_piece_that_cannot_be_written_parks_its_message() -> None:
    held = Harness()
    held.outbox.failures.append(EncodeError("a header without an AMQP form"))
    body, _ = pack([Job(id="only")])
    await held.settler.whole.take_apart(delivery(1, body, content_type=h.PACKED))
    assert [(row["reason"], row["error"]) for row in held.buried] == [
        ("not_encodable", "a header without an AMQP form")
    ]
    assert held.acks.acked == [1]


async def test_type_codes_hold_where_a_message_is_taken_apart() -> None:
    codes = REPORT_CODES.extended({"C": "CHRISTMAS"})
    held = Harness(codes=codes)
    body, _ = pack([Job(id="a", message_type="CHRISTMAS"), Job(id="b")], codes=codes)
    await held.settler.whole.take_apart(delivery(1, body, content_type=h.PACKED))
    assert [(piece.key, piece.message_type) for _, piece in held.outbox.singled] == [("a", "CHRISTMAS"), ("b", None)]


OWN = b'{"i":"own","t":"B"}'


@pytest.mark.parametrize(
    ("body", "changes", "key"),
    [
        (OWN, {"content_type": h.JOB_JSON}, "own"),
        (OWN, {"content_type": h.JOB_JSON, "key": "header"}, "header"),
        (b'{"i":null,"t":"B"}', {"content_type": h.JOB_JSON}, "m-1"),
        (OWN, {}, None),
        (b'{"i":"own","t":"B","r":0}', {}, None),
        (b'{"i":"own","t":"B","r":0}', {"stamped": True}, "own"),
        (b'{"messageId":"own","messageType":"","retryCount":0}', {}, "own"),
        (b'{"messageId":"own","messageType":""}', {}, None),
        (b'{"x":1}', {}, None),
        (b'{"t":"B","i":"own"}', {"content_type": h.JOB_JSON}, None),
        (b"{broken", {}, None),
        (encode(Job(id="own"))[0], {"content_type": h.MSGPACK}, "own"),
        (msgpack.packb({"i": "own", "t": "B"}), {"content_type": h.MSGPACK}, None),
        (gzip.compress(OWN, mtime=0), {"content_type": h.JOB_JSON, "content_encoding": "gzip"}, None),
        (OWN, {"content_type": h.JOB_JSON, "refused": "too_large: whatever"}, None),
        (pack([Job(id="a"), Job(id="b")])[0], {"content_type": h.PACKED}, None),
    ],
)
async def test_a_message_that_is_parked_whole_keeps_the_key_that_it_is_worked_under(
    body: bytes, changes: dict[str, Any], key: str | None
) -> None:
    held = Harness()
    one = delivery(1, body, **changes)
    await held.settler.park(one, message_failure(one, "worker_crashed", "it died", "WorkerLost"))
    ((_, failure, _),) = held.outbox.parked
    assert failure.key == key
    assert [row["key"] for row in held.buried] == [key], "no guess: what is worked under another key would be missed"


@pytest.mark.parametrize(("message_format", "key"), [("auto", None), ("report", "own"), ("plain", None)])
async def test_the_setting_says_which_form_the_router_knows(message_format: MessageFormat, key: str | None) -> None:
    held = Harness(message_format=message_format)
    one = delivery(1, OWN)
    await held.settler.park(one, message_failure(one, "worker_crashed", "it died", "WorkerLost"))
    assert [row["key"] for row in held.buried] == [key]


async def test_the_row_of_a_body_that_a_worker_could_not_read_has_its_message_id_for_a_key() -> None:
    held = Harness()
    found = Failure.permanent(whole_message(delivery(1).parcel), "bad_json", "bad", "DecodeError")
    await held.settler.settle(batch_of(1), Part(failures=[found], finished=[0]), Answer())
    assert [row["key"] for row in held.buried] == ["m-1"]


@pytest.mark.parametrize("rule", ["header:order-id", "body:/id", "none"])
async def test_where_a_rule_says_where_keys_are_a_message_id_or_a_job_s_own_is_none(rule: str) -> None:
    held = Harness(rule=parse_key_rule(rule))
    read = Failure.permanent(whole_message(delivery(1).parcel), "bad_json", "bad", "DecodeError")
    await held.settler.settle(batch_of(1), Part(failures=[read], finished=[0]), Answer())
    one = delivery(2, encode(Job(id="own"))[0], content_type=h.JOB_MSGPACK)
    await held.settler.park(one, message_failure(one, "worker_crashed", "it died", "WorkerLost"))
    assert [(row["key"], row["message_id"]) for row in held.buried] == [(None, "m-1"), (None, "m-2")]


async def test_a_rejected_row_of_a_body_in_no_form_of_ours_has_no_key() -> None:
    held = Harness()
    one = delivery(1, b'{"t":"B","i":"own"}')
    await held.settler.settle(Batch([one]), done(0), Answer(rejected=((0, "too long"),)))
    assert [(row["key"], row["message_id"], row["body"]) for row in held.buried] == [(None, "m-1", one.parcel.body)]


async def test_a_packed_message_is_acked_once_all_of_it_is_safe() -> None:
    held, batch = Harness(), batch_of(1)
    first = Part(rows=1, row_positions=[0], failures=[failure(0, record=1, body=b"r1")], open=1, jobs=2)
    await held.settler.settle(batch, first, Answer(committed=1))
    assert held.acks.acked == []
    last = Part(rows=1, row_positions=[0], row_records=[2], finished=[0], jobs=1)
    await held.settler.settle(batch, last, Answer(committed=1))
    assert held.acks.acked == [1]


@in_virtual_time
async def test_a_packed_message_with_an_unsafe_record_is_given_back_at_its_end() -> None:
    held, batch = Harness(), batch_of(1)
    held.outbox.failures.extend([RefusedError("full"), RefusedError("full")])
    first = Part(failures=[failure(0, record=0), failure(0, record=1)], open=1, jobs=2)
    unsafe = await held.settler.settle(batch, first, Answer())
    last = Part(rows=1, row_positions=[0], row_records=[2], finished=[0], jobs=1)
    await held.settler.settle(batch, last, Answer(committed=1), unsafe)
    assert held.settler.tally.retried == 0
    await eventually(lambda: held.acks.returned == [1])
    assert held.acks.acked == []


@in_virtual_time
async def test_a_store_that_cannot_bury_is_asked_again_before_the_ack() -> None:
    held = Harness()
    held.bury_failures = [StoreUnavailableError("disk full")] * 3
    await held.settler.settle(batch_of(1), done(failures=[failure(0, "dead")]), Answer())
    assert held.log == ["park 1 confirmed", "buried 1", "ack 1"], "published once, however often the store fails"


async def test_a_row_that_cannot_be_buried_does_not_double_the_dead_letter() -> None:
    held = Harness()
    held.bury_failures = [ValueError("bug")]
    await held.settler.settle(batch_of(1), done(failures=[failure(0, "dead")]), Answer())
    assert held.log == ["park 1 confirmed", "ack 1"], "it is safe in its queue"


async def test_a_fenced_router_acks_nothing() -> None:
    held = Harness()
    held.bury_failures = [FencedError("epoch 1 has ended")]
    with pytest.raises(FencedError):
        await held.settler.settle(batch_of(1), done(failures=[failure(0, "dead")]), Answer())
    assert held.acks.acked == []


async def test_a_refused_message_is_parked_undecoded() -> None:
    held = Harness()
    one = delivery(7, refused="too_large: body of 9 bytes, at most 8")
    await held.settler.park(one, refusal(one))
    ((parked, found, reason),) = held.outbox.parked
    assert (parked.tag, reason, found.error) == (7, "too_large", "body of 9 bytes, at most 8")
    assert held.log == ["park 7 confirmed", "buried 1", "ack 7"]


@in_virtual_time
async def test_a_message_before_its_due_time_waits_on_without_a_charge() -> None:
    held = Harness()
    await held.settler.whole.postpone(delivery(1, attempt=3, due_ms=32_000_000_000_000))
    ((_, _, rung),) = held.outbox.retried
    assert rung == Rung(delay_ms=60_000, attempt=3, due_ms=32_000_000_000_000, hops=1)
    assert held.acks.acked == [1]
    held.outbox.failures.extend([PublisherClosedError("closing"), OSError("reset")])
    await held.settler.whole.postpone(delivery(2, due_ms=32_000_000_000_000))
    await held.settler.whole.postpone(delivery(3, due_ms=32_000_000_000_000))
    assert held.acks.acked == [1]
    await eventually(lambda: held.acks.returned == [2, 3])


def hopped(hops: object, **changes: Any) -> Delivery:
    """A message that is not due for a day, and was put back so often."""
    due_ms = time.time_ns() // 10**6 + 86_400_000
    return delivery(1, due_ms=due_ms, properties=Basic.Properties(headers={h.HOPS: hops}), **changes)


@pytest.mark.parametrize("limits", [RetryLimits(), RetryLimits(rungs_ms=(2_000,)), RetryLimits(rungs_ms=(10**10,))])
def test_what_was_put_back_too_often_runs_before_its_time(limits: RetryLimits) -> None:
    """Whatever clocks and headers say, it comes to an end; a wait of 30 days, as a handler may ask for, does not."""
    settler = Harness(limits).settler
    assert settler.whole.must_wait(hopped(limits.hops_most - 1))
    assert [settler.whole.must_wait(hopped(hops)) for hops in (limits.hops_most, 2**62)] == [False, False]
    assert [settler.whole.must_wait(hopped(forged)) for forged in (-1, "x", True, None, [])] == [True] * 5
    assert limits.hops_most * limits.rungs_ms[-1] > WAIT_MOST_MS


def test_without_a_rung_it_runs_at_once() -> None:
    """It can wait nowhere: given back again and again it would keep the others from the window."""
    assert not Harness(RetryLimits(rungs_ms=())).settler.whole.must_wait(hopped(0))


@pytest.mark.parametrize(
    ("table", "seen_days_ago", "charged"),
    [
        ({}, 29, False),
        ({}, 31, True),
        ({h.REPLAYED: time.time_ns() // 10**6}, 31, False),
        ({h.HOPS: RetryLimits().hops_most}, 0, True),
    ],
)
async def test_an_outage_spares_a_message_for_30_days_and_so_many_turns(
    table: dict[str, Any], seen_days_ago: int, charged: bool
) -> None:
    held = Harness()
    seen_ms = time.time_ns() // 10**6 - seen_days_ago * 86_400_000
    one = delivery(1, first_seen_ms=seen_ms, properties=Basic.Properties(headers=table))
    await held.settler.publish(Batch([one]), done(failures=[failure(0, reason="exception")]), Answer(), spared_s=1.0)
    ((_, _, rung),) = held.outbox.retried
    assert (rung.attempt, rung.spared) == ((1, 0) if charged else (0, 1))
    assert rung.hops == (0 if charged else 1)
    assert (held.settler.tally.spared, held.settler.tally.retried) == ((0, 1) if charged else (1, 0))


@pytest.mark.parametrize(("seen_days_ago", "waits_days", "said"), [(0, 30, False), (25, 5, True), (40, 0, True)])
async def test_the_waits_that_a_handler_asks_for_end_30_days_after_a_message_was_first_seen(
    seen_days_ago: int, waits_days: int, said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    held = Harness()
    now_ms = time.time_ns() // 10**6
    one = delivery(1, first_seen_ms=now_ms - seen_days_ago * 86_400_000)
    await held.settler.publish(Batch([one]), done(failures=[failure(0, after_s=30 * 86_400.0)]), Answer())
    ((_, _, rung),) = held.outbox.retried
    due_ms = rung.due_ms or now_ms + rung.delay_ms
    assert abs(due_ms - (now_ms + waits_days * 86_400_000)) < 600_000
    assert ("instead of the 2592000 s" in caplog.text) == said


def test_a_stray_is_acked_and_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    held = Harness()
    for tag in range(1, 6):
        held.settler.whole.discard(delivery(tag, stray=True))
    assert held.acks.acked == [1, 2, 3, 4, 5]
    assert held.settler.tally.strays == 5
    assert caplog.text.count("meant for another queue") == 1


async def test_latency_is_counted_from_the_publish() -> None:
    held = Harness()
    batch = Batch([delivery(1, published_ms=1_000), delivery(2)])
    await held.settler.settle(batch, done(0, 1), Answer(committed=2))
    assert held.settler.tally.latency.count == 1, "only where the time of the publish is known"
    skewed = Batch([delivery(3, published_ms=2_000, ahead_ms=3_600_000), delivery(4, published_ms=2_000, ahead_ms=9)])
    await held.settler.settle(skewed, done(0, 1), Answer(committed=2))
    assert held.settler.tally.latency.count == 2, "a clock that is an hour ahead says nothing of it"


async def test_a_dead_letter_holds_no_secret_in_its_headers_its_row_and_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    canary = new_canary()
    url = f"amqp://user:{canary.in_url}@host/"
    held = Harness(redact=Redactor(Secret(url)))
    one = delivery(1)
    await held.settler.park(one, message_failure(one, "bad_json", canary.careless(url), canary.password))
    ((_, parked, _),) = held.outbox.parked
    shown = f"{parked} {held.buried} {caplog.text}"
    assert shown.count("cannot reach amqp://host by amqp://***@host/") == 3
    assert canary.word not in shown


FRAMES = "jobs.py:7 in handle: call(amqp://user:pw@host)"
TRACED = {"traceback": FRAMES, "raised_in": "jobs.py:7"}


async def test_a_traceback_is_in_the_row_of_a_dead_letter_and_in_no_header() -> None:
    held = Harness()
    part = done(failures=[failure(0, "dead", **TRACED), failure(1, "dead")])
    await held.settler.settle(batch_of(2), part, Answer())
    first, second = held.buried
    assert (first["traceback"], first["raised_in"]) == ("jobs.py:7 in handle: call(amqp://***@host)", "jobs.py:7")
    assert (second["traceback"], second["raised_in"]) == (None, None)


async def test_the_encoding_of_a_dead_letter_is_kept_as_it_came_unless_its_body_was_made_by_us() -> None:
    held = Harness()
    batch = Batch([delivery(1, content_encoding="gzip", body=gzip.compress(b"{}")), delivery(2)])
    record = failure(1, "dead", body=b"\x80", content_type=h.MSGPACK)
    await held.settler.settle(batch, done(failures=[failure(0, "dead"), record]), Answer())
    assert [row["content_encoding"] for row in held.buried] == ["gzip", None]


async def test_a_failure_is_told_with_its_key_and_traceback_once_a_minute_for_each_kind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    held = Harness()
    same = [failure(n, **TRACED) for n in range(4)]
    other = failure(4, error_class="KeyError", raised_in="jobs.py:9", traceback="jobs.py:9 in handle")
    crash = failure(5, "dead", error_class="WorkerLost", reason="worker_crashed", error="exit code 9")
    await held.settler.settle(batch_of(6), done(failures=[*same, other, crash]), Answer())
    told = [record for record in caplog.records if "failed in run" in record.getMessage()]
    assert [record.getMessage() for record in told] == [
        "Job k0 failed in run 1 on no worker, runs again in 2 s: ConnectionError: x",
        "Job k4 failed in run 1 on no worker, runs again in 2 s: KeyError: x",
    ]
    assert [vars(record)["traceback"] for record in told] == [FRAMES, "jobs.py:9 in handle"]
    assert [vars(record)["key"] for record in told] == ["k0", "k4"]
    assert "worker_crashed: WorkerLost: exit code 9" in caplog.text, "a reason stands once"
