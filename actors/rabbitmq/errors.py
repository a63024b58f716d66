"""What AMQP errors mean: a loss that passes, a refusal that trying again cannot change, a cancellation not of ours.

One classification for all who connect: commands, publishers, the router, the depth probes. Who starts gives up at once
at a refusal; who ran already says it and goes on trying, for a password may be rotated under it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from typing import Final

import aiormq
from aiormq.exceptions import AMQPError

from rabbitray.actors.secret import NO_SECRETS, Redactor

CONNECTION_ERRORS = (AMQPError, ConnectionError, OSError, RuntimeError, asyncio.TimeoutError)
"""What aio-pika and aiormq raise when a connection or channel is gone or cannot be made."""

_NOT_ALLOWED: Final = 530
_PASSING_TLS: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_OTHER_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"})
"""OpenSSL's reasons where what came is no TLS at all."""


class NotAmqpError(aiormq.exceptions.IncompatibleProtocolError):
    """What answers at the address does not speak AMQP 0-9-1; the text says what it may be."""


class NoAddressError(ConnectionError):
    """None of several addresses could be connected to; `failures`: host:port/vhost of each, and its error."""

    def __init__(self, failures: Sequence[tuple[str, BaseException]]) -> None:
        super().__init__(f"none of {len(failures)} addresses")
        self.failures = tuple(failures)


def thrown_in(error: BaseException) -> bool:
    """Whether this CancelledError was thrown by aiormq, which does so when it gives a connection up (no heartbeat
    came): nobody has cancelled our task then."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() == 0


def is_loss(error: BaseException) -> bool:
    """Whether an error means that a connection or channel is gone, and not that our own task shall end."""
    return thrown_in(error) or isinstance(error, CONNECTION_ERRORS)


def describe(error: BaseException, redact: Redactor = NO_SECRETS) -> str:
    """An error in words, without credentials; what to do about it, where trying again cannot change it."""
    if isinstance(error, NoAddressError):
        return "; ".join(f"{where}: {describe(one, redact)}" for where, one in error.failures)
    if isinstance(error, asyncio.CancelledError):
        return "the connection gave no sign of life any more"
    silent = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
    return refusal(error, redact) or redact(_said(error)) or silent


def refusal(error: BaseException, redact: Redactor = NO_SECRETS) -> str | None:
    """One sentence for what trying again cannot change, with what was said and what to do; None for what may pass.

    Refused for good: login, vhost, a right on a queue, a certificate, TLS where none is spoken and the reverse, files
    of certificates that cannot be read. May pass: nobody listens, no answer, a lost connection, a limit that is met.
    Of several addresses all must have refused.
    """
    if isinstance(error, NoAddressError):
        final = all(refusal(one, redact) for _, one in error.failures)
        return describe(error, redact) if final else None
    said = redact(_said(error))
    if isinstance(error, aiormq.exceptions.ChannelAccessRefused):
        return f"this user lacks a right (RabbitMQ: {said}); docs/security.md names those that are needed"
    if isinstance(error, aiormq.exceptions.AMQPChannelError):
        return None
    if isinstance(error, aiormq.exceptions.ProbableAuthenticationError) or "ACCESS_REFUSED" in said:
        return f"login refused; check user and password in RABBITMQ_URL (RabbitMQ: {said})"
    if isinstance(error, aiormq.exceptions.AuthenticationError):
        return "login refused: RabbitMQ offers none of the mechanisms that we know; check `auth` in RABBITMQ_URL"
    if _code(error) == _NOT_ALLOWED:
        passes = "limit" in said and "reached" in said
        return None if passes else f"vhost refused ({said}); check the path of RABBITMQ_URL and the user's permissions"
    if isinstance(error, NotAmqpError):
        return said
    return _tls_refusal(error, redact)


def _tls_refusal(error: BaseException, redact: Redactor) -> str | None:
    """The same for what TLS says, and for the files that the URL names for it."""
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):  # of a socket they come as a cause
        return f"a file of RABBITMQ_URL (cafile, certfile, keyfile) cannot be read: {error.strerror or error}"
    if isinstance(error, ssl.SSLError) and not isinstance(error, (ssl.SSLCertVerificationError, *_PASSING_TLS)):
        return (
            f"a file of RABBITMQ_URL (cafile, certfile, keyfile) is no certificate or key of it: {redact(str(error))}"
        )
    found = next((one for one in _causes(error) if isinstance(one, ssl.SSLError)), None)
    if found is None or isinstance(found, _PASSING_TLS):
        return None
    if isinstance(found, ssl.SSLCertVerificationError):
        return (
            f"the broker's certificate is refused: {found.verify_message or found}; check the host in RABBITMQ_URL and "
            "its cafile (the CA that signed the certificate)"
        )
    reason = getattr(found, "reason", None) or str(found)
    if reason in _OTHER_TLS:
        return "no TLS is spoken there; write amqp://, or the broker's TLS port (5671)"
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return f"the broker refuses our certificate ({reason}); check certfile and keyfile in RABBITMQ_URL"
    return f"no TLS connection can be agreed on ({reason}); check what the broker's TLS listener allows"


def _said(error: BaseException) -> str:
    """The words of an error alone; aiormq hands on the arguments of an OSError, number and all."""
    if isinstance(error, AMQPError) and len(error.args) == 2 and isinstance(error.args[0], int):
        return str(error.args[1])
    return str(error)


def _code(error: BaseException) -> int | None:
    """RabbitMQ's number for why it closed a connection."""
    if isinstance(error, aiormq.exceptions.ConnectionNotAllowed):
        return _NOT_ALLOWED
    if isinstance(error, aiormq.exceptions.ConnectionClosed) and error.args and isinstance(error.args[0], int):
        return error.args[0]
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it was raised from."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__
