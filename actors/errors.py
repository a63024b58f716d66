"""The error family: few classes, each caught somewhere.

Edges translate foreign errors into these. Control flow never reads message text. Every message is one line
that says what is wrong, where, and what to do.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from rabbitray.actors.seconds import require_seconds, seconds_of

ERROR_TEXT_MOST: Final = 2_000
"""Characters that are kept of the text of an error."""
DETAIL_MOST: Final = 1_000


class RabbitrayError(Exception):
    """Base of all errors of rabbitray but what handlers raise. `exit_code`: what a command that meets one ends with."""

    exit_code = 1


class ConfigurationError(RabbitrayError):
    """A setting cannot work. Raised before anything is consumed or sent. Exit code 2."""

    exit_code = 2


class HandlerLoadError(ConfigurationError):
    """The handler or decoder `module:attr` cannot be imported or has an unusable shape."""


class BrokerUnreachableError(ConfigurationError):
    """No AMQP connection could be made at the start. The text says host, port and how long it was tried."""


class TopologyError(ConfigurationError):
    """A queue or exchange exists with arguments that would lose messages; nothing was changed."""


class StoreOpenError(ConfigurationError):
    """The results file cannot be used: another process holds it (the text says its pid), it is no DuckDB file, or it
    has another schema."""


class DecodeError(RabbitrayError):
    """A body cannot be read as a job. `reason`: a short code that stays the same, e.g. `bad_msgpack`, `too_deep`;
    `detail`: what is wrong, for people, cut to DETAIL_MOST characters: it may quote what a producer wrote."""

    def __init__(self, reason: str, detail: str) -> None:
        detail = detail[:DETAIL_MOST]
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[DecodeError], tuple[str, str]]:
        return type(self), (self.reason, self.detail)


class InvalidPayloadError(RabbitrayError):
    """A payload does not fit what the handler asks for by its annotation; the text says which field, by its path. It
    is never raised through a handler's code: the job is a dead letter with the reason `invalid_payload`."""


class EncodeError(RabbitrayError):
    """A job cannot be written in the wanted form, e.g. bytes in JSON, or is too large. Nothing was sent."""


class PublisherClosedError(RabbitrayError):
    """The publisher is closed, closing, or was never opened. Nothing was sent."""


class PublisherFullError(RabbitrayError):
    """`submit` met the bound on unconfirmed messages or bytes. Nothing was sent; `publish` waits instead."""


class PublishFailedError(RabbitrayError):
    """The broker did not confirm a message. Its subclasses say whether it may be in a queue all the same."""


class UnroutableError(PublishFailedError):
    """The broker returned the message: no queue is bound for its routing key. It is in no queue."""


class RefusedError(PublishFailedError):
    """The broker refused the message with a nack, e.g. a full queue with `reject-publish`. It is in no queue."""


class PublishTimeoutError(PublishFailedError):
    """No confirm within `confirm_timeout_s`, e.g. while a broker alarm blocks publishers. It may still arrive."""


class UncertainError(PublishFailedError):
    """The connection was lost before the confirm and did not come back in time. The message may be in a queue."""


class StoreUnavailableError(RabbitrayError):
    """The store cannot commit now (disk full, restarting). Nothing was stored or acked; try again later."""


class PayloadLostError(RabbitrayError):
    """The rows of a part can no longer be fetched (their node died): those messages run again."""


class FencedError(RabbitrayError):
    """This router's epoch has ended: a later router registered. It must stop consuming, publishing, acking."""


class Retry(Exception):
    """A handler raises it to have this job run again, at most `max_retries` times in all.

    `reason`: what the dead letter will say when no retry is left. `after_s`: seconds to wait at least, as a number or
    a timedelta; None takes the delay of the next retry queue. A wait below 0, such as a moment that has passed, is 0;
    one of more than 30 days is 30 days.

    Raises TypeError where `after_s` is no duration or `reason` is one; ValueError where `after_s` is not finite.
    """

    after_s: float | None = None  # a subclass may set its own, and need not call our `__init__`

    def __init__(self, reason: str = "retry requested", *, after_s: float | timedelta | None = None) -> None:
        if isinstance(reason, bool) or seconds_of(reason) is not None:
            raise TypeError(f"Retry({reason!r}): the reason is a text; seconds to wait are Retry(after_s={reason!r})")
        super().__init__(reason)
        if after_s is not None:
            self.after_s = max(0.0, require_seconds(after_s, "Retry(after_s=...)"))


class Reject(Exception):
    """A handler raises it when this job can never succeed: a dead letter at once, with its text as the error."""


class WorkerBroken(Exception):
    """A handler raises it when its worker cannot work any more: a CUDA context after an error, a licence that is gone.

    The worker is replaced. The job runs elsewhere, up to twice with no attempt charged; after that it is a failure like
    others, with the reason `worker_broken`. What else the worker had in hand runs elsewhere, too.
    """


class QueryError(RabbitrayError):
    """A query was refused, failed or took too long. The text is the first line of DuckDB's error, or our reason."""


def text_of(error: BaseException) -> str:
    """The text of an exception; one whose own `__str__` raises has none."""
    try:
        return str(error)
    except BaseException as broken:  # noqa: BLE001 # the user's code: what it raises here is told in the text
        return f"(its text cannot be read: {type(broken).__name__})"


def one_line(error: BaseException) -> str:
    """An exception as its class and its text, without line breaks."""
    return f"{type(error).__name__}: {' '.join(text_of(error).split())}"
