"""What a stranger may write is looked through in linear time: ten times as much takes about ten times as long."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import Final

import pytest
from ray.exceptions import RayError

from rabbitray.actors.errors import ERROR_TEXT_MOST, DecodeError
from rabbitray.actors.message.headers import clean_headers, table_bytes
from rabbitray.actors.message.reply import Failure
from rabbitray.actors.message.wire.shapes import read_id, read_time
from rabbitray.actors.printable import below, json_text, printable
from rabbitray.actors.rabbitmq import errors as rabbitmq_errors
from rabbitray.actors.remote.calls import last_line
from rabbitray.actors.router.delivery import message_failure
from rabbitray.actors.router.dispatch.memory_deaths import memory_death
from rabbitray.actors.secret import NO_SECRETS, Redactor, Secret
from rabbitray.actors.telemetry.trace_context import sampled_context, span_context
from rabbitray.actors.worker.outcome.error_text import describe
from rabbitray.actors.worker.outcome.verdict import Categories
from rabbitray.cluster.cli.tables import shown
from rabbitray.cluster.cli.terminal import column
from rabbitray.cluster.publish.feed import LineReader
from rabbitray.cluster.results.dead_letters import readable
from rabbitray.cluster.telemetry import LogConfig, start_logging
from tests.kit.deliveries import delivery
from tests.kit.growth import growth

SECRET: Final = Secret("amqp://us'er:'\\canary \"%2F'canary\\%25@host/v")
KNOWN: Final = Redactor(SECRET, Secret("\\\\\\'''%25%25%25"), Secret("rabbit"))
TEXTS: Final = {
    "URLs without a login": "http://host:80/x,",
    "URLs with a login": "amqp://user:pw@host:80/x ",
    "logins after each other": "://a@",
    "beginnings of URLs": "://",
    "beginnings of logins": "x://a:",
    "the password's first letters": "'\\canary \"%2",
    "what the user is called": "://us'er:",
    "backslashes": "\\",
    "percent signs": "%25",
    "quotes": "'\"",
    "letters": "a",
    "blanks": " \t",
    "line breaks": "x\r\n",
    "a trace": "00-" + "ab" * 16 + "-",
    "Ray's words": "Selected to kill: Memory on the node (",
    "digits": "1.1",
    "markup": "[/x]\\[",
    "JSON": '{"a":[',
    "escapes": "\x1b[2J\u202e",
}
SIZE: Final = 10_000
MOST_GROWTH: Final = 40.0
"""Of ten times the size; a hundred is what quadratic work would take."""


def log_line(text: str) -> None:
    logger = logging.Logger("x")
    for form in ("text", "json"):
        handler = start_handler(form)
        try:
            raise ValueError(text)
        except ValueError as error:
            handler.format(
                logger.makeRecord("x", 30, "f", 1, "%s", (text,), (ValueError, error, None), extra={"k": text})
            )


def start_handler(form: str) -> logging.Handler:
    """As `start_logging` makes it, without a place in the log of this process."""
    root, kept = logging.getLogger(), logging.getLogger().handlers[:]
    level = root.level
    try:
        start_logging(LogConfig(format=form, secrets=(SECRET,)), "router", stream=io.StringIO())  # type: ignore[arg-type]
        return next(handler for handler in root.handlers if handler not in kept)
    finally:
        root.handlers[:], root.level = kept, level


def refused(read: Callable[[str], object]) -> Callable[[str], object]:
    def reading(text: str) -> object:
        try:
            return read(text)
        except DecodeError as error:
            return error

    return reading


def lines(text: str) -> None:
    """A line that comes in small pieces."""
    reader = LineReader(10**9)
    for at in range(0, len(text), 100):
        reader.feed(text[at : at + 100].encode())
    reader.end()


FUNCTIONS: Final[dict[str, Callable[[str], object]]] = {
    "a redactor without secrets": NO_SECRETS,
    "a redactor": KNOWN,
    "a redactor that cuts": lambda text: KNOWN.cut(text, len(text) // 2),
    "the error of a job": lambda text: describe(ValueError(text), KNOWN),
    "the category of an error": lambda text: Categories().of(Exception(text)),
    "an error of RabbitMQ": lambda text: rabbitmq_errors.describe(OSError(text), KNOWN),
    "a refusal of RabbitMQ": lambda text: rabbitmq_errors.refusal(OSError(text), KNOWN),
    "an error of Ray": lambda text: last_line(RayError(text)),
    "an end by Ray's memory monitor": lambda text: memory_death(text, 1, at_start=0, last=0),
    "a log line": lambda text: log_line(text[: len(text) // 8]),  # it holds the text many times
    "a trace context": lambda text: (span_context(text, text), sampled_context(text)),
    "headers": lambda text: clean_headers({text: text, "x-death": [text] * 9}),
    "the size of headers": lambda text: table_bytes({text: [text] * 9}, 10**9),
    "a time": refused(lambda text: read_time(text, "scheduledSendTime")),
    "an id": refused(read_id),
    "a line of jobs": lines,
    "a cell": shown,
    "a text for people": lambda text: (printable(text), below(text), column(text, 4)),
    "a JSON value": lambda text: json_text({text: [text]}),
    "a dead letter": lambda text: readable({"headers": None, "body": text.encode(), "content_type": "text/plain"}),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_work_grows_with_the_size_of_a_text(name: str) -> None:
    for kind, piece in TEXTS.items():
        text = piece * (10 * SIZE // len(piece))
        grown = growth(FUNCTIONS[name], text[:SIZE], text)
        assert grown < MOST_GROWTH, f"{kind}: ten times the size takes {grown:.0f} times as long"


def test_what_is_kept_of_an_error_is_bounded() -> None:
    text = "http://user:secret@host/x," * 100_000
    assert len(describe(ValueError(text))[1]) <= ERROR_TEXT_MOST
    assert len(last_line(RayError(text))) <= ERROR_TEXT_MOST
    assert len(str(DecodeError("bad_field", text))) < ERROR_TEXT_MOST
    found: Failure = message_failure(delivery(1), "x" * 100_000, text, "DecodeError")
    assert len(found.error) + len(found.reason) < 3 * ERROR_TEXT_MOST
