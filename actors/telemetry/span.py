"""OpenSpan: the span that a step of the path holds; one that does nothing where nothing is traced."""

from __future__ import annotations

import traceback
from contextvars import Token
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from rabbitray.actors.errors import ERROR_TEXT_MOST, text_of
from rabbitray.actors.secret import Redactor
from rabbitray.actors.telemetry.trace_context import Headers, format_context, inject_context

Attribute = str | bool | int | float

STACK_MOST: Final = 20_000


@dataclass(frozen=True, slots=True)
class ErrorText:
    """An error in words: of the end of a worker nothing else is known. `error`: where its stack is to be had."""

    name: str
    text: str
    error: BaseException | None = None


class OpenSpan(Protocol):
    """A span that was started. As a context manager it is current inside, and ends with the block's error."""

    @property
    def traceparent(self) -> str | None:
        """Its context as a header value; None when nothing is traced."""

    def inject(self, headers: Headers) -> None:
        """Writes its context into `headers`; a context that is already there (a retry, a replay) stays."""

    def note(self, name: str, value: Attribute) -> None:
        """Sets one attribute."""

    def end(self, error: BaseException | None = None) -> None:
        """Ends it, with an error or without; the first call counts."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None: ...


class _NoSpan:
    """The span of a process that traces nothing."""

    __slots__ = ()
    traceparent = None

    def inject(self, headers: Headers) -> None:
        """Nothing."""

    def note(self, name: str, value: Attribute) -> None:
        """Nothing."""

    def end(self, error: BaseException | None = None) -> None:
        """Nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        return None


NO_SPAN: Final[OpenSpan] = _NoSpan()


class LiveSpan:
    """OpenSpan around a span of the API."""

    __slots__ = ("_ended", "_redact", "_span", "_token")

    def __init__(self, span: trace.Span, redact: Redactor) -> None:
        self._span = span
        self._redact = redact
        self._ended = False
        self._token: Token[otel_context.Context] | None = None

    @property
    def traceparent(self) -> str | None:
        return format_context(self._span.get_span_context())

    def inject(self, headers: Headers) -> None:
        inject_context(self._span.get_span_context(), headers)

    def note(self, name: str, value: Attribute) -> None:
        self._span.set_attribute(name, value)

    def end(self, error: BaseException | ErrorText | None = None) -> None:
        if self._ended:
            return
        self._ended = True
        if error is not None and self._span.is_recording():
            _record(self._span, error, self._redact)
        self._span.end()

    def __enter__(self) -> Self:
        self._token = otel_context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._token is not None:
            otel_context.detach(self._token)
        self.end(error)


def error_type(error: BaseException | ErrorText) -> str:
    """The full class name, as `error.type` wants it."""
    if isinstance(error, ErrorText):
        return error.name
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _record(span: trace.Span, error: BaseException | ErrorText, redact: Redactor) -> None:
    """Exception event, status and `error.type`; text and stack are cut, and secrets are taken out of them."""
    told = error if isinstance(error, ErrorText) else ErrorText(error_type(error), text_of(error), error)
    text = redact.cut(told.text, ERROR_TEXT_MOST)
    event = {"exception.type": told.name, "exception.message": text}
    if told.error is not None:  # not by `record_exception`, which asks the exception for its text again
        stack = redact.cut("".join(traceback.format_exception(told.error)), STACK_MOST)
        event |= {"exception.stacktrace": stack, "exception.escaped": "False"}
    span.add_event("exception", event)
    span.set_attribute("error.type", error_type(error))
    span.set_status(StatusCode.ERROR, text[:200])
