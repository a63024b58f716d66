"""A real little OTLP/HTTP collector on loopback: decodes what it gets and keeps it."""

from __future__ import annotations

import gzip
import threading
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Behaviour = Literal["accept", "refuse", "black_hole"]
Attributes = dict[str, Any]  # Any: whatever OTLP carries


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedLink:
    """A link of a received span, ids in hex."""

    trace_id: str
    span_id: str
    attributes: Attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedSpan:
    """A span as the collector sees it, ids in hex; `parent_id` is empty for a root."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: Attributes
    links: tuple[ReceivedLink, ...]
    events: tuple[tuple[str, Attributes], ...]
    error: str | None
    resource: Attributes

    @property
    def linked_to(self) -> set[str]:
        """Span ids of its links."""
        return {link.span_id for link in self.links}


class OtlpReceiver:
    """Collector for `with`: `.endpoint` for OTEL_EXPORTER_OTLP_ENDPOINT, `.spans` what arrived so far.

    `behaviour` may be changed while it runs: `refuse` answers 400, `black_hole` never answers until the end.
    """

    def __init__(self, behaviour: Behaviour = "accept") -> None:
        self.behaviour: Behaviour = behaviour
        self.spans: list[ReceivedSpan] = []
        self.requests: list[dict[str, str]] = []
        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def endpoint(self) -> str:
        """The base URL, without `/v1/traces`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def named(self, name: str) -> list[ReceivedSpan]:
        """The spans of that name."""
        return [span for span in self.spans if span.name == name]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Handles one request and returns the HTTP status."""
        self.requests.append(headers)
        if self.behaviour == "black_hole":
            self.released.wait(60)
        if self.behaviour != "accept":
            return 400
        if path != "/v1/traces":
            return 404
        self.spans += decode(_unpacked(body, headers.get("content-encoding", "")))
        return 200


def decode(body: bytes) -> list[ReceivedSpan]:
    """The spans of an ExportTraceServiceRequest."""
    request = ExportTraceServiceRequest.FromString(body)
    return [
        _span(span, _attributes(resource_spans.resource.attributes))
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


def _span(span: Span, resource: Attributes) -> ReceivedSpan:
    return ReceivedSpan(
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        attributes=_attributes(span.attributes),
        links=tuple(
            ReceivedLink(
                trace_id=link.trace_id.hex(),
                span_id=link.span_id.hex(),
                attributes=_attributes(link.attributes),
            )
            for link in span.links
        ),
        events=tuple((event.name, _attributes(event.attributes)) for event in span.events),
        error=span.status.message if span.status.code == 2 else None,
        resource=resource,
    )


def _attributes(pairs: Iterable[KeyValue]) -> Attributes:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> object:
    field = value.WhichOneof("value")
    if field is None:
        return None
    if field == "array_value":
        return [_value(entry) for entry in value.array_value.values]
    return getattr(value, field)


def _unpacked(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(body)
    return zlib.decompress(body) if encoding == "deflate" else body


def _handler_for(receiver: OtlpReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = receiver.take(self.path, headers, body)
            answer = ExportTraceServiceResponse().SerializeToString()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            except OSError:
                self.close_connection = True  # the exporter gave up waiting: what a black hole is for

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing: the test's own output counts."""

    return Handler
