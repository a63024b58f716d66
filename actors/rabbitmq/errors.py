"""What AMQP errors mean: a loss that passes, a refusal that trying again cannot change, a cancellation not of ours."""

from __future__ import annotations

import asyncio

import aiormq
from aiormq.exceptions import AMQPError

from rabbitray.actors.secret import NO_SECRETS, Redactor, Secret

CONNECTION_ERRORS = (AMQPError, ConnectionError, OSError, RuntimeError, asyncio.TimeoutError)
"""What aio-pika and aiormq raise when a connection or channel is gone or cannot be made."""


def thrown_in(error: BaseException) -> bool:
    """Whether this CancelledError was thrown by aiormq, which does so when it gives a connection up (no heartbeat
    came): nobody has cancelled our task then."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() == 0


def is_loss(error: BaseException) -> bool:
    """Whether an error means that a connection or channel is gone, and not that our own task shall end."""
    return thrown_in(error) or isinstance(error, CONNECTION_ERRORS)


def describe(error: BaseException, redact: Redactor = NO_SECRETS) -> str:
    """An error in words, without credentials."""
    if isinstance(error, asyncio.CancelledError):
        return "the connection gave no sign of life any more"
    return redact(str(error)) or type(error).__name__


def address(url: Secret) -> str:
    """host:port/vhost of a broker URL, without user and password."""
    return url.reveal().rpartition("@")[2].rpartition("://")[2]


def refusal(error: BaseException, redact: Redactor = NO_SECRETS) -> str | None:
    """One sentence for errors that trying again cannot change: wrong credentials, missing vhost; else None."""
    text = redact(str(error))
    if isinstance(error, aiormq.exceptions.ProbableAuthenticationError) or "ACCESS_REFUSED" in text:
        return "login refused; check user and password in RABBITMQ_URL"
    if "NOT_ALLOWED" in text or "vhost" in text:
        return f"vhost refused ({text}); check the path of RABBITMQ_URL and the user's permissions"
    return None
