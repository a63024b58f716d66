"""The error family: few classes, each caught somewhere.

Edges translate foreign errors into these. Control flow never reads message text. Every message is one line
that says what is wrong, where, and what to do.
"""

from __future__ import annotations


class RabbitrayError(Exception):
    """Base of all errors of rabbitray. `exit_code` is what a command ends with when it meets one."""

    exit_code = 1


class ConfigurationError(RabbitrayError):
    """Something that the user set cannot work; raised before anything is consumed."""

    exit_code = 2


class HandlerLoadError(ConfigurationError):
    """The handler `module:attr` cannot be imported or has an unusable shape."""


class BrokerUnreachableError(ConfigurationError):
    """No AMQP connection could be made at start: host, port and time tried are in the message."""


class TopologyError(ConfigurationError):
    """An existing queue or exchange breaks a rule of the start-up checks."""


class StoreOpenError(ConfigurationError):
    """The results file cannot be used: locked (with the holder's pid), no DuckDB file, or another schema."""


class DecodeError(RabbitrayError):
    """A body cannot be read as a job. `reason` is a short stable code, e.g. `bad_msgpack`, `too_deep`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[DecodeError], tuple[str, str]]:
        return type(self), (self.reason, self.detail)


class EncodeError(RabbitrayError):
    """A job cannot be written in the wanted form, e.g. bytes in JSON; nothing was sent."""


class PublisherClosedError(RabbitrayError):
    """The publisher is closed, closing, or was never opened; nothing was sent."""


class PublisherFullError(RabbitrayError):
    """`submit` met the bound on unconfirmed messages or bytes; nothing was sent. Await `publish`, which waits."""


class PublishFailedError(RabbitrayError):
    """A publish that the broker did not confirm; subclasses say how certain that is."""


class UnroutableError(PublishFailedError):
    """The broker returned the message: no queue is bound for its routing key. Certain: it is in no queue."""


class RefusedError(PublishFailedError):
    """The broker nacked the message, e.g. a full queue with `reject-publish`. Certain: not accepted."""


class PublishTimeoutError(PublishFailedError):
    """No confirm within the time-out, e.g. a broker alarm. Ambiguous: it may still arrive."""


class UncertainError(PublishFailedError):
    """The connection was lost before the confirm and did not come back in time. Ambiguous."""


class StoreUnavailableError(RabbitrayError):
    """The store cannot commit now (disk full, restarting). Nothing was acknowledged; try again later."""


class PayloadLostError(RabbitrayError):
    """The rows of a part can no longer be fetched (their node died): those messages run again."""


class FencedError(RabbitrayError):
    """This router's epoch has ended: a later router registered. It must stop consuming, publishing, acking."""


class Retry(Exception):
    """Raised by a handler: run this job again, after at least `after_s` seconds (None: the ladder decides)."""

    def __init__(self, reason: str = "retry requested", *, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


class Reject(Exception):
    """Raised by a handler: this job can never succeed; it goes to the dead letters with `reason`."""


class QueryError(RabbitrayError):
    """A query was refused, failed or ran out of its time; the text is DuckDB's first line or our reason."""
