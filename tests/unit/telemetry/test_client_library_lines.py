"""What aiormq logs of a connection, beside our own lines."""

from __future__ import annotations

import logging
from typing import Any

from aiormq.exceptions import ConnectionInternalError

from rabbitray.cluster.telemetry.logs import SAME_WORDS_S, NotSaidByUs

CLOSED = 'Unexpected connection close from remote "%s", Connection.Close(reply_code=%r, reply_text=%r)'


def record(text: str, *values: object, error: BaseException | None = None) -> logging.LogRecord:
    exc_info: Any = (type(error), error, None) if error else None
    return logging.LogRecord("aiormq.connection", logging.ERROR, __file__, 1, text, values, exc_info)


def test_what_rabbitmq_says_as_it_closes_a_connection_is_said_once_in_a_while() -> None:
    now = [0.0]
    said = NotSaidByUs(clock=lambda: now[0]).filter
    assert said(record(CLOSED, "amqp://broker", 541, "INTERNAL_ERROR"))
    assert not said(record(CLOSED, "amqp://broker", 541, "INTERNAL_ERROR"))
    assert said(record(CLOSED, "amqp://broker", 320, "CONNECTION_FORCED - broker shutdown"))
    now[0] = SAME_WORDS_S
    assert said(record(CLOSED, "amqp://broker", 541, "INTERNAL_ERROR"))


def test_the_end_of_a_reader_is_said_where_nothing_else_says_why() -> None:
    said = NotSaidByUs().filter
    text = "Cancelling cause reader exited abnormally"
    assert not said(record(text, error=ConnectionInternalError("INTERNAL_ERROR")))
    assert said(record(text, error=ValueError("a frame that cannot be read")))
    assert not said(record("error when creating transport: %r", "refused"))
    assert said(record("anything else"))
