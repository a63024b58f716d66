"""Spans for each step of a message's path, and the trace context in message headers.

The only user of the OpenTelemetry API in our packages. Without a configured provider every method returns
the same do-nothing span and injects nothing. Names and attributes follow the messaging, RabbitMQ and
database conventions 1.44. `trace_context` reads and writes the headers, `span` has what a step holds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal, Protocol

from opentelemetry import trace
from opentelemetry.trace import Link, SpanContext, SpanKind

from rabbitray.actors.secret import NO_SECRETS, Redactor
from rabbitray.actors.telemetry.rate_limit import Allowance, LogThrottle
from rabbitray.actors.telemetry.span import NO_SPAN, Attribute, ErrorText, LiveSpan, OpenSpan, error_type
from rabbitray.actors.telemetry.trace_context import (
    Headers,
    consumer_destination,
    inject_context,
    sampled_context,
    span_context,
)

log = logging.getLogger(__name__)

Settle = Literal["ack", "nack", "reject"]
"""How a delivery is settled. The pool acks and nacks; a dead letter is a confirmed copy and an ack, no reject."""

FAILURE_SPANS_PER_S: Final = 50
SKIP_SPANS_PER_S: Final = 50
_SCOPE = "rabbitray"


class Carrier(Protocol):
    """What a received message brings along; `rabbitray.actors.message.parcel.Parcel` is one."""

    @property
    def traceparent(self) -> str | None:
        """The producer's header, unchecked."""

    @property
    def tracestate(self) -> str | None:
        """The producer's header, unchecked."""

    @property
    def message_id(self) -> str | None:
        """The AMQP message id."""

    @property
    def attempt(self) -> int:
        """Charged runs before this one; -1 when unknown."""


class Tracing:
    """Starts the spans of one process. `provider` is the process's own unless given (tests).

    `server` is the broker's (host, port), `database` the results file's name. Whether anything is traced, and which
    secrets the texts must not hold, is looked up once, here: build it after the process's telemetry was started.
    """

    def __init__(
        self,
        *,
        queue: str = "",
        server: tuple[str, int] | None = None,
        database: str = "",
        provider: trace.TracerProvider | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        provider = provider or trace.get_tracer_provider()
        self.enabled = not isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider)
        self._provider = provider
        self._redact: Redactor = getattr(provider, "redact", NO_SECRETS)
        self._tracer = provider.get_tracer(_SCOPE)
        self._queue = queue
        self._database = database
        self._messaging: dict[str, Attribute] = {"messaging.system": "rabbitmq"}
        if server is not None:
            self._messaging |= {"server.address": server[0], "server.port": server[1]}
        self._failures = Allowance(FAILURE_SPANS_PER_S, clock)
        self._skips = Allowance(SKIP_SPANS_PER_S, clock)
        self._flood = LogThrottle(clock)

    @property
    def failures_untraced(self) -> int:
        """Failed jobs without a span of their own: more than FAILURE_SPANS_PER_S failed in a second."""
        return self._failures.refused

    @property
    def spans_lost(self) -> int:
        """Spans of this process that the collector did not get; 0 where its provider does not count them."""
        return int(getattr(self._provider, "spans_lost", 0))

    def inject(self, headers: Headers) -> None:
        """Writes the current context into message headers; a context that is already there stays."""
        if self.enabled:
            inject_context(trace.get_current_span().get_span_context(), headers)

    def publish_span(
        self,
        destination: str,
        message_id: str | None = None,
        *,
        routing_key: str | None = None,
        body_size: int | None = None,
        count: int = 1,
    ) -> OpenSpan:
        """PRODUCER span from hand-over to confirm; `count` messages share it when they go out as a batch.

        `destination` is a `producer_destination`; no `message_id` (or an empty one): it is not known yet.
        """
        if not self.enabled:
            return NO_SPAN
        attributes = self._operation("publish", "send", destination, count)
        if routing_key is not None:
            attributes["messaging.rabbitmq.destination.routing_key"] = routing_key
        if message_id and count == 1:
            attributes["messaging.message.id"] = message_id
        if body_size is not None:
            attributes["messaging.message.body.size"] = body_size
        return self._start(SpanKind.PRODUCER, attributes)

    def process_span(
        self,
        batch_id: str,
        queue: str,
        messages: Iterable[Carrier],
        *,
        exchange: str = "",
        routing_key: str | None = None,
    ) -> OpenSpan:
        """CONSUMER span for a batch, with a link to each message whose own trace is sampled.

        What varies from message to message stands on its link. A single message's context is also the parent.
        """
        if not self.enabled:
            return NO_SPAN
        carriers = list(messages)
        key = queue if routing_key is None else routing_key
        destination = consumer_destination(exchange, key, queue)
        attributes = self._operation("process", "process", destination, len(carriers))
        attributes |= {"messaging.rabbitmq.destination.routing_key": key, "rabbitray.batch.id": batch_id}
        parent = None
        if len(carriers) == 1:
            attributes |= _message_attributes(carriers[0].message_id, carriers[0].attempt)
            parent = span_context(carriers[0].traceparent, carriers[0].tracestate)
        return self._start(SpanKind.CONSUMER, attributes, links=_links(carriers), parent=parent)

    def failure(
        self,
        traceparent: str | None,
        message_id: str | None,
        error: BaseException | ErrorText,
        *,
        attempt: int = 0,
        key: str | None = None,
        batch: str | None = None,
    ) -> None:
        """Records a failed job in the trace of its message, with its exception and a link to its batch.

        At most FAILURE_SPANS_PER_S a second: a flood of failures must not cost the pool its speed.
        """
        if not self.enabled:
            return
        if not self._failures.take():
            self._log_flood()
            return
        attributes = self._messaging | _message_attributes(message_id, attempt)
        attributes |= {"error.type": error_type(error), "messaging.destination.name": self._queue}
        if key is not None:
            attributes["rabbitray.key"] = key
        name = f"fail {self._queue}".strip()
        parent, links = span_context(traceparent), _batch_links((batch,))
        self._start(SpanKind.INTERNAL, attributes, name=name, links=links, parent=parent).end(error)

    def skip(
        self,
        traceparent: str | None,
        message_id: str | None,
        *,
        attempt: int = 0,
        key: str | None = None,
        batch: str | None = None,
    ) -> None:
        """Records in the trace of a message, where that is sampled, that it was not run, with a link to its batch: its
        result exists. At most SKIP_SPANS_PER_S a second; the span of the batch counts them all.
        """
        if not self.enabled or (parent := sampled_context(traceparent)) is None or not self._skips.take():
            return
        attributes = self._messaging | _message_attributes(message_id, attempt)
        attributes |= {"messaging.destination.name": self._queue, "rabbitray.reason": "result exists"}
        if key is not None:
            attributes["rabbitray.key"] = key
        name = f"skip {self._queue}".strip()
        self._start(SpanKind.INTERNAL, attributes, name=name, links=_batch_links((batch,)), parent=parent).end()

    def commit_span(self, rows: int, *, batches: Iterable[str | None] = ()) -> OpenSpan:
        """CLIENT span of one transaction; `batches` are the traceparents of the process spans it stores."""
        if not self.enabled:
            return NO_SPAN
        attributes: dict[str, Attribute] = {
            "db.system.name": "duckdb",
            "db.namespace": self._database,
            "db.collection.name": "results",
            "db.operation.name": "INSERT",
        }
        if rows > 1:
            attributes["db.operation.batch.size"] = rows
        return self._start(SpanKind.CLIENT, attributes, name="INSERT results", links=_batch_links(batches))

    def settle_span(
        self, kind: Settle, count: int, *, batches: Iterable[str | None] = (), messages: Iterable[Carrier] = ()
    ) -> OpenSpan:
        """CLIENT span of one acknowledgement (or nack, reject) that settles `count` deliveries.

        It is linked to the batches that it settles; `messages` are for those that may never have been in one.
        """
        if not self.enabled:
            return NO_SPAN
        attributes = self._operation(kind, "settle", self._queue, count)
        return self._start(SpanKind.CLIENT, attributes, links=[*_batch_links(batches), *_links(messages)])

    def resize_span(self, had: int, wanted: int, reason: str) -> OpenSpan:
        """INTERNAL span of one decision of the autoscaler."""
        if not self.enabled:
            return NO_SPAN
        attributes: dict[str, Attribute] = {
            "messaging.destination.name": self._queue,
            "rabbitray.pool.had": had,
            "rabbitray.pool.wanted": wanted,
            "rabbitray.reason": self._redact(reason),
        }
        return self._start(SpanKind.INTERNAL, attributes, name=f"resize {self._queue}")

    def _log_flood(self) -> None:
        """At most one log line in `EVERY_S` seconds."""
        if self._flood.due():
            log.warning(
                "Failed jobs without a span of their own: %d so far, at most %d a second get one",
                self.failures_untraced,
                FAILURE_SPANS_PER_S,
            )

    def _operation(self, name: str, kind: str, destination: str, count: int) -> dict[str, Attribute]:
        attributes = self._messaging | {
            "messaging.operation.name": name,
            "messaging.operation.type": kind,
            "messaging.destination.name": destination,
        }
        if count > 1:
            attributes["messaging.batch.message_count"] = count
        return attributes

    def _start(
        self,
        kind: SpanKind,
        attributes: Mapping[str, Attribute],
        *,
        name: str | None = None,
        links: Sequence[Link] = (),
        parent: SpanContext | None = None,
    ) -> LiveSpan:
        if name is None:
            name = f"{attributes['messaging.operation.name']} {attributes['messaging.destination.name']}"
        around = None if parent is None else trace.set_span_in_context(trace.NonRecordingSpan(parent))
        return LiveSpan(self._tracer.start_span(name, around, kind, attributes, links), self._redact)


def _links(messages: Iterable[Carrier]) -> list[Link]:
    return [
        Link(context, _message_attributes(message.message_id, message.attempt))
        for message in messages
        if (context := sampled_context(message.traceparent)) is not None
    ]


def _batch_links(batches: Iterable[str | None]) -> list[Link]:
    contexts = (sampled_context(traceparent) for traceparent in batches)
    return [Link(context) for context in contexts if context is not None]


def _message_attributes(message_id: str | None, attempt: int) -> dict[str, Attribute]:
    attributes: dict[str, Attribute] = {}
    if message_id is not None:
        attributes["messaging.message.id"] = message_id
    if attempt > 0:
        attributes["rabbitray.attempt"] = attempt
    return attributes
