"""What a trace shows of a message's path, and that a process without telemetry pays nothing for it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from unittest import TestCase

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracerProvider, SpanKind, StatusCode

from rabbitray.actors.errors import ERROR_TEXT_MOST
from rabbitray.actors.message import headers as h
from rabbitray.actors.message.headers import clean_headers
from rabbitray.actors.message.job import Job
from rabbitray.actors.message.reply import Failure
from rabbitray.actors.publisher import EncodedMessage as Copy
from rabbitray.actors.publisher import PublisherConfig
from rabbitray.actors.publisher.message_maker import Maker
from rabbitray.actors.rabbitmq.topology import Topology
from rabbitray.actors.router.settlement.copies import CopyOutbox, dead_letter_rows
from rabbitray.actors.router.settlement.retries import Rung
from rabbitray.actors.secret import NO_SECRETS, Redactor, Secret
from rabbitray.actors.telemetry.rate_limit import EVERY_S
from rabbitray.actors.telemetry.span import NO_SPAN, STACK_MOST, ErrorText
from rabbitray.actors.telemetry.trace_context import (
    consumer_destination,
    current_ids,
    producer_destination,
    span_context,
    trace_id_of,
)
from rabbitray.actors.telemetry.tracing import FAILURE_SPANS_PER_S, Tracing
from rabbitray.cluster.commands.publish import publish_span, tracing_of
from rabbitray.cluster.results.dead_letter_selection import replay_copy
from rabbitray.cluster.settings import Settings
from rabbitray.cluster.telemetry.traces import Provider, sampler
from tests.kit.canary import new_canary
from tests.kit.dead_letters import dead_letter, headers_sent
from tests.kit.deliveries import as_it_came, delivery

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
FAILED = Failure(
    position=0, verdict="dead", reason="exception", error="x", error_class="ValueError", category="permanent", key="k"
)


@dataclass(frozen=True, kw_only=True)
class Message:
    traceparent: str | None = None
    tracestate: str | None = None
    message_id: str | None = None
    attempt: int = 0


class Recorded:
    """A Tracing whose spans stay in memory."""

    def __init__(
        self, sampler_name: str = "parentbased_always_on", ratio: float = 1.0, redact: Redactor = NO_SECRETS
    ) -> None:
        self._memory = InMemorySpanExporter()
        provider = Provider(
            sampler=sampler(sampler_name, ratio),
            span_limits=SpanLimits(max_links=1000),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(SimpleSpanProcessor(self._memory))
        provider.redact = redact
        self.provider = provider
        self.now = 0.0
        self.tracing = Tracing(
            queue="jobs",
            server=("rabbit", 5672),
            database="results",
            provider=provider,
            clock=lambda: self.now,
        )

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._memory.get_finished_spans()

    def only(self) -> ReadableSpan:
        (span,) = self.spans
        return span


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


def test_a_publish_is_a_producer_span_whose_context_travels_in_the_headers(recorded: Recorded) -> None:
    headers: dict[str, object] = {}
    with recorded.tracing.publish_span("jobs", "id-1", routing_key="jobs", body_size=46):
        recorded.tracing.inject(headers)
    span = recorded.only()
    assert (span.name, span.kind) == ("publish jobs", SpanKind.PRODUCER)
    assert span.attributes == {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": "jobs",
        "messaging.rabbitmq.destination.routing_key": "jobs",
        "messaging.message.id": "id-1",
        "messaging.message.body.size": 46,
        "server.address": "rabbit",
        "server.port": 5672,
    }
    context = span_context(headers["traceparent"])
    assert context is not None
    assert context.span_id == span.context.span_id


def test_a_retry_or_replay_keeps_the_context_of_the_first_publish(recorded: Recorded) -> None:
    headers: dict[str, object] = {"traceparent": SAMPLED}
    with recorded.tracing.publish_span("jobs", "copy") as span:
        span.inject(headers)
        recorded.tracing.inject(headers)
    assert headers == {"traceparent": SAMPLED}


@pytest.mark.parametrize(
    ("where", "destination"),
    [
        ({"queue": "jobs"}, "jobs"),
        ({"queue": "jobs", "exchange": "orders", "routing_key": "new"}, "orders:new"),
        ({"queue": "jobs", "exchange": "orders"}, "orders:jobs"),
    ],
)
def test_the_publisher_names_its_spans_as_the_convention_says(
    recorded: Recorded, where: dict[str, str], destination: str
) -> None:
    maker = Maker(PublisherConfig(url="amqp://rabbit", **where), recorded.tracing)
    job = Job(id="id-1")
    with maker.span(job):
        maker.job(job)
    span = recorded.only()
    assert span.name == f"publish {destination}"
    assert span.attributes is not None
    assert span.attributes["messaging.destination.name"] == destination
    assert span.attributes["messaging.rabbitmq.destination.routing_key"] == destination.rpartition(":")[2]
    assert span.attributes["messaging.message.id"] == "id-1"


def test_a_job_without_an_id_of_its_own_has_none_in_its_span(recorded: Recorded) -> None:
    with Maker(PublisherConfig(url="amqp://rabbit", queue="jobs"), recorded.tracing).span(Job(id=None)):
        pass
    span = recorded.only()
    assert span.attributes is not None
    assert "messaging.message.id" not in span.attributes


def test_rabbitray_publish_says_which_broker_and_which_key(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: recorded.provider)
    settings = Settings(queue="orders", rabbitmq_url=Secret("amqp://user:geheim@broker:5673/"))
    publish_span(tracing_of(settings), settings.queue, 5).end()
    span = recorded.only()
    assert span.name == "publish orders"
    assert span.attributes == {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": "orders",
        "messaging.rabbitmq.destination.routing_key": "orders",
        "messaging.batch.message_count": 5,
        "server.address": "broker",
        "server.port": 5673,
    }


class Kept:
    """A publisher that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[Copy] = []

    async def publish_message(self, message: Copy) -> None:
        self.sent.append(message)


async def test_every_copy_stays_in_the_trace_of_the_first_publish() -> None:
    """A retry, a dead letter, a record sent singly and the replay of a dead letter."""
    table = {h.TRACEPARENT: SAMPLED, h.TRACESTATE: "vendor=x", "x-death": [{}]}
    one = delivery(1, properties=as_it_came(table), traceparent=SAMPLED, tracestate="vendor=x")
    sender = Kept()
    outbox = CopyOutbox(sender, Topology(queue="jobs"))
    await outbox.retry(one, FAILED, Rung(delay_ms=2_000, attempt=1))
    await outbox.park(one, FAILED, "exception")
    await outbox.again(one, FAILED)
    parked = sender.sent[1]
    replayed = replay_copy(dead_letter(headers_sent(parked)), "jobs")
    for headers in map(headers_sent, (*sender.sent, replayed)):
        assert (headers[h.TRACEPARENT], headers[h.TRACESTATE]) == (SAMPLED, "vendor=x")
    assert clean_headers(table) == {h.TRACEPARENT: SAMPLED, h.TRACESTATE: "vendor=x"}


def test_a_dead_letter_holds_its_trace_id() -> None:
    dead = [(delivery(1, traceparent=SAMPLED), FAILED, "exception"), (delivery(2), FAILED, "exception")]
    assert dead_letter_rows(dead, "jobs")["trace_id"].to_pylist() == [trace_id_of(SAMPLED), None]


def test_a_publish_that_fails_is_marked_with_its_error(recorded: Recorded) -> None:
    span = recorded.tracing.publish_span("jobs", "id-1")
    span.end(TimeoutError("no confirm from amqp://user:geheim@rabbit"))
    span.end()
    ended = recorded.only()
    assert ended.status.status_code is StatusCode.ERROR
    assert ended.attributes is not None
    assert ended.attributes["error.type"] == "TimeoutError"
    assert "geheim" not in ended.to_json()


def test_a_batch_is_one_consumer_span_with_a_link_for_each_message_in_it(recorded: Recorded) -> None:
    messages = [
        Message(traceparent=f"00-{n:032x}-{n:016x}-01", message_id=f"id-{n}", attempt=n % 3) for n in range(1, 501)
    ]
    with recorded.tracing.process_span("b-1", "jobs", messages):
        pass
    span = recorded.only()
    assert (span.name, span.kind, span.parent) == ("process jobs", SpanKind.CONSUMER, None)
    assert span.attributes is not None
    assert span.attributes["messaging.batch.message_count"] == 500
    assert "messaging.message.id" not in span.attributes
    assert len(span.links) == 500
    assert span.links[3].context.span_id == 4
    assert span.links[3].attributes == {"messaging.message.id": "id-4", "rabbitray.attempt": 1}


def test_a_batch_of_one_continues_the_trace_of_its_message(recorded: Recorded) -> None:
    message = Message(traceparent=SAMPLED, tracestate="vendor=x", message_id="id-1")
    with recorded.tracing.process_span("b-1", "jobs", [message]):
        pass
    span = recorded.only()
    assert span.parent is not None
    assert span.parent.is_remote
    assert f"{span.context.trace_id:032x}" == trace_id_of(SAMPLED)
    assert span.context.trace_state == {"vendor": "x"}
    assert span.attributes is not None
    assert span.attributes["messaging.message.id"] == "id-1"
    assert "messaging.batch.message_count" not in span.attributes


def test_messages_that_are_not_sampled_or_carry_rubbish_get_no_link(recorded: Recorded) -> None:
    messages = [Message(traceparent=text) for text in (UNSAMPLED, "rubbish", None, SAMPLED)]
    with recorded.tracing.process_span("b-1", "jobs", messages):
        pass
    assert len(recorded.only().links) == 1


def test_a_batch_with_one_sampled_message_is_kept_even_when_few_are() -> None:
    rare = Recorded("parentbased_traceidratio", 0.0)
    rare.tracing.process_span("b-1", "jobs", [Message(traceparent=UNSAMPLED), Message()]).end()
    assert rare.spans == ()
    rare.tracing.process_span("b-2", "jobs", [Message(traceparent=SAMPLED), Message()]).end()
    assert [span.name for span in rare.spans] == ["process jobs"]


def test_a_failure_is_kept_when_few_traces_are_and_not_when_tracing_is_off() -> None:
    rare = Recorded("parentbased_traceidratio", 0.0)
    rare.tracing.failure(UNSAMPLED, "id-1", ValueError("bad"))
    assert [span.name for span in rare.spans] == ["fail jobs"]
    off = Recorded("parentbased_always_off")
    off.tracing.failure(UNSAMPLED, "id-1", ValueError("bad"))
    assert off.spans == ()


def test_a_failing_job_has_its_exception_in_the_trace_of_its_message(recorded: Recorded) -> None:
    with recorded.tracing.process_span("b-1", "jobs", [Message(), Message()]) as batch:
        recorded.tracing.failure(SAMPLED, "id-1", ValueError("bad date"), attempt=2, key="k", batch=batch.traceparent)
    failed, processed = recorded.spans
    assert f"{failed.context.trace_id:032x}" == trace_id_of(SAMPLED)
    assert [link.context.span_id for link in failed.links] == [processed.context.span_id]
    assert failed.attributes is not None
    assert failed.attributes["rabbitray.key"] == "k"
    assert failed.attributes["rabbitray.attempt"] == 2
    assert failed.attributes["error.type"] == "ValueError"
    (event,) = failed.events
    assert event.attributes is not None
    assert event.attributes["exception.message"] == "bad date"


def test_a_failure_of_which_only_the_text_is_known_looks_alike(recorded: Recorded) -> None:
    told = ErrorText("WorkerLost", "exit code 9 at amqp://user:geheim@rabbit")
    recorded.tracing.failure(SAMPLED, "id-1", told, attempt=1, key="k")
    failed = recorded.only()
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "WorkerLost"
    (event,) = failed.events
    assert event.attributes is not None
    assert (event.name, event.attributes["exception.type"]) == ("exception", "WorkerLost")
    assert str(event.attributes["exception.message"]).startswith("exit code 9")
    assert "geheim" not in failed.to_json()


def test_a_flood_of_failures_is_bounded_counted_and_told_once_a_minute(
    recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(FAILURE_SPANS_PER_S + 20):
        recorded.tracing.failure(SAMPLED, None, ValueError("bad"))
    assert len(recorded.spans) == FAILURE_SPANS_PER_S
    assert recorded.tracing.failures_untraced == 20
    (line,) = caplog.messages
    assert line == "Failed jobs without a span of their own: 1 so far, at most 50 a second get one"
    recorded.now += 1.0
    recorded.tracing.failure(SAMPLED, None, ValueError("bad"))
    assert len(recorded.spans) == FAILURE_SPANS_PER_S + 1
    recorded.now += EVERY_S
    for _ in range(FAILURE_SPANS_PER_S + 1):
        recorded.tracing.failure(SAMPLED, None, ValueError("bad"))
    assert caplog.messages[1:] == [line.replace(" 1 so far", " 21 so far")]


def test_a_commit_is_a_database_span_linked_to_the_batches_it_stores(recorded: Recorded) -> None:
    recorded.tracing.commit_span(250, batches=(SAMPLED, None, UNSAMPLED)).end()
    span = recorded.only()
    assert (span.name, span.kind, len(span.links)) == ("INSERT results", SpanKind.CLIENT, 1)
    assert span.attributes == {
        "db.system.name": "duckdb",
        "db.namespace": "results",
        "db.collection.name": "results",
        "db.operation.name": "INSERT",
        "db.operation.batch.size": 250,
    }


@pytest.mark.parametrize("kind", ["ack", "nack", "reject"])
def test_an_acknowledgement_is_a_settle_operation(recorded: Recorded, kind: str) -> None:
    recorded.tracing.settle_span(kind, 3).end()  # type: ignore[arg-type] # one of Settle
    span = recorded.only()
    assert (span.name, span.kind) == (f"{kind} jobs", SpanKind.CLIENT)
    assert span.attributes is not None
    assert span.attributes["messaging.operation.type"] == "settle"
    assert span.attributes["messaging.operation.name"] == kind
    assert span.attributes["messaging.batch.message_count"] == 3


def test_a_give_back_is_linked_to_the_messages_that_wait_again(recorded: Recorded) -> None:
    messages = [Message(traceparent=SAMPLED, message_id="id-1", attempt=2), Message(traceparent=UNSAMPLED)]
    recorded.tracing.settle_span("nack", 2, messages=messages).end()
    span = recorded.only()
    assert (span.name, len(span.links)) == ("nack jobs", 1)
    assert f"{span.links[0].context.trace_id:032x}" == trace_id_of(SAMPLED)
    assert span.links[0].attributes == {"messaging.message.id": "id-1", "rabbitray.attempt": 2}


def test_a_resize_shows_both_sizes_and_the_reason(recorded: Recorded) -> None:
    recorded.tracing.resize_span(2, 8, "want 8: 480 msg/s arriving").end()
    span = recorded.only()
    assert span.attributes is not None
    assert (span.attributes["rabbitray.pool.had"], span.attributes["rabbitray.pool.wanted"]) == (2, 8)
    assert span.attributes["rabbitray.reason"] == "want 8: 480 msg/s arriving"


def test_spans_of_a_handler_are_children_of_the_batch(recorded: Recorded) -> None:
    assert current_ids() is None
    with recorded.tracing.process_span("b-1", "jobs", [Message(), Message()]):
        ids = current_ids()
        recorded.tracing.commit_span(1).end()
    child, batch = recorded.spans
    assert child.parent is not None
    assert child.parent.span_id == batch.context.span_id
    assert ids == (f"{batch.context.trace_id:032x}", f"{batch.context.span_id:016x}")
    assert current_ids() is None


def test_a_block_that_raises_marks_its_span_and_lets_the_error_through(recorded: Recorded) -> None:
    with pytest.raises(RuntimeError, match="disk"), recorded.tracing.commit_span(2):
        raise RuntimeError("disk full")
    assert recorded.only().status.status_code is StatusCode.ERROR


def test_without_a_provider_nothing_is_traced_and_nothing_is_injected() -> None:
    headers: dict[str, object] = {}
    for tracing in (Tracing(queue="jobs"), Tracing(queue="jobs", provider=NoOpTracerProvider())):
        assert not tracing.enabled
        with tracing.publish_span("jobs", "id-1") as span:
            tracing.inject(headers)
            span.inject(headers)
        assert span is NO_SPAN
        assert tracing.process_span("b", "jobs", [Message(traceparent=SAMPLED)]) is NO_SPAN
        assert tracing.commit_span(5) is NO_SPAN
        assert tracing.settle_span("ack", 5) is NO_SPAN
        assert tracing.resize_span(1, 2, "") is NO_SPAN
        tracing.failure(SAMPLED, "id", ValueError())
        assert span.traceparent is None
    assert headers == {}
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def test_tracing_needs_no_sdk() -> None:
    code = "import sys, rabbitray.actors.telemetry.tracing; print([m for m in sys.modules if '.sdk' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("exchange", "key", "queue", "name"),
    [
        ("", "jobs", "jobs", "jobs"),
        ("orders", "new", "jobs", "orders:new:jobs"),
        ("orders", "", "jobs", "orders:jobs"),
        ("orders", "jobs", "jobs", "orders:jobs"),
        ("", "", "", "amq.default"),
    ],
)
def test_consumer_destinations_follow_the_convention(exchange: str, key: str, queue: str, name: str) -> None:
    assert consumer_destination(exchange, key, queue) == name


def test_producer_destinations_follow_the_convention() -> None:
    assert producer_destination("orders", "new") == "orders:new"
    assert producer_destination("", "jobs") == "jobs"
    assert producer_destination("", "") == "amq.default"


@pytest.mark.parametrize(
    "text",
    [
        SAMPLED + "-more",
        SAMPLED + "\n",
        SAMPLED.upper(),
        "ff" + SAMPLED[2:],
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
        "",
        None,
        7,
        b"\xff" * 55,
    ],
)
def test_only_the_exact_form_of_a_traceparent_is_taken(text: object) -> None:
    assert span_context(text) is None
    assert trace_id_of(text) is None


def test_header_values_that_come_as_bytes_are_taken() -> None:
    assert trace_id_of(SAMPLED.encode()) == "0af7651916cd43dd8448eb211c80319c"


@given(st.text(max_size=60) | st.binary(max_size=60))
def test_no_header_breaks_the_reader(value: str | bytes) -> None:
    assert span_context(value, value) is None or trace_id_of(value) is not None


@given(st.text(max_size=600) | st.binary(max_size=600) | st.integers())
@example("0=!")
@example("a= ")
@example("1a@2b=c")
def test_a_producers_tracestate_never_costs_a_log_line_or_an_error(value: object) -> None:
    with TestCase().assertNoLogs("opentelemetry"):
        context = span_context(SAMPLED, value)
    assert context is not None


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_a_context_survives_the_way_through_headers(trace_id: int, span_id: int, sampled: bool) -> None:
    text = f"00-{trace_id:032x}-{span_id:016x}-{int(sampled):02x}"
    context = span_context(text)
    assert context is not None
    assert (context.trace_id, context.span_id, context.trace_flags.sampled) == (trace_id, span_id, sampled)
    assert trace_id_of(text) == f"{trace_id:032x}"


def test_the_error_of_a_span_holds_no_secret_of_its_process_and_is_cut() -> None:
    canary = new_canary()
    url = f"amqp://user:{canary.in_url}@host/"
    recorded = Recorded(redact=Redactor(Secret(url)))
    try:
        try:
            raise ConnectionError(canary.careless(url))
        except ConnectionError as error:
            raise RuntimeError("no model " * 10_000 + canary.careless(url)) from error
    except RuntimeError as failed:
        recorded.tracing.failure(SAMPLED, "m", failed)
        recorded.tracing.resize_span(1, 2, canary.careless(url)).end()
    shown = "".join(span.to_json() for span in recorded.spans)
    assert "cannot reach amqp://host by amqp://***@host/" in shown
    assert canary.word not in shown
    assert len(shown) < 2 * (ERROR_TEXT_MOST + STACK_MOST)
