"""Traces leave over OTLP when the OTEL_* variables ask for it, and never hold up or fail the work."""

from __future__ import annotations

import io
import json
import logging
import pickle
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from rabbitray.actors.errors import BrokerUnreachableError, ConfigurationError
from rabbitray.actors.message.parcel import Parcel
from rabbitray.actors.rabbitmq.inspect import contact
from rabbitray.actors.secret import Redactor, Secret
from rabbitray.actors.telemetry.rate_limit import EVERY_S
from rabbitray.actors.telemetry.tracing import Tracing
from rabbitray.cluster.settings import load
from rabbitray.cluster.telemetry import LogConfig, TelemetryConfig, start, start_logging
from rabbitray.cluster.telemetry.traces import CountingExporter, SpanFlow, Traces, build
from tests.kit.canary import new_canary
from tests.kit.eventually import eventually_sync
from tests.kit.hostile import FORGED, unfit
from tests.kit.otlp_receiver import OtlpReceiver
from tests.kit.root import ROOT


def from_environ(**environ: str) -> TelemetryConfig:
    return TelemetryConfig.from_environ(environ)


def traces_to(receiver: OtlpReceiver, **environ: str) -> Traces:
    config = from_environ(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, **environ)
    return build(config, "router", {"ray.actor_id": "a1"})


def tracing_of(traces: Traces) -> Tracing:
    return Tracing(queue="jobs", provider=traces.provider)


def parcel(headers: dict[str, str], number: int) -> Parcel:
    return Parcel(
        body=b"",
        content_type="",
        content_encoding="",
        message_id=f"id-{number}",
        key=None,
        attempt=0,
        first_seen_ms=0,
        published_ms=0,
        received_ms=0,
        traceparent=headers["traceparent"],
        tracestate=headers.get("tracestate"),
    )


class Refusing(SpanExporter):
    """An exporter whose collector takes nothing."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.FAILURE


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What a process with our logging writes; the root logger is put back afterwards."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield io.StringIO()
    root.setLevel(level)
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)


def test_a_real_collector_sees_the_publish_and_the_batch_connected() -> None:
    with OtlpReceiver() as receiver:
        traces = traces_to(receiver)
        tracing = tracing_of(traces)
        parcels = []
        for number in range(300):
            headers: dict[str, str] = {}
            with tracing.publish_span("jobs", f"id-{number}"):
                tracing.inject(headers)
            parcels.append(parcel(headers, number))
        tracing.process_span("b-1", "jobs", parcels).end()
        assert traces.shutdown(30)
        (batch,) = receiver.named("process jobs")
        published = receiver.named("publish jobs")
    assert len(published) == 300
    assert batch.linked_to == {span.span_id for span in published}
    assert {link.attributes["messaging.message.id"] for link in batch.links} == {f"id-{n}" for n in range(300)}
    assert batch.kind == "CONSUMER"
    assert batch.resource["service.name"] == "rabbitray"
    assert batch.resource["rabbitray.role"] == "router"
    assert batch.resource["ray.actor_id"] == "a1"
    assert (traces.sent, traces.dropped) == (301, 0)


def test_headers_compression_and_names_of_the_variables_are_respected() -> None:
    with OtlpReceiver() as receiver:
        traces = traces_to(
            receiver,
            OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20abc,x-tenant=t",
            OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
            OTEL_SERVICE_NAME="orders",
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
        )
        tracing_of(traces).commit_span(1).end()
        assert traces.shutdown(30)
        (span,) = receiver.spans
        (request,) = receiver.requests
    assert request["authorization"] == "Bearer abc"
    assert request["x-tenant"] == "t"
    assert request["content-encoding"] == "gzip"
    assert span.resource["service.name"] == "orders"
    assert span.resource["deployment.environment.name"] == "test"


def test_few_samples_send_few_spans() -> None:
    with OtlpReceiver() as receiver:
        traces = traces_to(receiver, OTEL_TRACES_SAMPLER="always_off")
        tracing_of(traces).commit_span(1).end()
        assert traces.shutdown(30)
        assert receiver.spans == []


def test_a_black_hole_holds_up_neither_the_work_nor_the_exit() -> None:
    with OtlpReceiver("black_hole") as receiver:
        traces = traces_to(receiver, OTEL_BSP_MAX_QUEUE_SIZE="10", OTEL_EXPORTER_OTLP_TIMEOUT="50")
        tracing = tracing_of(traces)
        for _ in range(50):
            tracing.commit_span(1).end()
        assert traces.dropped == 40
        assert not traces.shutdown(0.2)
        assert not traces.shutdown(0.0)
        assert not receiver.released.is_set()  # both returned while the collector still kept its answer back
        assert traces.dropped == 50
    traces.shutdown(30)  # the collector is gone: its thread ends, and says nothing into the next test


def test_a_collector_that_refuses_costs_spans_that_are_counted() -> None:
    with OtlpReceiver("refuse") as receiver:
        traces = traces_to(receiver, OTEL_BSP_MAX_EXPORT_BATCH_SIZE="5")
        tracing = tracing_of(traces)
        for _ in range(20):
            tracing.commit_span(1).end()
        assert not traces.shutdown(30)
    assert (traces.sent, traces.dropped) == (0, 20)
    assert tracing.spans_lost == 20


def test_lost_spans_are_one_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """Refused by the collector, or without room in the queue: one line at once, then none for EVERY_S."""
    now, said = 0.0, []
    flow = SpanFlow(2, clock=lambda: now)
    exporter = CountingExporter(Refusing(), flow)
    for at in (0.0, 1.0, EVERY_S - 0.1, EVERY_S, EVERY_S + 1):
        now = at
        before = len(caplog.records)
        assert [flow.admit() for _ in range(4)] == [True, True, False, False]
        exporter.export([ReadableSpan("a"), ReadableSpan("b")])
        said.append([record.getMessage() for record in caplog.records[before:]])
    assert [len(lines) for lines in said] == [1, 0, 0, 1, 0]
    assert ": 1 lost so far" in said[0][0]
    assert ": 13 lost so far" in said[3][0]


@pytest.mark.slow
def test_a_collector_that_is_down_loses_spans_and_nothing_else() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        config = from_environ(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{reserved.getsockname()[1]}")
        traces = build(config, "worker", {})
        tracing_of(traces).commit_span(1).end()
        traces.shutdown(30)
        assert (traces.sent, traces.dropped) == (0, 1)


def test_a_collector_that_comes_back_gets_what_is_new() -> None:
    with OtlpReceiver("refuse") as receiver:
        traces = traces_to(receiver, OTEL_BSP_SCHEDULE_DELAY="5")
        tracing_of(traces).commit_span(1).end()
        eventually_sync(lambda: traces.dropped == 1)
        receiver.behaviour = "accept"
        tracing_of(traces).commit_span(2).end()
        eventually_sync(lambda: traces.sent == 1)
        traces.shutdown(30)


def test_start_serves_a_whole_process_and_asks_the_environment_nothing() -> None:
    code = (
        "import pickle, sys\n"
        "from rabbitray.actors.telemetry.tracing import Tracing\n"
        "from rabbitray.cluster.telemetry import start\n"
        "telemetry = start(pickle.loads(bytes.fromhex(sys.argv[1])), 'worker', attributes={'ray.pid': '7'})\n"
        "Tracing(queue='jobs').commit_span(3).end()\n"
        "print(telemetry.shutdown(30), start(pickle.loads(bytes.fromhex(sys.argv[1])), 'again').dropped)\n"
    )
    with OtlpReceiver() as receiver:
        config = from_environ(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint)
        command = [sys.executable, "-c", code, pickle.dumps(config).hex()]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=ROOT, env={})
        (span,) = receiver.spans
    assert done.stdout.strip() == "True 0"
    assert span.resource["ray.pid"] == "7"


def test_without_a_wish_no_sdk_is_loaded_and_nothing_is_traced() -> None:
    code = (
        "import sys\n"
        "from rabbitray.cluster.telemetry import TelemetryConfig, start\n"
        "telemetry = start(TelemetryConfig.from_environ({}), 'worker')\n"
        "print([m for m in sys.modules if m.startswith('opentelemetry.sdk')], telemetry.shutdown(0))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[] True"


def test_nothing_asked_for_is_nothing_started() -> None:
    assert not from_environ().enabled
    assert start(from_environ(), "worker").shutdown()


@pytest.mark.parametrize(
    ("environ", "exporters"),
    [
        ({}, ()),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, ()),
        ({"OTEL_TRACES_EXPORTER": "console"}, ("console",)),
        ({"OTEL_TRACES_EXPORTER": "otlp,console"}, ("otlp", "console")),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/x"}, ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, ()),
    ],
)
def test_who_asks_for_traces(environ: dict[str, str], exporters: tuple[str, ...]) -> None:
    assert TelemetryConfig.from_environ(environ).exporters == exporters


def test_the_endpoint_for_traces_is_taken_as_it_is_and_the_general_one_gets_the_path() -> None:
    assert from_environ().collector.endpoint.reveal() == "http://localhost:4318/v1/traces"
    assert from_environ(OTEL_EXPORTER_OTLP_ENDPOINT="http://c:1/").collector.endpoint.reveal() == "http://c:1/v1/traces"
    own = from_environ(OTEL_EXPORTER_OTLP_ENDPOINT="http://c", OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://t/p")
    assert own.collector.endpoint.reveal() == "http://t/p"


def test_the_timeout_is_in_seconds_or_in_the_milliseconds_of_the_specification() -> None:
    assert from_environ(OTEL_EXPORTER_OTLP_TIMEOUT="7").collector.timeout_s == 7
    assert from_environ(OTEL_EXPORTER_OTLP_TIMEOUT="10000").collector.timeout_s == 10


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "jaeger"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_TRACES_SAMPLER_ARG", "nan"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("OTEL_RESOURCE_ATTRIBUTES", "novalue"),
    ],
)
def test_a_mistake_in_a_variable_is_one_line_that_names_it(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        TelemetryConfig.from_environ({name: value})
    (line,) = str(refused.value).splitlines()
    assert line.startswith(name)
    assert TelemetryConfig.from_environ({name: value, "OTEL_SDK_DISABLED": "true"}).exporters == ()


def test_grpc_is_refused_with_what_to_use_instead() -> None:
    with pytest.raises(ConfigurationError, match="http/protobuf"):
        from_environ(OTEL_EXPORTER_OTLP_ENDPOINT="http://c:4317", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")


def test_the_config_travels_to_actors_and_shows_no_credentials() -> None:
    config = from_environ(
        OTEL_EXPORTER_OTLP_ENDPOINT="https://user:geheim@collector", OTEL_EXPORTER_OTLP_HEADERS="token=geheim"
    )
    assert pickle.loads(pickle.dumps(config)) == config
    assert "geheim" not in repr(config)


def test_text_lines_hold_ids_and_no_passwords(log: io.StringIO) -> None:
    start_logging(LogConfig(secrets=(Secret("token-123"),)), "router", stream=log)
    url = "amqp://user:geheim@rabbit/"
    logging.getLogger("rabbitray.actors.router.router").info(
        "Connected to %s with %s", url, "token-123", extra={"job": "k-1"}
    )
    line = log.getvalue()
    assert "geheim" not in line
    assert "token-123" not in line
    assert "INFO router rabbitray.actors.router.router: Connected to amqp://" in line
    assert "job=k-1" in line


def test_tracebacks_hold_no_passwords_either(log: io.StringIO) -> None:
    for kind in ("text", "json"):
        start_logging(LogConfig(format=kind), "router", stream=log)  # type: ignore[arg-type] # both formats
        try:
            raise ConnectionError("cannot reach amqps://user:geheim@rabbit:5671/v")
        except ConnectionError:
            logging.getLogger("x").exception("Lost")
    assert "ConnectionError" in log.getvalue()
    assert "geheim" not in log.getvalue()


def test_json_lines_are_objects_with_trace_and_ray_ids(log: io.StringIO) -> None:
    start_logging(LogConfig(format="json"), "worker", ids={"ray.actor_id": "a1"}, stream=log)
    with OtlpReceiver() as receiver:
        traces = traces_to(receiver)
        with tracing_of(traces).commit_span(2) as span:
            logging.getLogger("rabbitray.actors.store").warning(
                'Row "%s" refused', "x\ny", extra={"key": "k", "rows": 2}
            )
        traces.shutdown(30)
    entry = json.loads(log.getvalue().splitlines()[0])
    assert span.traceparent is not None
    assert entry["trace_id"] in span.traceparent
    assert entry["message"] == 'Row "x\ny" refused'
    assert (entry["level"], entry["role"], entry["logger"]) == ("WARNING", "worker", "rabbitray.actors.store")
    assert (entry["key"], entry["rows"], entry["ray.actor_id"]) == ("k", 2, "a1")


async def test_a_broker_that_is_not_there_is_said_by_us_alone(log: io.StringIO) -> None:
    start_logging(LogConfig(), "router", stream=log)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(BrokerUnreachableError, match="cannot be reached"):
        async with contact(Secret(f"amqp://127.0.0.1:{port}/"), within_s=0.3):
            pass
    assert log.getvalue() == ""
    logging.getLogger("aiormq.connection").warning("Something else")
    assert "Something else" in log.getvalue()


def test_logging_started_twice_writes_each_line_once(log: io.StringIO) -> None:
    for _ in range(2):
        start_logging(LogConfig(level="WARNING"), "router", stream=log)
    logging.getLogger("x").info("quiet")
    logging.getLogger("x").warning("loud")
    assert [line.split(": ")[-1] for line in log.getvalue().splitlines()] == ["loud"]


def test_values_of_resource_attributes_are_percent_encoded() -> None:
    config = from_environ(OTEL_RESOURCE_ATTRIBUTES="team=a%20b, sum = 1%2C2%3D3 ,service.name=bl%C3%A5")
    assert config.resource_attributes == (("team", "a b"), ("sum", "1,2=3"), ("service.name", "blå"))
    assert config.service_name == "blå"


@pytest.mark.parametrize("name", ["OTEL_PROPAGATORS", "OTEL_METRIC_EXPORT_TIMEOUT", "OTEL_LOGS_EXPORTER"])
def test_a_variable_of_the_sdk_without_effect_here_is_told(name: str) -> None:
    (notice,) = load({}, {name: "b3"}, None).notices
    assert notice.startswith(f"{name} is set, but has no effect: ")


FIRST_OF_A_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ router ")


class Evil(Exception):
    """Its text would be lines of ours."""

    def __str__(self) -> str:
        return f"\x1b[2J{FORGED}\n{FORGED}\r\n{FORGED}\u2028{FORGED}"


def log_of_strangers() -> None:
    """Four entries: a message, an extra, a traceback with its cause, a stack."""
    mine = logging.getLogger("rabbitray.actors.router.router")
    mine.warning("Message %s is parked", f"k\n{FORGED}", extra={"key": f"k\r\n{FORGED}\x9b", "a\nb": float("nan")})
    try:
        try:
            raise Evil
        except Evil as cause:
            raise RuntimeError(f"x\n{FORGED}") from cause
    except RuntimeError:
        mine.exception("Handler raised \u202e")
    mine.error("With %s", FORGED, stack_info=True)
    mine.error("\ud800\u2029%s", FORGED)


def test_no_text_of_a_stranger_begins_a_line_of_the_log(log: io.StringIO) -> None:
    start_logging(LogConfig(), "router", stream=log)
    log_of_strangers()
    lines = log.getvalue().splitlines()
    entries = [line for line in lines if FIRST_OF_A_LINE.match(line)]
    assert len(entries) == 4
    assert all(line in entries or line.startswith("  ") for line in lines)
    assert not unfit(log.getvalue())
    assert "RuntimeError: x\n" in log.getvalue(), "a traceback has its lines"
    assert r"key=k\r\n2026" in entries[0]


@pytest.mark.parametrize("kind", ["text", "json"])
def test_the_traceback_of_a_job_stands_below_its_line(log: io.StringIO, kind: Any) -> None:
    start_logging(LogConfig(format=kind, secrets=(Secret("geheimnis-4711"),)), "router", stream=log)
    frames = f"jobs.py:7 in handle: geheimnis-4711\n{FORGED}"
    logging.getLogger("x").warning("Job k failed", extra={"key": "k", "traceback": frames})
    if kind == "json":
        assert json.loads(log.getvalue())["traceback"] == f"jobs.py:7 in handle: ***\n{FORGED}"
    else:
        first, *others = log.getvalue().splitlines()
        assert first.endswith("Job k failed key=k")
        assert others == ["  jobs.py:7 in handle: ***", f"  {FORGED}"]


def test_a_traceback_is_made_here_whoever_formatted_the_record_before(log: io.StringIO) -> None:
    """Python keeps the text of a traceback in the record, as the first formatter left it."""
    start_logging(LogConfig(), "router", stream=log)
    record = logging.makeLogRecord({"msg": "Lost", "levelno": logging.ERROR, "name": "x", "exc_text": FORGED})
    logging.getLogger("x").handle(record)
    assert FORGED not in log.getvalue()


def test_json_lines_are_one_line_of_json_whatever_is_in_them(log: io.StringIO) -> None:
    start_logging(LogConfig(format="json"), "router", stream=log)
    log_of_strangers()
    logging.getLogger("x").error("Odd", extra={"odd": {(1, 2): b"\xff", "loop": logging}})
    entries = [json.loads(line, parse_constant=pytest.fail) for line in log.getvalue().splitlines()]
    assert len(entries) == 5
    assert not unfit(log.getvalue())
    assert entries[0]["key"] == f"k\r\n{FORGED}\x9b"
    assert entries[1]["message"] == "Handler raised \u202e"


@pytest.mark.parametrize("kind", ["text", "json"])
def test_a_line_holds_no_secret_wherever_in_it(log: io.StringIO, kind: Any) -> None:
    canary = new_canary()
    url = f"amqp://user:{canary.in_url}@host/"
    start_logging(LogConfig(format=kind, secrets=(Secret(url),)), "router", stream=log)
    extra = {"where": canary.careless(url), "all": [{canary.password: (url, 1)}], "bytes": canary.password.encode()}
    try:
        raise ConnectionError(canary.careless(url))
    except ConnectionError:
        logging.getLogger("x").exception("Lost %s", canary.careless(url), extra=extra)
    assert log.getvalue().count("amqp://***@host/") >= 4
    assert canary.word not in log.getvalue()


def test_a_secret_that_looks_like_json_breaks_no_line(log: io.StringIO) -> None:
    start_logging(LogConfig(format="json", secrets=(Secret('", "level": "'),)), "router", stream=log)
    logging.getLogger("x").warning("well")
    assert json.loads(log.getvalue())["level"] == "WARNING"


def test_a_collectors_login_is_a_secret_and_its_other_headers_are_not() -> None:
    config = from_environ(
        OTEL_EXPORTER_OTLP_ENDPOINT="https://user:geheim-1@collector",
        OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20geheim%2F2,x-api-key=geheim-3,x-scope-orgid=tenant-7",
    )
    hidden = Redactor(*config.collector.secrets)("geheim-1 geheim%2F2 geheim/2 geheim-3 tenant-7 Bearer")
    assert hidden == "*** *** *** *** tenant-7 Bearer"
