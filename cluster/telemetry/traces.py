"""The OpenTelemetry SDK of one process: provider, sampler, exporters, counted drops, bounded shutdown."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider, sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.re import parse_env_headers
from opentelemetry.util.types import Attributes, AttributeValue

from rabbitray.actors.secret import NO_SECRETS, Redactor
from rabbitray.actors.telemetry.rate_limit import LogThrottle
from rabbitray.cluster.telemetry.config import CollectorConfig, TelemetryConfig
from rabbitray.cluster.telemetry.shutdown import Shutdown

log = logging.getLogger(__name__)

MIN_SPAN_LINKS: Final = 1000
"""Links that a span keeps at least: a packed batch may hold more messages than the default of 128."""

COMPRESSION = {
    "none": Compression.NoCompression,
    "gzip": Compression.Gzip,
    "deflate": Compression.Deflate,
}


class SpanFlow:
    """Counts of the sampled spans on their way to one exporter; used by many threads.

    Says that spans are lost when the first ones are, and from then on at most once in `rate_limit.EVERY_S`.
    """

    def __init__(self, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._seldom = LogThrottle(clock)
        self._lock = threading.Lock()
        self.waiting = 0
        self.sent = 0
        self.lost = 0

    def admit(self) -> bool:
        """Whether there is room for one more span; one that finds none is lost."""
        with self._lock:
            room = self.waiting < self._capacity
            if room:
                self.waiting += 1
            else:
                self.lost += 1
        if not room:
            self._log()
        return room

    def done(self, spans: int, *, sent: bool) -> None:
        """Notes the end of an export."""
        with self._lock:
            self.waiting -= spans
            if sent:
                self.sent += spans
            else:
                self.lost += spans
        if not sent:
            self._log()

    def _log(self) -> None:
        if self._seldom.due():
            log.warning("The trace collector takes no spans, or too few: %d lost so far; work goes on", self.lost)


class _Queue(BatchSpanProcessor):
    """The SDK's queue, with a count of what finds no room: the SDK itself would only log it."""

    def __init__(self, exporter: SpanExporter, flow: SpanFlow, config: TelemetryConfig) -> None:
        super().__init__(
            exporter,
            max_queue_size=config.max_queue_size,
            schedule_delay_millis=config.schedule_delay_ms,
            max_export_batch_size=config.max_export_batch_size,
        )
        self._flow = flow

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled and self._flow.admit():
            super().on_end(span)


class CountingExporter(SpanExporter):
    """Passes spans on and counts what arrived and what did not."""

    def __init__(self, exporter: SpanExporter, flow: SpanFlow) -> None:
        self._exporter = exporter
        self._flow = flow

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends one batch; an exporter that raises counts as a failed batch."""
        try:
            result = self._exporter.export(spans)
        except Exception as error:
            log.debug("Exporting spans failed: %s", type(error).__name__, exc_info=True)
            result = SpanExportResult.FAILURE
        self._flow.done(len(spans), sent=result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        """Ends the exporter, which also ends its waiting between tries."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is held here."""
        return self._exporter.force_flush(timeout_millis)


class MessagingSampler(sampling.Sampler):
    """The sampler that OTEL_TRACES_SAMPLER names, with two additions for batches.

    A batch span has no parent, so a sampled message that it links to stands for one: its trace leads
    somewhere. With `keep_failures`, the span of a failed job is always kept.
    """

    def __init__(self, inner: sampling.Sampler, *, keep_failures: bool) -> None:
        self._inner = inner
        self._keep_failures = keep_failures

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> sampling.SamplingResult:
        """The decision for a span that starts."""
        linked = any(link.context.trace_flags.sampled for link in links or ())
        failed = self._keep_failures and attributes is not None and "error.type" in attributes
        chosen = sampling.ALWAYS_ON if linked or failed else self._inner
        return chosen.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """Named after the inner one."""
        return f"MessagingSampler({self._inner.get_description()})"


def sampler(name: str, ratio: float) -> sampling.Sampler:
    """The sampler for a value of OTEL_TRACES_SAMPLER; only the `parentbased_*` ones look at links."""
    plain = {
        "always_on": sampling.ALWAYS_ON,
        "always_off": sampling.ALWAYS_OFF,
        "traceidratio": sampling.TraceIdRatioBased(ratio),
    }
    root = plain[name.removeprefix("parentbased_")]
    if not name.startswith("parentbased_"):
        return root
    return MessagingSampler(sampling.ParentBased(root), keep_failures=not name.endswith("always_off"))


class Provider(TracerProvider):
    """The SDK's provider, which also counts how many of its spans were lost. `redact`: for the texts of our spans."""

    flows: Sequence[SpanFlow] = ()
    redact: Redactor = NO_SECRETS

    @property
    def spans_lost(self) -> int:
        """Spans that found no room in the queue, or that the collector refused."""
        return sum(flow.lost for flow in self.flows)


class Traces:
    """A running provider and its way out; made by `build`."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self._flows = provider.flows
        self._end = Shutdown(provider.shutdown, "traces-shutdown")

    @property
    def sent(self) -> int:
        """Spans that the collector took."""
        return sum(flow.sent for flow in self._flows)

    @property
    def dropped(self) -> int:
        """Spans lost: no room in the queue, refused by the collector, or still waiting after the end."""
        lost = self.provider.spans_lost
        return lost + sum(flow.waiting for flow in self._flows) if self._end.begun else lost

    def shutdown(self, deadline_s: float = 5.0) -> bool:
        """Sends what is left in a thread of its own and waits for it until the deadline; never longer.

        The SDK's own flush ignores its time-out (opentelemetry-python#4568), hence the thread. It is a
        daemon: it holds up neither the process nor an actor.
        """
        complete = self._end.within(deadline_s) and self.dropped == 0
        if not complete:
            log.warning("Traces are incomplete: %d spans were not delivered", self.dropped)
        return complete


def install(
    config: TelemetryConfig, role: str, attributes: Mapping[str, str], redact: Redactor = NO_SECRETS
) -> Traces | None:
    """Makes the provider and sets it; None when this process has one already."""
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    traces = build(config, role, attributes)
    traces.provider.redact = redact
    _quieten_sdk()
    trace.set_tracer_provider(traces.provider)
    return traces


def build(config: TelemetryConfig, role: str, attributes: Mapping[str, str]) -> Traces:
    """Makes a provider with a queue of its own for each exporter, without setting it."""
    provider = Provider(
        sampler=sampler(config.sampler, config.sampler_ratio),
        resource=resource(config, role, attributes),
        shutdown_on_exit=False,
        span_limits=SpanLimits(max_links=max(config.span_links, MIN_SPAN_LINKS)),
    )
    flows = []
    for name in config.exporters:
        flow = SpanFlow(config.max_queue_size)
        exporter = ConsoleSpanExporter() if name == "console" else OTLPSpanExporter(**otlp(config.collector))
        provider.add_span_processor(_Queue(CountingExporter(exporter, flow), flow, config))
        flows.append(flow)
    provider.flows = flows
    return Traces(provider)


def resource(config: TelemetryConfig, role: str, attributes: Mapping[str, str]) -> Resource:
    own: dict[str, AttributeValue] = {
        "service.name": config.service_name,
        "service.instance.id": f"{role}-{os.getpid()}",
        "rabbitray.role": role,
        "process.pid": os.getpid(),
    }
    return Resource.create({**own, **dict(config.resource_attributes), **attributes})


def otlp(to: CollectorConfig) -> dict[str, Any]:  # Any: arguments of the exporters of both signals
    """The collector as OpenTelemetry's exporters take it."""
    return {
        "endpoint": to.endpoint.reveal(),
        "certificate_file": to.certificate,
        "client_key_file": to.client_key,
        "client_certificate_file": to.client_certificate,
        "headers": parse_env_headers(to.headers.reveal(), liberal=True),
        "timeout": to.timeout_s,
        "compression": COMPRESSION[to.compression],
    }


def _quieten_sdk() -> None:
    """The SDK logs each failed try and each dropped span; SpanFlow says it once a minute instead."""
    for name in ("opentelemetry.exporter.otlp", "opentelemetry.sdk._shared_internal"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
