"""Logging of a process: text for people or JSON for machines, with ids of job and trace, without passwords."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TextIO

from rabbitray.actors.printable import below, json_text, printable
from rabbitray.actors.secret import Redactor, Secret
from rabbitray.actors.telemetry.own_logging import HANDLER_NAME
from rabbitray.actors.telemetry.trace_context import current_ids
from rabbitray.actors.worker.batch.unit import called_ids

_OWN_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_BELOW: Final = "traceback"
"""The extra that stands under its line: where a job of somebody's failed, as text."""

SAME_WORDS_S: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """How a process logs. `secrets` are URLs and texts that it knows, whose passwords must not appear anywhere."""

    format: Literal["text", "json"] = "text"
    level: str = "INFO"
    secrets: tuple[Secret, ...] = ()


def start_logging(
    config: LogConfig, role: str, *, ids: Mapping[str, str] | None = None, stream: TextIO | None = None
) -> None:
    """Sends the log of this process to `stream` (standard error), once however often it is called.

    `ids` (e.g. the Ray actor id) stand in every JSON line. Handlers of others stay.
    """
    handler = OnStandardError() if stream is None else logging.StreamHandler(stream)
    handler.set_name(HANDLER_NAME)
    kind = JsonLines if config.format == "json" else TextLines
    handler.setFormatter(kind(role, dict(ids or {}), config.secrets))
    root = logging.getLogger()
    for old in [known for known in root.handlers if known.get_name() == HANDLER_NAME]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(config.level)
    _filter(logging.getLogger("aiormq.connection"))


def _filter(logger: logging.Logger) -> None:
    """Once for a logger, however often it is asked."""
    if not any(isinstance(known, NotSaidByUs) for known in logger.filters):
        logger.addFilter(NotSaidByUs())


class NotSaidByUs(logging.Filter):
    """Leaves out what aiormq says of a connection and we say better, or what it said a moment ago.

    Each attempt that failed: whoever connects says it, with host, pause and advice. That its reader has ended, with a
    traceback, when RabbitMQ closed the connection: the line before has RabbitMQ's words. And these words once in ten
    minutes, where one message has RabbitMQ close each connection with the same.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is said."""
        text = str(record.msg)
        if text.startswith("error when creating transport"):
            return False
        if text.startswith("Cancelling cause reader exited"):
            return not (record.exc_info and type(record.exc_info[1]).__module__ == "aiormq.exceptions")
        return not text.startswith("Unexpected connection close") or self._is_new(record.getMessage())

    def _is_new(self, said: str) -> bool:
        now = self._clock()
        self._said = {text: at for text, at in self._said.items() if now - at < SAME_WORDS_S}
        new = said not in self._said
        self._said.setdefault(said, now)
        return new


class OnStandardError(logging.StreamHandler[TextIO]):
    """Writes to what standard error is at that moment: a progress line takes its place while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        """One record."""
        self.stream = sys.stderr
        super().emit(record)


class _Clean(logging.Formatter):
    """Formatter whose lines, tracebacks included, hold no password."""

    converter = staticmethod(time.gmtime)

    def __init__(self, role: str, ids: Mapping[str, str], secrets: tuple[Secret, ...]) -> None:
        super().__init__("%(asctime)s %(levelname)s {} %(name)s: %(message)s".format(role.replace("%", "%%")))
        self._role = role
        self._ids = ids
        self.clean = Redactor(*secrets)

    def hide(self, *secrets: Secret) -> None:
        """These, too, from now on."""
        self.clean = self.clean.with_secrets(*secrets)


class TextLines(_Clean):
    """`time level role logger: message key=value ...`, printable on one line; the lines of a traceback are indented.

    So whatever a message quotes, its writer begins no line of the log.
    """

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line before its traceback."""
        extras = _ids() | _extras(record)
        extras.pop(_BELOW, None)
        text = super().formatMessage(record) + "".join(f" {key}={value}" for key, value in extras.items())
        return printable(self.clean(text))

    def format(self, record: logging.LogRecord) -> str:
        """The whole entry. Not by `super()`, which takes a traceback as another formatter left it in the record."""
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        text = self.formatMessage(record)
        if record.exc_info:
            text += "\n" + below(self.clean(self.formatException(record.exc_info)))
        stacks = (record.stack_info, getattr(record, _BELOW, None))
        return text + "".join("\n" + below(self.clean(stack)) for stack in stacks if stack)


class JsonLines(_Clean):
    """One JSON object a line: time, level, role, logger, message, ids, extras, error."""

    def format(self, record: logging.LogRecord) -> str:
        """The whole entry."""
        entry: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname,
            "role": self._role,
            "logger": record.name,
            "message": record.getMessage(),
            **self._ids,
            **_ids(),
            **_extras(record),
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json_text({key: _cleaned(value, self.clean) for key, value in entry.items()})


def _cleaned(value: object, clean: Redactor) -> object:
    """A JSON value, its texts without secrets: in the line as a whole a secret could look like JSON itself."""
    match value:
        case None | bool() | int() | float():
            return value
        case Mapping():
            return {clean(str(name)): _cleaned(one, clean) for name, one in value.items()}
        case list() | tuple():
            return [_cleaned(one, clean) for one in value]
        case _:
            return clean(str(value))


def _extras(record: logging.LogRecord) -> dict[str, object]:
    """What the caller passed as `extra=`: the ids of a job or a message. (Ray puts `_ray_timestamp_ns` into each.)"""
    own = (item for item in vars(record).items() if not item[0].startswith("_"))
    return {key: value for key, value in own if key not in _OWN_FIELDS}


def _ids() -> dict[str, object]:
    """Of the job that a handler is called for, and of the current span: `batch_` where the job's trace is another."""
    called, span = called_ids(), current_ids()
    if span is None:
        return {**called}
    named = {"trace_id": span[0], "span_id": span[1]}
    if called.get("trace_id", span[0]) != span[0]:
        named = {f"batch_{name}": value for name, value in named.items()}
    return {**called, **named}
