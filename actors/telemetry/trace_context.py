"""Trace context: strict reading and writing of the W3C headers, and destination names. Pure."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from rabbitray.actors.message import headers as names

Headers = MutableMapping[str, Any]  # Any: AMQP field values

_TRACEPARENT = re.compile("([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_TRACEPARENT_LENGTH = 55
_TRACESTATE_LENGTH = 512
_UNSAMPLED = tuple("02468ace")  # the last digit of the flags; its lowest bit says that the trace is sampled
_STATE_KEY = r"[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13}"
_STATE_VALUE = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_STATE_ENTRY = re.compile(f"({_STATE_KEY})=({_STATE_VALUE})")  # as W3C Trace Context has them, level 1


def producer_destination(exchange: str, routing_key: str) -> str:
    """`{exchange}:{routing_key}`, empty parts left out, `amq.default` when both are (RabbitMQ semconv)."""
    return ":".join(part for part in (exchange, routing_key) if part) or "amq.default"


def consumer_destination(exchange: str, routing_key: str, queue: str) -> str:
    """`{exchange}:{routing_key}:{queue}`, empty parts left out, a key equal to the queue written once."""
    key = "" if routing_key == queue else routing_key
    return ":".join(part for part in (exchange, key, queue) if part) or "amq.default"


def span_context(traceparent: object, tracestate: object = None) -> SpanContext | None:
    """The remote context of a `traceparent` of the exact W3C form (55 characters); None for anything else."""
    match = _parse(traceparent)
    if match is None:
        return None
    return SpanContext(
        trace_id=int(match[2], 16),
        span_id=int(match[3], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(match[4], 16)),
        trace_state=_trace_state(tracestate),
    )


def sampled_context(traceparent: object) -> SpanContext | None:
    """`span_context`, only if its trace is sampled: an unsampled one has no span to lead to."""
    if isinstance(traceparent, str) and traceparent.endswith(_UNSAMPLED):
        return None  # most of them, where 1 % is sampled: this costs a tenth of the parsing
    context = span_context(traceparent)
    return context if context is not None and context.trace_flags.sampled else None


def trace_id_of(traceparent: object) -> str | None:
    """The trace id (32 hex digits) for a result row, without any cost of OpenTelemetry; None if malformed."""
    match = _parse(traceparent)
    return None if match is None else match[2]


def current_ids() -> tuple[str, str] | None:
    """(trace id, span id) of the current span, for log lines; None outside any."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)


def _parse(traceparent: object) -> re.Match[str] | None:
    if isinstance(traceparent, bytes):
        traceparent = traceparent.decode("ascii", "replace")
    if not isinstance(traceparent, str) or len(traceparent) != _TRACEPARENT_LENGTH:
        return None
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or match[1] == "ff" or not match[2].strip("0") or not match[3].strip("0"):
        return None
    return match


def _trace_state(tracestate: object) -> TraceState | None:
    """A well-formed state only: the API would log each bad entry, and any producer can send them."""
    if isinstance(tracestate, bytes):
        tracestate = tracestate.decode("ascii", "replace")
    if not isinstance(tracestate, str) or not 0 < len(tracestate) <= _TRACESTATE_LENGTH:
        return None
    entries = [_STATE_ENTRY.fullmatch(entry.strip()) for entry in tracestate.split(",")]
    pairs = {entry[1]: entry[2] for entry in entries if entry is not None}
    if len(pairs) != len(entries) or len(pairs) > 32:
        return None
    return TraceState(list(pairs.items()))


def format_context(context: SpanContext) -> str | None:
    """The header value of a context; None for the invalid one."""
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def inject_context(context: SpanContext, headers: Headers) -> None:
    """Writes a context into headers; one that is already there (a retry, a replay) stays."""
    traceparent = format_context(context)
    if traceparent is None or names.TRACEPARENT in headers:
        return
    headers[names.TRACEPARENT] = traceparent
    if context.trace_state:
        headers[names.TRACESTATE] = context.trace_state.to_header()
